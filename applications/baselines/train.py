"""``python -m applications.baselines.train``: trains, and leaves a run directory."""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from applications.baselines._recorder import Recorder, Stopped
from applications.baselines.config import BraxARSConfig, PPOConfig, SACConfig
from applications.baselines.config_sb3 import DDPGConfig, SB3PPOConfig, SB3SACConfig
from applications.envs import TaskSettings
from applications.evolution import (
    ARSConfig,
    CMAESConfig,
    MAPElitesConfig,
    OpenESConfig,
    SepCMAESConfig,
    SNESConfig,
)
from applications.policies import MLPPolicy
from applications.settings import UserError
from applications.training import (
    CommandLine,
    evaluate_policy,
    exit_on_user_error,
    Interrupt,
    iterate_rows,
    keep_compiled,
    new_directory,
    parse_settings,
    plot_returns,
    Row,
    Run,
    RunSettings,
    save_policy,
    shown,
    train,
    without_display,
)


_BRAX = ("brax-ars", "ppo", "sac")
_EVOLUTION = ("ars", "openes", "cma-es", "sep-cma-es", "snes", "map-elites")
_CONFIGS: dict[str, Any] = {
    "ars": ARSConfig(),
    "openes": OpenESConfig(),
    "cma-es": CMAESConfig(),
    "sep-cma-es": SepCMAESConfig(),
    "snes": SNESConfig(),
    "map-elites": MAPElitesConfig(),
    "brax-ars": BraxARSConfig(),
    "ppo": PPOConfig(),
    "sac": SACConfig(),
    "sb3-ppo": SB3PPOConfig(),
    "sb3-sac": SB3SACConfig(),
    "ddpg": DDPGConfig(),
}


def _check(settings: RunSettings[Any]) -> None:
    name = settings.name
    if settings.launch.resume is not None and name not in _EVOLUTION:
        raise UserError(
            f"A run of {name} cannot be resumed: its library does not give its state "
            f"away. Only {', '.join(_EVOLUTION)} can. Start a new run."
        )
    if name in _BRAX and settings.task.physics == "mujoco":
        raise UserError(
            f"--physics mujoco is not for {name}: Brax needs the task in JAX. Drop it; "
            "closed-form tasks and MJX are."
        )


COMMAND_LINE = CommandLine(
    "python -m applications.baselines.train",
    {name: RunSettings(name, TaskSettings(), own) for name, own in _CONFIGS.items()},
    "algorithm",
    _check,
)


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    settings, resumed = parse_settings(COMMAND_LINE, arguments)
    if jax.process_count() > 1:
        raise UserError(
            "A baseline trains in one process. Drop --coordinator and what comes "
            "with it; under SLURM, start one task."
        )
    parent = Path("runs") / "baselines" / settings.name
    if settings.name not in _EVOLUTION:
        _train_by_library(settings, parent)
        return 0
    # Each takes a library that the others do not.
    if settings.name == "map-elites":
        of_qdax = importlib.import_module("applications.evolution.map_elites")
        search = of_qdax.MAPElites
    else:
        of_evosax = importlib.import_module("applications.evolution.algorithm")
        search = of_evosax.Evolution
    own = settings.algorithm
    train(
        search,
        settings,
        resumed=resumed,
        limit="steps",
        parent=parent,
        summarise_start=lambda search, state: (
            f"{settings.name}, {own.num_envs} policies an iteration, {own.steps:,} "
            "steps"
        ),
        format_row=_format_row,
        must_be_finite=("weight_norm",),
    )
    return 0


def _train_by_library(settings: RunSettings[Any], parent: Path) -> None:
    """Trains what a library's own loop drives."""
    own = settings.algorithm
    library = "_brax" if settings.name in _BRAX else "_sb3"
    module = importlib.import_module(f"applications.baselines.{library}")
    if settings.task.physics == "auto":
        # Few environments at a time are the C engine's, whatever JAX runs on.
        physics = "mjx" if library == "_brax" else "mujoco"
        task_settings = dataclasses.replace(settings.task, physics=physics)
        settings = dataclasses.replace(settings, task=task_settings)
    task = settings.task.make(as_trained=True)
    module.check(task, own)
    directory = settings.launch.run_dir or new_directory(settings, parent)
    with contextlib.ExitStack() as stack:
        with Interrupt() as interrupt:
            run = Run.create(directory, settings.manifest)
            stack.enter_context(run.locked())
            print(
                f"{settings.task.env}: {settings.name}, {own.steps:,} steps, on "
                f"{jax.devices()[0].platform}.",
                flush=True,
            )
            policy: MLPPolicy | None = None
            recorder = Recorder(run, own.steps, _format_row, interrupt)
            with contextlib.suppress(Stopped), recorder:
                seed = settings.launch.seed
                policy = module.train(task, own, recorder.add, seed=seed)
            if policy is not None:
                save_policy(run, settings, policy)
        title = f"{settings.name} on {settings.task.env}"
        plot_returns(iterate_rows(run.metrics), run.plot, title=title)
        if policy is None:
            print(
                f"Stopped. {settings.name} cannot go on from here; its metrics are in "
                f"{run.directory}."
            )
            return
        evaluate_policy(run, settings, policy)


def _format_row(row: Row) -> str:
    told = f"return {shown(row, 'return_policy', '.1f')}  "
    if "return_perturbed_mean" in row:
        told += f"perturbed {shown(row, 'return_perturbed_mean', '.1f')}  "
    if "coverage" in row:
        told += f"coverage {shown(row, 'coverage', '.0%')}  "
    return told + f"{shown(row, 'steps_per_second', ',.0f')} steps/s"


if __name__ == "__main__":
    keep_compiled()
    without_display()
    sys.exit(main())
