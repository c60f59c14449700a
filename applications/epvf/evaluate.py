"""``python -m applications.epvf.evaluate DIR``: replays the policy of a run."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import equinox as eqx
import jax.random as jr
import numpy as np
import tyro

from applications.envs import AbstractTask, render
from applications.policy import MLPPolicy, read_policy
from applications.rollout import evaluate
from applications.runs import exit_on_user_error, Run, UserError


@dataclasses.dataclass(frozen=True)
class Replay:
    """Runs a trained policy for fresh episodes and prints what it returns."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of a run, or a policy file."""

    episodes: int = 100
    """How many episodes."""

    seed: int = 0
    """Seed of the start states."""

    render: Path | None = None
    """Draw one episode to this .webp file (tasks with a MuJoCo model)."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Replays as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    replay = tyro.cli(
        Replay, prog="python -m applications.epvf.evaluate", args=arguments
    )
    if replay.episodes < 1:
        raise UserError(f"--episodes must be at least 1; got {replay.episodes}.")
    if replay.render is not None and sys.platform == "linux":
        # Asks MuJoCo, before its import, for a context that needs no display.
        os.environ.setdefault("MUJOCO_GL", "egl")
    task, policy = _read(replay.path)
    evaluation_key, render_key = jr.split(jr.key(replay.seed))
    episodes = eqx.filter_jit(evaluate)(
        task, policy, replay.episodes, key=evaluation_key
    )
    returns = np.asarray(episodes.total_reward)
    print(
        f"Mean return of {replay.episodes} episodes: {returns.mean():.1f} "
        f"(standard deviation {returns.std():.1f}, minimum {returns.min():.1f}, "
        f"maximum {returns.max():.1f}, mean length {episodes.length.mean():.1f})"
    )
    if np.any(episodes.broke):
        print(f"{int(episodes.broke.sum())} of them broke off at a number not finite.")
    if replay.render is not None:
        try:
            render(task, policy, replay.render, key=render_key)
        except (RuntimeError, ValueError) as error:
            raise UserError(str(error)) from error
        print(f"Drawn: {replay.render}")
    return 0


def _read(path: Path) -> tuple[AbstractTask, MLPPolicy]:
    if path.is_dir():
        path = Run(path).policy
        if not path.is_file():
            raise UserError(
                f"{path} is not there: the run has not come to its first checkpoint."
            )
    try:
        task, policy, _ = read_policy(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    return task, policy


if __name__ == "__main__":
    sys.exit(main())
