"""``python -m applications.baselines.train``: trains, and leaves a run directory."""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from applications.baselines._recorder import Recorder, Stopped
from applications.baselines.config import Config
from applications.envs import AbstractEnvironment, resolve_physics
from applications.policies import MLPPolicy
from applications.settings import UserError
from applications.training import (
    evaluate_policy,
    exit_on_user_error,
    fixed,
    Interrupt,
    key_for,
    load_state,
    loop,
    make_task,
    new_directory,
    parse_settings,
    plot_returns,
    Progress,
    Purpose,
    recorded,
    Run,
    save_policy,
    shown,
)


_PROG = "python -m applications.baselines.train"
# Imported only when asked for: each takes a library that the others do not.
_MODULES = {
    "ars": "evolution.algorithm",
    "openes": "evolution.algorithm",
    "brax-ars": "baselines._brax",
    "ppo": "baselines._brax",
    "sac": "baselines._brax",
    "ddpg": "baselines._sb3",
}


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
        if jax.process_count() > 1:
            raise UserError(
                "A baseline trains in one process. Drop --coordinator and what comes "
                "with it; under SLURM, start one task."
            )
        config = dataclasses.replace(config.resolved(), physics=_physics(config))
        task = make_task(config, as_trained=True)
        module = importlib.import_module(f"applications.{_MODULES[config.algorithm]}")
        continued = run is not None
        if run is None:
            parent = Path("runs") / "baselines" / config.algorithm
            directory = config.run_dir or new_directory(parent, config)
            module.check(task, config)
            run = Run.create(directory, recorded(config))
        stack.enter_context(run.locked())
        print(
            f"{config.algorithm} on {config.env}: {config.steps:,} steps, "
            f"on {jax.devices()[0].platform}.",
            flush=True,
        )
        train = _evolve if config.resumable else _train
        policy = train(run, module, task, config, continued, interrupt)
        if policy is not None:
            evaluate_policy(run, config, policy)
    return 0


def _evolve(
    run: Run,
    module: Any,
    task: AbstractEnvironment,
    config: Config,
    continued: bool,
    interrupt: Interrupt,
) -> MLPPolicy | None:
    """Trains what our loop drives. Without a policy when it was stopped."""
    algorithm = module.Evolution(task, config)
    state = eqx.filter_jit(lambda key: algorithm.init(key=key))(
        key_for(config.seed, Purpose.TRAIN)
    )
    progress = Progress()
    if continued:
        state, progress = load_state(run, state, config, "steps")
    state, progress, rows = loop(
        run,
        algorithm.compile,
        state,
        progress,
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
        config=fixed(config),
        save=lambda state: save_policy(run, config, algorithm.policy(state)),
        describe=_describe,
        must_be_finite=("weight_norm",),
        interrupt=interrupt,
    )
    _plot(run, config, rows)
    if progress.env_steps < config.steps:
        print(
            f"Stopped after {progress.env_steps:,} steps. Go on with: "
            f"{_PROG} --resume {run.directory}"
        )
        return None
    return algorithm.policy(state)


def _train(
    run: Run,
    module: Any,
    task: AbstractEnvironment,
    config: Config,
    continued: bool,
    interrupt: Interrupt,
) -> MLPPolicy | None:
    """Trains what a library's own loop drives. Without a policy when stopped."""
    assert not continued
    recorder = Recorder(run, config.steps, _describe, interrupt)
    try:
        with recorder:
            policy = module.train(task, config, recorder.add)
    except Stopped:
        _plot(run, config, recorder.rows)
        print(
            f"Stopped. {config.algorithm} cannot go on from here; its metrics are in "
            f"{run.directory}."
        )
        return None
    _plot(run, config, recorder.rows)
    save_policy(run, config, policy)
    return policy


def _physics(config: Config) -> Any:
    if config.physics != "auto":
        return config.physics
    if config.uses_brax:
        return "mjx"
    # One environment at a time is the C engine's, whatever JAX runs on.
    return "mujoco" if config.algorithm == "ddpg" else resolve_physics("auto")


def _describe(row: dict) -> str:
    told = f"return {shown(row, 'return_policy', '.1f')}  "
    if "return_perturbed_mean" in row:
        told += f"perturbed {shown(row, 'return_perturbed_mean', '.1f')}  "
    return told + f"{shown(row, 'steps_per_second', ',.0f')} steps/s"


def _plot(run: Run, config: Config, rows: list[dict]) -> None:
    if rows:
        plot_returns(rows, run.plot, title=f"{config.algorithm} on {config.env}")


if __name__ == "__main__":
    sys.exit(main())
