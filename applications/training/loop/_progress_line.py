import time
from collections.abc import Callable
from typing import Any, final

from applications.training.loop._stop import StopRule
from applications.training.storage import Progress, Row


def shown(row: Row, name: str, pattern: str) -> str:
    """A metric as the progress line has it.

    Args:
        row: Metrics of an iteration.
        name: Which of them.
        pattern: How to format it.

    Returns:
        The formatted number, or a dash where there is none.
    """
    value = row.get(name)
    return "-" if value is None else format(value, pattern)


@final
class ProgressLine:
    """A sink that shows one live line on a terminal; elsewhere a line now and then.

    Bar, count and the time that remains come first. The text of a row has what room is
    left, and is cut off at the edge of a narrow terminal.
    """

    def __init__(
        self,
        progress: Progress,
        stop: StopRule,
        format_row: Callable[[Row], str],
        *,
        seconds_between_lines: float = 1.0,
    ):
        """Prepares the line.

        Args:
            progress: How far the run is.
            stop: When it ends.
            format_row: Text of a row.
            seconds_between_lines: Plain lines come no faster than that.
        """
        self._format_row = format_row
        self._done = stop.done(progress)
        self._stop = stop
        self._pause = seconds_between_lines
        self._last_line = -float("inf")
        self._bar: Any = None

    def __enter__(self) -> "ProgressLine":
        # Slow to import.
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        console = Console()
        if console.is_terminal:
            self._bar = progress.Progress(
                progress.BarColumn(bar_width=16),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(compact=True),
                progress.TextColumn(
                    "{task.description}",
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                console=console,
                expand=True,
            )
            total = self._stop.count
            self._task = self._bar.add_task("", total=total, completed=self._done)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def write(self, row: Row) -> None:
        """Shows a row."""
        total = self._stop.count
        done = min(row[self._stop.column], total)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, description=self._format_row(row)
            )
            return
        now = time.monotonic()
        if now - self._last_line >= self._pause or done == total:
            self._last_line = now
            print(f"{done}/{total}  {self._format_row(row)}", flush=True)
