"""Metrics of trainers that have a loop of their own."""

import time
from collections.abc import Callable
from typing import Any, final

from applications.training import Interrupt, MetricsLog, ProgressLine, Run


class Stopped(Exception):
    """The user has asked to stop; ends a library's loop from its callback."""


@final
class Recorder:
    """Writes a row each time that a library calls back."""

    def __init__(
        self,
        run: Run,
        steps: int,
        describe: Callable[[dict[str, Any]], str],
        interrupt: Interrupt,
    ):
        """Prepares the record; seconds count from here.

        Args:
            run: Where it is written.
            steps: Control steps of the whole run.
            describe: What the progress line says of a row.
            interrupt: Asked after each row.
        """
        self._log = MetricsLog(run.directory, 0)
        self._line = ProgressLine(0, steps, describe, counted="env_steps")
        self._interrupt = interrupt
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._steps = 0

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What has been written."""
        return self._log.rows

    def __enter__(self) -> "Recorder":
        self._log.__enter__()
        self._line.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._line.__exit__(*exception)
        self._log.__exit__(*exception)

    def add(self, env_steps: int, metrics: dict[str, float]) -> None:
        """Writes a row.

        Args:
            env_steps: Control steps so far.
            metrics: Numbers by name, beside those of time.

        Raises:
            Stopped: If the user has asked to stop.
        """
        now = time.perf_counter() - self._began
        # A row before the first step has the number 0.
        first = 0 if env_steps == 0 else 1
        done, passed = env_steps - self._steps, now - self._seconds
        self._log.append(
            {
                "iteration": self.rows[-1]["iteration"] + 1 if self.rows else first,
                "env_steps": env_steps,
                **metrics,
                "steps_per_second": done / passed,
                # Inside the first iteration; libraries do not say how much.
                "compile_seconds": None,
                "seconds": now,
            }
        )
        self._steps, self._seconds = env_steps, now
        self._line.update(self.rows[-1])
        if self._interrupt.requested:
            raise Stopped
