"""From a command line to a trained policy, for the algorithms that our loop drives."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax

from applications.envs import AbstractEnvironment, resolve_physics
from applications.rollout import own_copy
from applications.search import AbstractPolicySearch
from applications.training._checkpoint import Progress
from applications.training._command import (
    fixed,
    load_state,
    new_directory,
    parse_settings,
    recorded,
)
from applications.training._joining import expect_losses
from applications.training._keys import key_for, Purpose
from applications.training._loop import Interrupt, loop
from applications.training._metrics import Row
from applications.training._plot import plot_returns
from applications.training._processes import (
    is_main,
    on_all,
    on_main,
    share,
    share_arrays,
)
from applications.training._run import Run
from applications.training._settings import RunSettings
from applications.training._task import evaluate_policy, make_task, save_policy


Settings = TypeVar("Settings", bound=RunSettings)


Trained = TypeVar("Trained", bound=AbstractPolicySearch)


def train(
    name: str,
    kind: type[Settings],
    make_algorithm: Callable[[AbstractEnvironment, Settings], Trained],
    arguments: Sequence[str] | None,
    *,
    introduce: Callable[[Trained, Any], str],
    describe: Callable[[Row], str],
    must_be_finite: tuple[str, ...],
    keep: Callable[[Run, Trained, Any], None] | None = None,
) -> tuple[Run, Trained, Any] | None:
    """Trains as a command line says, alone or with other processes.

    Args:
        name: The algorithm's name; in lower case that of its package.
        kind: Dataclass of its settings.
        make_algorithm: From a task and settings to the algorithm.
        arguments: The command line; the program's own unless given.
        introduce: What to say of algorithm and state before compilation.
        describe: What the progress line says of a row.
        must_be_finite: Metrics without which going on is pointless.
        keep: Writes what a run leaves beside its policy, whenever that is written.

    Returns:
        Run, algorithm and last state, in the first process, if the run is done and its
        policy evaluated; None if it was stopped before.

    Raises:
        UserError: If the command line cannot be used, or training goes astray.
    """
    package = name.lower()
    prog = f"python -m applications.{package}.train"
    with Interrupt() as interrupt, contextlib.ExitStack() as stack:
        config, resumed = parse_settings(kind, arguments, prog=prog)
        # Results belong to an engine: a run keeps the one that it began with.
        physics = share(resolve_physics(config.physics))
        asked = dataclasses.replace(config, physics=physics)
        task = on_all(lambda: make_task(asked, as_trained=True))
        algorithm = on_all(lambda: make_algorithm(task, asked))
        config = algorithm.config
        key = key_for(config.seed, Purpose.TRAIN)
        state = eqx.filter_jit(lambda key: algorithm.init(key=key))(key)

        def begin() -> tuple[Run, Any, Progress]:
            """The run's directory, kept from others, and where the run stands."""
            if resumed is not None:
                stack.enter_context(resumed.locked())
                return resumed, *load_state(resumed, state, config, "iterations")
            parent = Path("runs") / package
            directory = config.run_dir or new_directory(parent, config)
            run = Run.create(directory, recorded(config))
            stack.enter_context(run.locked())
            return run, state, Progress()

        run, state, progress = on_main(begin) or (None, state, Progress())
        state = share_arrays(state)
        progress = Progress(**share(dataclasses.asdict(progress)))
        directory = share(None if run is None else str(run.directory))
        expect_losses(config, directory)
        if is_main():
            print(f"{introduce(algorithm, state)}, on {_machines()}.", flush=True)
            if progress.iteration < config.iterations:
                print("Compiling ...", flush=True)

        def save(state: Any) -> None:
            assert run is not None
            state = own_copy(state)
            save_policy(run, config, algorithm.policy(state))
            if keep is not None:
                keep(run, algorithm, state)

        state, progress, rows = loop(
            run,
            algorithm.compile,
            state,
            progress,
            iterations=config.iterations,
            checkpoint_every=config.checkpoint_every,
            config=fixed(config),
            save=save,
            describe=describe,
            must_be_finite=must_be_finite,
            interrupt=interrupt,
        )
        if run is None:
            return None
        if rows:
            title = f"{name} on {config.env}, {config.num_envs} environments"
            plot_returns(rows, run.plot, title=title)
        if progress.iteration < config.iterations:
            print(
                f"Stopped after iteration {progress.iteration}. Go on with: "
                f"{prog} --resume {run.directory}"
            )
            return None
        state = own_copy(state)
        evaluate_policy(run, config, algorithm.policy(state))
        return run, algorithm, state


def _machines() -> str:
    platform, devices = jax.devices()[0].platform, jax.device_count()
    several = platform if devices == 1 else f"{devices} {platform} devices"
    processes = jax.process_count()
    return several if processes == 1 else f"{several} of {processes} processes"
