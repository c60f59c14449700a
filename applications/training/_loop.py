import contextlib
import functools
import math
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from applications.settings import UserError
from applications.training._checkpoint import Progress, save_checkpoint
from applications.training._metrics import MetricsLog, Row
from applications.training._processes import any_process, check_same, on_all, on_main
from applications.training._progress import ProgressLine
from applications.training._run import Run


State = TypeVar("State")


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request; the second one ends at once."""

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "Interrupt":
        self._before = {
            number: signal.signal(number, self._request)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print(
            "Stopping after this iteration; once more to stop at once.",
            file=sys.stderr,
            flush=True,
        )


def loop(
    run: Run | None,
    compile: Callable[[State], Callable[[State], tuple[State, dict[str, Any]]]],
    state: State,
    progress: Progress,
    *,
    iterations: int | None = None,
    steps: int | None = None,
    checkpoint_every: int,
    config: dict[str, Any],
    save: Callable[[State], None],
    describe: Callable[[Row], str],
    must_be_finite: tuple[str, ...],
    interrupt: Interrupt,
) -> tuple[State, Progress, list[Row]]:
    """Repeats an algorithm's step; logs, checkpoints, shows how it goes.

    Args:
        run: Where everything is written; None in a process that writes nothing.
        compile: From a state to one iteration: a function from a state, whose buffers
            it may use up, to the next and metrics, scalars by name. One of them is
            `env_steps`, the control steps of this iteration.
        state: Where to start from.
        progress: How far the run is with that state.
        iterations: Iterations of the whole run.
        steps: Instead of them, control steps after which the run ends.
        checkpoint_every: Iterations from one checkpoint to the next.
        config: The settings that checkpoints carry.
        save: Writes what the run leaves besides checkpoints.
        describe: What the progress line says of a row.
        must_be_finite: Metrics without which going on is pointless.
        interrupt: Asked after each iteration. One process's is enough.

    Returns:
        The last state, how far it is, and all rows of the run.

    Raises:
        UserError: If one of the metrics that must be finite is not.
        OSError: If something cannot be written.
        AllStop: Instead of both, if there are several processes.
    """
    counted = "iteration" if steps is None else "env_steps"
    total = iterations if steps is None else steps
    assert total is not None

    def done() -> int:
        return getattr(progress, counted)

    with contextlib.ExitStack() as stack:

        def open_logs(run: Run) -> tuple[MetricsLog, ProgressLine]:
            return (
                stack.enter_context(MetricsLog(run.directory, progress.iteration)),
                stack.enter_context(
                    ProgressLine(done(), total, describe, counted=counted)
                ),
            )

        logs = on_all(lambda: None if run is None else open_logs(run))

        def record(row: Row) -> None:
            if logs is not None:
                log, line = logs
                log.append(row)
                line.update(log.rows[-1])
            _check_finite(row, must_be_finite)

        def checkpoint() -> None:
            check_same(state)
            on_main(write)

        def write() -> None:
            assert run is not None and logs is not None
            logs[0].sync()
            save_checkpoint(run.checkpoints, state, progress, config)
            save(state)

        def rows() -> list[Row]:
            return [] if logs is None else logs[0].rows

        if done() >= total:
            on_main(lambda: save(state))
            return state, progress, rows()
        began, seconds_before = time.perf_counter(), progress.seconds
        step = compile(state)
        compile_seconds = time.perf_counter() - began
        saved = None
        while done() < total:
            if any_process(interrupt.requested):
                break
            iteration_began = time.perf_counter()
            state, metrics = step(state)
            metrics = {name: value.item() for name, value in metrics.items()}
            now = time.perf_counter()
            seconds = now - iteration_began
            env_steps = metrics.pop("env_steps")
            progress = Progress(
                progress.iteration + 1,
                progress.env_steps + env_steps,
                seconds_before + now - began,
            )
            row = {
                "iteration": progress.iteration,
                "env_steps": progress.env_steps,
                **metrics,
                "steps_per_second": env_steps / seconds,
                "compile_seconds": compile_seconds,
                "seconds": progress.seconds,
            }
            compile_seconds = 0.0
            on_all(functools.partial(record, row))
            if progress.iteration % checkpoint_every == 0:
                checkpoint()
                saved = progress
        if saved != progress:
            checkpoint()
        return state, progress, rows()


def _check_finite(row: Row, names: tuple[str, ...]) -> None:
    for name in names:
        if not math.isfinite(row[name]):
            raise UserError(
                f"{name} is not finite any more at iteration {row['iteration']}: the "
                "learning rates are too high or the weights are not clipped. The "
                "checkpoints from before are kept."
            )
