"""``python -m applications.epvf.train``: trains, and leaves a run directory."""

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import tyro

from applications.envs import AbstractTask, make
from applications.epvf.algorithm import EPVF, State
from applications.epvf.config import Config
from applications.policy import write_policy
from applications.rollout import evaluate
from applications.runs import (
    exit_on_user_error,
    Interrupt,
    load_checkpoint,
    loop,
    plot_returns,
    Progress,
    Run,
    UserError,
)


_EVALUATION_EPISODES = 100


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    with Interrupt() as interrupt:
        config, run = _configure(arguments)
        task = _make_task(config)
        algorithm = EPVF(task, config)
        init_key, evaluation_key = jr.split(jr.key(config.seed))
        state = eqx.filter_jit(lambda key: algorithm.init(key=key))(init_key)
        if run is None:
            run = Run.create(config.run_dir or _new_directory(config), config.to_json())
            progress = Progress()
        else:
            state, progress = _load(run, state, config)
        _introduce(algorithm, state, progress)

        state, progress, rows = loop(
            run,
            algorithm.step,
            state,
            progress,
            iterations=config.iterations,
            checkpoint_every=config.checkpoint_every,
            config=config.fixed(),
            save=lambda state: _save_policy(run, algorithm, state),
            describe=_describe,
            must_be_finite=("critic_loss", "weight_norm"),
            interrupt=interrupt,
        )
        if rows:
            plot_returns(
                rows,
                run.plot,
                title=f"EPVF on {config.env}, {config.num_envs} environments",
            )
        if interrupt.requested and progress.iteration < config.iterations:
            print(
                f"Stopped after iteration {progress.iteration}. Go on with: "
                f"python -m applications.epvf.train --resume {run.directory}"
            )
            return 0
        episodes = eqx.filter_jit(evaluate)(
            task, algorithm.policy(state), _EVALUATION_EPISODES, key=evaluation_key
        )
        returns = np.asarray(episodes.total_reward)
        run.write_json(
            run.evaluation,
            {
                "mean": returns.mean().item(),
                "std": returns.std().item(),
                "returns": returns.tolist(),
                "lengths": episodes.length.tolist(),
            },
        )
        print(
            f"Mean return of {_EVALUATION_EPISODES} fresh evaluation episodes: "
            f"{returns.mean():.1f} (standard deviation {returns.std():.1f})"
        )
        print(f"Run directory: {run.directory}")
    return 0


def _configure(arguments: Sequence[str] | None) -> tuple[Config, Run | None]:
    """The settings, and the run to continue if there is one."""
    config = _parse(arguments, Config())
    if config.resume is None:
        return config, None
    run = Run(config.resume)
    if config.run_dir is not None:
        raise UserError("--run-dir names a new run and --resume an old one: drop one.")
    saved = Config.from_json(run.config)
    config = _parse(arguments, saved)
    for name, value in config.fixed().items():
        if value != saved.fixed()[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {value} differs from the run's {saved.fixed()[name]}. Drop "
                f"{flag} to go on with {run.directory}, or start a new run."
            )
    if config.iterations != saved.iterations:
        print(
            f"Iterations: {saved.iterations} before, {config.iterations} now; "
            "schedules run over the new number."
        )
        run.rewrite_config(run.config | {"iterations": config.iterations})
    return config, run


def _parse(arguments: Sequence[str] | None, default: Config) -> Config:
    return tyro.cli(
        Config,
        prog="python -m applications.epvf.train",
        args=arguments,
        default=default,
    )


def _make_task(config: Config) -> AbstractTask:
    try:
        return make(config.env, horizon=config.horizon)
    except ValueError as error:
        raise UserError(str(error)) from error


def _new_directory(config: Config) -> Path:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / "epvf" / f"{config.env}-seed{config.seed}-{now}"


def _load(run: Run, state: State, config: Config) -> tuple[State, Progress]:
    state, progress, warnings = load_checkpoint(run.checkpoints, state, config.fixed())
    for warning in warnings:
        print(warning, file=sys.stderr)
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
    run.write(
        run.policy,
        lambda file: write_policy(
            file,
            algorithm.policy(state),
            task=config.env,
            task_options={"horizon": config.horizon},
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
