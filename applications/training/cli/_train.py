"""From settings to a trained policy, for the algorithms that our loop drives."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax

from applications.envs import AbstractEnvironment, resolve_physics
from applications.rollout import own_copy
from applications.search import AbstractSearch
from applications.training.cli._commands import resume_command
from applications.training.cli._modes import check_jax_modes
from applications.training.cli._parse import load_state, new_directory
from applications.training.cli._policy import evaluate_policy, save_policy
from applications.training.cli._settings import checkpoint_settings, RunSettings
from applications.training.loop import (
    Interrupt,
    key_for,
    Limit,
    loop,
    ProgressLine,
    Purpose,
    shown,
    StopRule,
    TensorBoard,
)
from applications.training.plots import plot_returns
from applications.training.processes import (
    arm_peer_failure_message,
    broadcast,
    broadcast_arrays,
    is_main,
    on_all,
    on_main,
)
from applications.training.storage import iterate_rows, Progress, Row, Run


Config = TypeVar("Config")
Search = TypeVar("Search", bound=AbstractSearch)


def train(
    make_search: Callable[[AbstractEnvironment, Config], Search],
    settings: RunSettings[Config],
    *,
    resumed: Run | None = None,
    limit: Limit = "iterations",
    parent: Path | None = None,
    summarise_start: Callable[[Search, Any], str] = lambda search, state: "training",
    format_row: Callable[[Row], str] | None = None,
    must_be_finite: tuple[str, ...] = (),
    on_save: Callable[[Run, Search, Any], None] | None = None,
) -> tuple[Run, Search, Any] | None:
    """Trains, alone or with other processes, and leaves a run directory.

    Args:
        make_search: From a task and the algorithm's settings to the algorithm; a class
            such as `EPVF`.
        settings: Settings of the run.
        resumed: The run to continue, in the first process.
        limit: The algorithm's setting that says how long the run is.
        parent: Where a run goes that was given no directory; `runs` and the
            algorithm's name unless given.
        summarise_start: What to say of algorithm and state before compilation.
        format_row: What the progress line says of a row.
        must_be_finite: Metrics without which going on is pointless.
        on_save: Writes what a run leaves beside its policy, whenever that is written.

    Returns:
        Run, algorithm and last state, in the first process, if the run is done and its
        policy evaluated; None if it was stopped before.

    Raises:
        UserError: If the settings cannot be used, or training goes astray.
        CollectiveStop: Instead of it, if there are several processes.
    """
    check_jax_modes()
    settings = _resolved(settings)
    launch = settings.launch
    with contextlib.ExitStack() as stack:
        # Until everything is kept; to stop what comes after that loses nothing.
        with Interrupt() as interrupt:
            task = on_all(lambda: settings.task.make(as_trained=True))
            search = on_all(lambda: make_search(task, settings.algorithm))
            key = key_for(launch.seed, Purpose.TRAIN)
            state = search.begin(key=key)

            def begin() -> tuple[Run, Any, Progress]:
                """The run's directory, kept from others, and where the run stands."""
                if resumed is not None:
                    stack.enter_context(resumed.locked())
                    return resumed, *load_state(resumed, state, settings, limit)
                place = parent or Path("runs") / settings.name
                directory = launch.run_dir or new_directory(settings, place)
                run = Run.create(directory, settings.manifest)
                stack.enter_context(run.locked())
                return run, state, Progress()

            run, state, progress = on_main(begin) or (None, state, Progress())
            state = broadcast_arrays(state)
            progress = Progress(**broadcast(dataclasses.asdict(progress)))
            directory = broadcast(None if run is None else str(run.directory))
            arm_peer_failure_message(launch.heartbeat, directory)
            stop = StopRule(getattr(settings.algorithm, limit), limit)
            if is_main():
                said = summarise_start(search, state)
                print(f"{settings.task.env}: {said}, on {_machines()}.", flush=True)
                if not stop.reached(progress):
                    print("Compiling ...", flush=True)

            def save(state: Any) -> None:
                assert run is not None
                state = own_copy(state)
                save_policy(run, settings, search.policy(state))
                if on_save is not None:
                    on_save(run, search, state)

            sinks = []
            if run is not None:
                board = TensorBoard(
                    run.directory, progress.env_steps, settings=settings.to_json()
                )
                sinks.append(board)
                sinks.append(ProgressLine(progress, stop, format_row or _format_row))
            state, progress = loop(
                run,
                search.compile,
                state,
                progress,
                stop=stop,
                checkpoint_every=launch.checkpoint_every,
                settings=checkpoint_settings(settings.to_json()),
                save=save,
                must_be_finite=must_be_finite,
                interrupt=interrupt,
                sinks=sinks,
            )
        if run is None:
            return None
        title = f"{settings.name} on {settings.task.env}"
        plot_returns(iterate_rows(run.metrics), run.plot, title=title)
        if interrupt.requested or not stop.reached(progress):
            print(
                f"Stopped after iteration {progress.iteration}. Go on with: "
                f"{resume_command(settings.name, run.directory)}"
            )
            return None
        state = own_copy(state)
        evaluate_policy(run, settings, search.policy(state))
        return run, search, state


def _resolved(settings: RunSettings[Config]) -> RunSettings[Config]:
    """Results belong to an engine: a run keeps the one that it began with."""
    physics = broadcast(resolve_physics(settings.task.physics))
    task = dataclasses.replace(settings.task, physics=physics)
    return dataclasses.replace(settings, task=task)


def _format_row(row: Row) -> str:
    return (
        f"return {shown(row, 'return_policy', '.1f')}  "
        f"perturbed {shown(row, 'return_perturbed_mean', '.1f')}  "
        f"{shown(row, 'steps_per_second', ',.0f')} steps/s"
    )


def _machines() -> str:
    platform, devices = jax.devices()[0].platform, jax.device_count()
    several = platform if devices == 1 else f"{devices} {platform} devices"
    processes = jax.process_count()
    return several if processes == 1 else f"{several} of {processes} processes"
