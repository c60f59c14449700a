import os
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from applications.training._metrics import Row


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


class ProgressLine:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(
        self,
        done: int,
        total: int,
        describe: Callable[[Row], str],
        *,
        counted: str = "iteration",
        seconds_between_lines: float = 1.0,
    ):
        """Prepares the line.

        Args:
            done: Iterations done already, or what else is counted.
            total: Those of the whole run.
            describe: What to say of an iteration's row.
            counted: Column of a row that says how many are done.
            seconds_between_lines: Plain lines come no faster than that.
        """
        self._describe = describe
        self._counted = counted
        self._total = total
        self._pause = seconds_between_lines
        self._last_line = -float("inf")
        self._console = Console()
        self._bar = None
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=total, completed=done)

    def __enter__(self) -> "ProgressLine":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, row: Row) -> None:
        """Shows an iteration.

        Args:
            row: Its metrics.
        """
        done = min(row[self._counted], self._total)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, description=self._describe(row)
            )
            return
        now = time.monotonic()
        if now - self._last_line >= self._pause or done == self._total:
            self._last_line = now
            try:
                print(f"{done}/{self._total}  {self._describe(row)}", flush=True)
            except BrokenPipeError:
                # Nobody reads any more, as after `| head`. The run goes on.
                sys.stdout = open(os.devnull, "w")
