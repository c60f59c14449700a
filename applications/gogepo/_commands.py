"""What a policy can be commanded to do, how it is measured, and in what range."""

import dataclasses
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

from applications.envs import AbstractEnvironment
from applications.gogepo._conditions import (
    AbstractCondition,
    size_condition,
    variant_condition,
)
from applications.rollout import Episode
from applications.settings import choose_range, UserError


CommandKind: TypeAlias = Literal[
    "return", "return-length", "speed", "speed-return", "return-size", "return-variant"
]


@dataclasses.dataclass(frozen=True)
class Commands:
    """Commands of one kind in one task. A command is a vector of outcomes.

    The number of a condition is the last one, and what came of a policy has it too.

    Attributes:
        names: What each number is.
        low: Lower ends of their ranges.
        high: Upper ends.
        drive: How far beyond the best so far commands explore; in the first number.
        speed_at: Where in an observation the speed is, if that is commanded.
        condition: What the last number is, if it is given and not achieved.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    drive: float
    speed_at: int | None = None
    condition: AbstractCondition | None = None

    @property
    def size(self) -> int:
        """How many numbers a command has."""
        return len(self.names)

    @property
    def achieved(self) -> int:
        """How many of them are achieved: all but that of a condition."""
        return self.size - (self.condition is not None)

    def place(self, policy: Any, command: Float[Array, " outcomes"]) -> Any:
        """The policy under the condition of a command; itself where there is none."""
        if self.condition is None:
            return policy
        return self.condition.place(policy, command[-1])

    def measure(self, episodes: Episode) -> Float[Array, "*batch achieved"]:
        """What was achieved in episodes, in the order of the names."""
        if self.speed_at is not None:
            speed = episodes.observations.mean[..., self.speed_at]
            return jnp.stack([speed, episodes.total_reward][: self.size], axis=-1)
        outcomes = [episodes.total_reward, episodes.length.astype(jnp.float32)]
        return jnp.stack(outcomes[: self.achieved], axis=-1)


def make_commands(
    kind: CommandKind,
    task: AbstractEnvironment,
    *,
    low: float | None,
    high: float | None,
    drive: float | None,
    policy: str = "mlp",
    hidden: tuple[int, ...] = (),
) -> Commands:
    """Commands of a kind in a task.

    Args:
        kind: What is commanded.
        task: The task, whose facts say the ranges.
        low: Lower end of the first number's range; the task's own unless given.
        high: Its upper end.
        drive: As `Commands` has it; a twentieth of the range unless given.
        policy: The name of what policies are, for their size.
        hidden: Widths of their hidden layers, likewise.

    Returns:
        The commands.

    Raises:
        UserError: If the task shows no speed or has no variants, policies have no
            sizes, the task has no range of its own, or the range is empty.
    """
    at, own = None, task.facts.return_range
    returns = own
    if kind in ("speed", "speed-return"):
        speed = task.facts.signal("speed")
        if speed is None:
            raise UserError(
                f"--command-kind {kind} is not for this task, which does not show how "
                "fast it moves: its facts have no signal of that name."
            )
        at, own = speed.index, (speed.low, speed.high)
    low, high = choose_range(own, low, high)
    drive = (high - low) / 20 if drive is None else drive
    if kind == "return-length":
        return Commands(
            ("return", "length"), (low, 0.0), (high, float(task.horizon)), drive
        )
    if kind == "speed-return":
        if returns is None:
            raise UserError(
                "--command-kind speed-return is not for this task, which does not say "
                "what returns to expect."
            )
        ends = (low, returns[0]), (high, returns[1])
        return Commands(("speed", "return"), *ends, drive, at)
    if kind == "return-size" or kind == "return-variant":
        if kind == "return-size":
            condition: AbstractCondition = size_condition(policy, hidden)
        else:
            condition = variant_condition(task)
        return Commands(
            ("return", condition.name),
            (low, condition.low),
            (high, condition.high),
            drive,
            condition=condition,
        )
    return Commands((kind,), (low,), (high,), drive, at)
