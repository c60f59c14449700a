import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from applications.settings import UserError
from applications.training.loop._interrupt import Interrupt
from applications.training.loop._sink import make_row, Sink
from applications.training.loop._stop import StopRule
from applications.training.processes import any_process, check_same, on_all, on_main
from applications.training.storage import (
    diverged,
    MetricsLog,
    Progress,
    Row,
    Run,
    save_checkpoint,
)


State = TypeVar("State")
# Beyond, squares are not finite in single precision: optimisers stand still for good.
_LARGEST = 1e18


def loop(
    run: Run | None,
    compile: Callable[[State], Callable[[State], tuple[State, dict[str, Any]]]],
    state: State,
    progress: Progress,
    *,
    stop: StopRule,
    checkpoint_every: int,
    settings: dict[str, Any],
    save: Callable[[State], None],
    must_be_finite: tuple[str, ...],
    interrupt: Interrupt,
    sinks: Sequence[Sink] = (),
) -> tuple[State, Progress]:
    """Repeats an algorithm's iteration, with metrics and checkpoints.

    Args:
        run: Where everything is written; None in a process that writes nothing.
        compile: From a state to one iteration: a function from a state, whose buffers
            it may use up, to the next and metrics, scalars by name. One of them is
            `env_steps`, the control steps of this iteration.
        state: Where to start from.
        progress: How far the run is with that state.
        stop: When it ends.
        checkpoint_every: Iterations from one checkpoint to the next.
        settings: The settings that checkpoints carry.
        save: Writes what the run leaves besides checkpoints.
        must_be_finite: Metrics without which going on is pointless, whose squares must
            be finite too.
        interrupt: Asked after each iteration. One process's is enough.
        sinks: Receive the rows too, in the process that writes.

    Returns:
        The last state and how far it is.

    Raises:
        UserError: If one of the metrics that must be finite is not, or a number of a
            state that is to be kept.
        OSError: If something cannot be written.
        CollectiveStop: Instead of both, if there are several processes.
    """
    with contextlib.ExitStack() as stack:

        def open_log(run: Run) -> MetricsLog:
            log = MetricsLog(
                run.directory,
                progress.iteration,
                size=progress.metrics_size,
                sha256=progress.metrics_sha256,
            )
            stack.enter_context(log)
            if log.note is not None:
                print(log.note, file=sys.stderr)
            for sink in sinks:
                stack.enter_context(sink)
            return log

        log = on_all(lambda: None if run is None else open_log(run))

        def record(row: Row) -> None:
            if log is not None:
                written = log.write(row)
                for sink in sinks:
                    sink.write(written)
            _check_finite(row, must_be_finite, run)

        def checkpoint() -> None:
            check_same(state)
            on_main(write)

        def write() -> None:
            assert run is not None and log is not None
            size, sha256 = log.sync()
            saved = dataclasses.replace(
                progress, metrics_size=size, metrics_sha256=sha256
            )
            save_checkpoint(run.checkpoints, state, saved, settings)
            save(state)

        if stop.reached(progress):
            on_main(lambda: save(state))
            return state, progress
        began, seconds_before = time.perf_counter(), progress.seconds
        step = compile(state)
        compile_seconds = time.perf_counter() - began
        saved = None
        while not stop.reached(progress):
            if any_process(interrupt.requested):
                break
            iteration_began = time.perf_counter()
            state, metrics = step(state)
            metrics = {name: value.item() for name, value in metrics.items()}
            now = time.perf_counter()
            env_steps = metrics.pop("env_steps")
            progress = Progress(
                progress.iteration + 1,
                progress.env_steps + env_steps,
                seconds_before + now - began,
            )
            row = make_row(
                progress,
                metrics,
                steps_per_second=env_steps / (now - iteration_began),
                compile_seconds=compile_seconds,
            )
            compile_seconds = 0.0
            on_all(functools.partial(record, row))
            if progress.iteration % checkpoint_every == 0:
                checkpoint()
                saved = progress
        if saved != progress:
            checkpoint()
        return state, progress


def _check_finite(row: Row, names: tuple[str, ...], run: Run | None) -> None:
    for name in names:
        # The comparison is false with NaN.
        if not abs(row[name]) < _LARGEST:
            what = f"{name} of iteration {row['iteration']}, {row[name]:g},"
            # Other processes say nothing of it.
            raise UserError(what if run is None else diverged(what, run.checkpoints))
