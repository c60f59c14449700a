"""``python -m applications.evaluate DIR``: runs the policy of a run or of a file."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from applications.envs import (
    check_film,
    outcome_name,
    render,
    variant_of,
    with_outcome,
)
from applications.rollout import evaluate
from applications.settings import (
    check_settings,
    Count,
    OptionalRate,
    Seed,
    UserError,
)
from applications.training import (
    check_output,
    exit_on_user_error,
    key_for,
    open_policy,
    Purpose,
)


@dataclasses.dataclass(frozen=True)
class EvaluateArgs:
    """Runs a trained policy for fresh episodes and prints what it returns."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of a run, or a policy file."""

    episodes: Count = 100
    """How many episodes."""

    seed: Seed = 0
    """Seed of the start states."""

    outcome: str | None = None
    """What an episode is worth, instead of what the policy has learned from: as of the
    flag of that name of training. So reward gives the task's own return."""

    goal: OptionalRate = None
    """Distance to the goal of sparse-goal."""

    variant: float | None = None
    """Value of the task's parameter, such as the half-length of cartpole's pole in m,
    where it has variants. The policy file's own unless given."""

    render: Path | None = None
    """Draw one episode to this .webp, .gif or .mp4 file."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(
        EvaluateArgs, prog="python -m applications.evaluate", args=arguments
    )
    check_settings(asked)
    if asked.render is not None:
        check_output(asked.render, "--render")
    if asked.render is not None and sys.platform == "linux":
        # Asks MuJoCo, before its import, for a context that needs no display.
        os.environ.setdefault("MUJOCO_GL", "egl")
    task, policy = open_policy(asked.path)
    if asked.render is not None:
        try:
            check_film(task, asked.render)
        except ValueError as error:
            raise UserError(f"--render: {error}") from error
    name = asked.outcome or outcome_name(task)
    if asked.outcome is not None or asked.goal is not None:
        try:
            task = with_outcome(task, name, goal=asked.goal)
        except ValueError as error:
            raise UserError(str(error)) from error
    if asked.variant is not None:
        try:
            task = variant_of(task, asked.variant)
        except ValueError as error:
            raise UserError(f"--variant: {error}") from error
    worth = "return" if name == "reward" else name
    key = key_for(asked.seed, Purpose.REPLAY)
    episodes = evaluate(task, policy, asked.episodes, key=key)
    sound = np.asarray(episodes.valid)
    returns = np.asarray(episodes.total_reward)[sound]
    if returns.size:
        length = np.asarray(episodes.length)[sound].mean()
        print(
            f"Mean {worth} of {len(returns)} episodes: {returns.mean():.1f} "
            f"(standard deviation {returns.std():.1f}, minimum {returns.min():.1f}, "
            f"maximum {returns.max():.1f}, mean length {length:.1f})"
        )
    if not sound.all():
        broken = asked.episodes - len(returns)
        print(f"{broken} more broke off at a number that is not finite.")
    if asked.render is not None:
        try:
            render_key = key_for(asked.seed, Purpose.RENDER)
            render(task, policy, asked.render, key=render_key)
        except (RuntimeError, ValueError) as error:
            raise UserError(str(error)) from error
        print(f"Drawn: {asked.render}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
