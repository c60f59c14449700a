"""``python -m applications.epvf.train``: trains, and leaves a run directory."""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from applications.envs import AbstractEnvironment, make, resolve_physics
from applications.epvf.algorithm import EPVF, State
from applications.epvf.config import Config
from applications.policy import write_policy
from applications.rollout import evaluate
from applications.runs import (
    EVALUATION_EPISODES,
    exit_on_user_error,
    fixed,
    Interrupt,
    key_for,
    load_checkpoint,
    loop,
    new_directory,
    parse_settings,
    plot_returns,
    Progress,
    Purpose,
    Run,
    settings_from_json,
    settings_to_json,
    UserError,
    write_atomically,
    write_evaluation,
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
        config, run = parse_settings(Config, arguments, prog=_PROG)
        # Results belong to an engine: a run keeps the one that it began with.
        config = dataclasses.replace(config, physics=resolve_physics(config.physics))
        task = _make_task(config, as_trained=True)
        algorithm = EPVF(task, config)
        key = key_for(config.seed, Purpose.TRAIN)
        state = eqx.filter_jit(lambda key: algorithm.init(key=key))(key)
        if run is None:
            directory = config.run_dir or new_directory(Path("runs") / "epvf", config)
            run = Run.create(directory, settings_to_json(config))
            stack.enter_context(run.locked())
            progress = Progress()
        else:
            stack.enter_context(run.locked())
            state, progress = _load(run, state, config)
        _introduce(algorithm, state, progress)

        state, progress, rows = loop(
            run,
            algorithm.compile,
            state,
            progress,
            iterations=config.iterations,
            checkpoint_every=config.checkpoint_every,
            config=fixed(config),
            save=lambda state: _save_policy(run, algorithm, state),
            describe=_describe,
            must_be_finite=("critic_loss", "weight_norm"),
            interrupt=interrupt,
        )
        title = f"EPVF on {config.env}, {config.num_envs} environments"
        if rows:
            plot_returns(rows, run.plot, title=title)
        if progress.iteration < config.iterations:
            print(
                f"Stopped after iteration {progress.iteration}. Go on with: "
                f"{_PROG} --resume {run.directory}"
            )
            return 0
        key = key_for(config.seed, Purpose.EVALUATE)
        episodes = evaluate(
            _make_task(config, as_trained=False),
            algorithm.policy(state),
            EVALUATION_EPISODES,
            key=key,
        )
        write_evaluation(run, episodes)
    return 0


def _make_task(config: Config, *, as_trained: bool) -> AbstractEnvironment:
    """The task; `as_trained` with the reward that is learned from."""
    options = _task_options(config)
    if as_trained and not config.survival_bonus:
        options["survival_bonus"] = False
    try:
        return make(config.env, physics=config.physics, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def _task_options(config: Config) -> dict[str, Any]:
    given = {"horizon": config.horizon, "integrator": config.integrator}
    return {name: value for name, value in given.items() if value is not None}


def _load(run: Run, state: State, config: Config) -> tuple[State, Progress]:
    state, progress, notes = load_checkpoint(run.checkpoints, state, fixed(config))
    for note in notes:
        print(note, file=sys.stderr)
    if config.iterations < progress.iteration:
        raise UserError(
            f"--iterations {config.iterations} is less than the {progress.iteration} "
            f"that {run.directory} has done. Raise it, or drop it."
        )
    before = settings_from_json(Config, run.config).iterations
    if config.iterations != before:
        print(
            f"Iterations: {before} before, {config.iterations} now; schedules run over "
            "the new number."
        )
        run.rewrite_config(run.config | {"iterations": config.iterations})
    print(f"Continuing {run.directory} after iteration {progress.iteration}.")
    return state, progress


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
        f"on {jax.devices()[0].platform}.",
        flush=True,
    )
    if progress.iteration < config.iterations:
        print("Compiling ...", flush=True)


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


def _save_policy(run: Run, algorithm: EPVF, state: State) -> None:
    config = algorithm.config
    write_atomically(
        run.policy,
        lambda file: write_policy(
            file,
            algorithm.policy(state),
            task=config.env,
            task_options=_task_options(config) | {"physics": config.physics},
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
