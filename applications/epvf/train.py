"""``python -m applications.epvf.train``: trains, and leaves a run directory."""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from applications.envs import resolve_physics
from applications.epvf.algorithm import EPVF, State
from applications.epvf.config import Config
from applications.rollout import own_copy
from applications.runs import (
    evaluate_policy,
    exit_on_user_error,
    expect_losses,
    fixed,
    Interrupt,
    is_main,
    key_for,
    load_state,
    loop,
    make_task,
    new_directory,
    on_all,
    on_main,
    parse_settings,
    plot_returns,
    Progress,
    Purpose,
    recorded,
    Run,
    save_policy,
    share,
    share_arrays,
)


_PROG = "python -m applications.epvf.train"


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    with Interrupt() as interrupt, contextlib.ExitStack() as stack:
        config, resumed = parse_settings(Config, arguments, prog=_PROG)
        # Results belong to an engine: a run keeps the one that it began with.
        physics = share(resolve_physics(config.physics))
        config = dataclasses.replace(config, physics=physics)
        task = on_all(lambda: make_task(config, as_trained=True))
        algorithm = EPVF(task, config)
        key = key_for(config.seed, Purpose.TRAIN)
        state = eqx.filter_jit(lambda key: algorithm.init(key=key))(key)
        opened = on_main(lambda: _open(resumed, state, config, stack))
        run, state, progress = opened or (None, state, Progress())
        state = share_arrays(state)
        progress = Progress(**share(dataclasses.asdict(progress)))
        directory = share(None if run is None else str(run.directory))
        expect_losses(config, directory)
        if is_main():
            _introduce(algorithm, state, progress)

        def save(state: State) -> None:
            assert run is not None
            save_policy(run, config, algorithm.policy(own_copy(state)))

        state, progress, rows = loop(
            run,
            algorithm.compile,
            state,
            progress,
            iterations=config.iterations,
            checkpoint_every=config.checkpoint_every,
            config=fixed(config),
            save=save,
            describe=_describe,
            must_be_finite=("critic_loss", "weight_norm"),
            interrupt=interrupt,
        )
        if run is not None:
            _finish(run, algorithm, own_copy(state), progress, rows)
    return 0


def _open(
    resumed: Run | None, state: State, config: Config, stack: contextlib.ExitStack
) -> tuple[Run, State, Progress]:
    """The run's directory, kept from others, and where the run stands."""
    if resumed is not None:
        stack.enter_context(resumed.locked())
        return resumed, *load_state(resumed, state, config, "iterations")
    directory = config.run_dir or new_directory(Path("runs") / "epvf", config)
    run = Run.create(directory, recorded(config))
    stack.enter_context(run.locked())
    return run, state, Progress()


def _finish(
    run: Run, algorithm: EPVF, state: State, progress: Progress, rows: list[Any]
) -> None:
    """Draws the run and, once it is done, evaluates its policy."""
    config = algorithm.config
    title = f"EPVF on {config.env}, {config.num_envs} environments"
    if rows:
        plot_returns(rows, run.plot, title=title)
    if progress.iteration < config.iterations:
        print(
            f"Stopped after iteration {progress.iteration}. Go on with: "
            f"{_PROG} --resume {run.directory}"
        )
        return
    evaluate_policy(run, config, algorithm.policy(state))


def _introduce(algorithm: EPVF, state: State, progress: Progress) -> None:
    """Says what follows from the settings, before the compiler is let loose."""
    config = algorithm.config
    count, size = state.policies.shape
    critic = sum(
        leaf.size for leaf in jax.tree.leaves(eqx.filter(state.value, eqx.is_array))
    )
    print(
        f"{config.env}: {count} {'policy' if count == 1 else 'policies'} of {size} "
        f"weights, critic ({config.representation}) of {critic:,}, "
        f"{config.num_envs} environments, archive of {state.archive.capacity}, "
        f"on {_machines()}.",
        flush=True,
    )
    if progress.iteration < config.iterations:
        print("Compiling ...", flush=True)


def _machines() -> str:
    platform, devices = jax.devices()[0].platform, jax.device_count()
    several = platform if devices == 1 else f"{devices} {platform} devices"
    processes = jax.process_count()
    return several if processes == 1 else f"{several} of {processes} processes"


def _describe(row: dict) -> str:
    def show(name: str, pattern: str) -> str:
        return "-" if row[name] is None else format(row[name], pattern)

    return (
        f"return {show('return_policy', '.1f')}  "
        f"perturbed {show('return_perturbed_mean', '.1f')} "
        f"(max {show('return_perturbed_max', '.1f')})  "
        f"correlation {show('critic_correlation', '+.2f')}  "
        f"{show('steps_per_second', ',.0f')} steps/s"
    )


if __name__ == "__main__":
    sys.exit(main())
