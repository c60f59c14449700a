"""Metrics of trainers that have a loop of their own."""

import contextlib
import time
from collections.abc import Callable
from typing import Any, final

from applications.training import (
    Interrupt,
    make_row,
    MetricsLog,
    Progress,
    ProgressLine,
    Row,
    Run,
    StopRule,
    TensorBoard,
)


class Stopped(Exception):
    """The user has asked to stop; ends a library's loop from its callback."""


@final
class Recorder:
    """Writes a row each time that a library calls back."""

    def __init__(
        self,
        run: Run,
        steps: int,
        format_row: Callable[[Row], str],
        interrupt: Interrupt,
    ):
        """Prepares the record; seconds count from here.

        Args:
            run: Where it is written.
            steps: Control steps of the whole run.
            format_row: What the progress line says of a row.
            interrupt: Asked after each row.
        """
        self._progress = Progress()
        self._log = MetricsLog(run.directory, 0)
        stop = StopRule(steps, "steps")
        self._sinks = (
            TensorBoard(run.directory, 0, settings=run.manifest.settings),
            ProgressLine(self._progress, stop, format_row),
        )
        self._interrupt = interrupt
        self._began = time.perf_counter()

    def __enter__(self) -> "Recorder":
        with contextlib.ExitStack() as stack:
            for one in (self._log, *self._sinks):
                stack.enter_context(one)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def add(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Writes a row.

        Args:
            env_steps: Control steps so far.
            metrics: Numbers by name, beside those of time.

        Raises:
            Stopped: If the user has asked to stop.
        """
        before, seconds = self._progress, time.perf_counter() - self._began
        # A row before the first step has the number 0.
        iteration = before.iteration + 1 if env_steps > 0 else 0
        self._progress = Progress(iteration, env_steps, seconds)
        row = make_row(
            self._progress,
            metrics,
            steps_per_second=(env_steps - before.env_steps)
            / (seconds - before.seconds),
            # Inside the first iteration; libraries do not say how much.
            compile_seconds=None,
        )
        written = self._log.write(row)
        for sink in self._sinks:
            sink.write(written)
        if self._interrupt.requested:
            raise Stopped
