"""What a policy can be commanded to do, how it is measured, and in what range."""

import dataclasses
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from applications.envs import AbstractEnvironment
from applications.rollout import Episode
from applications.settings import UserError


CommandKind: TypeAlias = Literal["return", "return-length", "speed"]

# Returns from those of bad policies to those of good ones; without the survival bonus
# where the task can do without. Swimmer's, Hopper's, InvertedPendulum's and
# MountainCarContinuous's are those of Faccio et al. (2022).
_RETURNS = {
    "ant": (0.0, 1000.0),
    "ant_servo": (0.0, 1000.0),
    "cartpole": (0.0, 500.0),
    "half_cheetah": (-100.0, 4000.0),
    "hopper": (-100.0, 3000.0),
    "inverted_double_pendulum": (0.0, 10_000.0),
    "inverted_pendulum": (0.0, 1000.0),
    "lqr": (-1000.0, 0.0),
    "mountain_car_continuous": (-100.0, 100.0),
    "reacher": (-50.0, 0.0),
    "swimmer": (-100.0, 365.0),
    "walker2d": (-100.0, 3000.0),
}
# Where a task shows how fast it moves along x (m/s), and a range of that.
_SPEEDS = {
    "cartpole": (1, -0.5, 0.5),
    "half_cheetah": (8, 0.0, 5.0),
    "hopper": (5, 0.0, 3.0),
    "swimmer": (3, -0.2, 0.4),
    "walker2d": (8, 0.0, 3.0),
}


@dataclasses.dataclass(frozen=True)
class Commands:
    """Commands of one kind in one task. A command is a vector of outcomes.

    Attributes:
        names: What each number is.
        low: Lower ends of their ranges.
        high: Upper ends.
        drive: How far beyond the best so far commands explore; in the first number.
        speed_at: Where in an observation the speed is, if that is commanded.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    drive: float
    speed_at: int | None = None

    @property
    def size(self) -> int:
        """How many numbers a command has."""
        return len(self.names)

    def measure(self, episodes: Episode) -> Float[Array, "*batch outcomes"]:
        """What came of episodes, in the order of the names."""
        if self.speed_at is not None:
            return episodes.observations.mean[..., self.speed_at][..., None]
        outcomes = [episodes.total_reward, episodes.length.astype(jnp.float32)]
        return jnp.stack(outcomes[: self.size], axis=-1)


def make_commands(
    kind: CommandKind,
    env: str,
    task: AbstractEnvironment,
    *,
    low: float | None,
    high: float | None,
    drive: float | None,
) -> Commands:
    """Commands of a kind in a task.

    Args:
        kind: What is commanded.
        env: The task's name.
        task: The task.
        low: Lower end of the first number's range; the task's own unless given.
        high: Its upper end.
        drive: As `Commands` has it; a twentieth of the range unless given.

    Returns:
        The commands.

    Raises:
        UserError: If the task shows no speed, has no range of its own, or the range is
            empty.
    """
    at = None
    if kind == "speed":
        if env not in _SPEEDS:
            raise UserError(
                f"--command-kind speed is not for {env}, which does not show how fast "
                f"it moves; {', '.join(_SPEEDS)} do."
            )
        at, own_low, own_high = _SPEEDS[env]
    else:
        own_low, own_high = _RETURNS[env]
    low = own_low if low is None else low
    high = own_high if high is None else high
    if low >= high:
        raise UserError(f"--low {low} must be below --high {high}.")
    drive = (high - low) / 20 if drive is None else drive
    if kind == "return-length":
        return Commands(
            ("return", "length"), (low, 0.0), (high, float(task.horizon)), drive
        )
    return Commands((kind,), (low,), (high,), drive, at)
