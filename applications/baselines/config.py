"""Settings of Brax's algorithms; docstrings of fields are the flags' help."""

import dataclasses
from typing import Annotated, TypeAlias

from applications.evolution.config import check_directions
from applications.settings import (
    AtLeast,
    AtMost,
    check_settings,
    Count,
    Positive,
    Rate,
    Steps,
    UserError,
    Widths,
)


Share: TypeAlias = Annotated[float, Positive(), AtMost(1)]
Cost: TypeAlias = Annotated[float, AtLeast(0)]


@dataclasses.dataclass(frozen=True)
class BaselineConfig:
    """What all algorithms of other libraries can be told."""

    steps: Steps = 1_000_000
    """Control steps to train for."""

    iterations: Count = 20
    """Rows of metrics that the steps are divided into."""

    eval_episodes: Count = 8
    """Extra episodes of the policy itself, to watch it; not learned from."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class BraxARSConfig(BaselineConfig):
    """Trains a linear policy by augmented random search (Brax).

    A run is a directory; its path is printed at the end.
    """

    num_envs: Count = 120
    """Parallel environments."""

    normalise: bool = False
    """Standardise observations by running statistics."""

    learning_rate: Rate = 0.015
    """Step size; plain steps."""

    noise_scale: Rate = 0.025
    """Standard deviation of the noise on weights."""

    top: Count = 20
    """Of the directions tried, those that are learned from."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        super().__post_init__()
        check_directions(self.num_envs, self.top)


@dataclasses.dataclass(frozen=True)
class PPOConfig(BaselineConfig):
    """Trains a policy by proximal policy optimisation (Brax).

    A run is a directory; its path is printed at the end.
    """

    num_envs: Count = 256
    """Parallel environments."""

    hidden: Widths = (64, 64)
    """Width of each hidden layer of the policy."""

    critic_hidden: Widths = (128, 128)
    """Width of each hidden layer of the critic."""

    normalise: bool = False
    """Standardise observations by running statistics."""

    learning_rate: Rate = 3e-4
    """Step size of Adam."""

    discount: Share = 0.99
    """Discount of rewards."""

    unroll: Count = 16
    """Control steps of each environment in a batch."""

    minibatches: Count = 8
    """Gradient steps in a pass; they share out the environments."""

    updates: Count = 4
    """Passes over each batch."""

    gae_lambda: Share = 0.95
    """Trace of the advantages."""

    ratio_clip: Rate = 0.2
    """How far the probability ratio may go from 1."""

    entropy_cost: Cost = 1e-3
    """Weight of the entropy."""

    critic_cost: Cost = 0.5
    """Weight of the critic's loss, half a mean square."""

    max_grad_norm: Rate = 1.0
    """Longest gradient."""

    reward_scale: Rate = 1.0
    """Factor of rewards in learning."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        super().__post_init__()
        if self.num_envs % self.minibatches:
            raise UserError(
                f"--num-envs {self.num_envs} cannot be shared out among --minibatches "
                f"{self.minibatches}."
            )


@dataclasses.dataclass(frozen=True)
class SACConfig(BaselineConfig):
    """Trains a policy by soft actor-critic (Brax).

    A run is a directory; its path is printed at the end.
    """

    num_envs: Count = 16
    """Parallel environments."""

    hidden: Widths = (256, 256)
    """Width of each hidden layer of the policy and of the critic."""

    normalise: bool = False
    """Standardise observations by running statistics."""

    learning_rate: Rate = 3e-4
    """Step size of Adam."""

    discount: Share = 0.99
    """Discount of rewards."""

    batch_size: Count = 256
    """Transitions in a gradient step."""

    buffer: Count = 1_000_000
    """Transitions that are kept to learn from."""

    warm_up: Count = 8192
    """Control steps before learning begins."""

    updates: Count = 8
    """Gradient steps each time that all environments have made a step."""

    target_rate: Share = 0.005
    """How far target networks follow in each gradient step."""

    reward_scale: Rate = 1.0
    """Factor of rewards in learning."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        super().__post_init__()
        check_warm_up(self.warm_up, self.steps)


def check_warm_up(warm_up: int, steps: int) -> None:
    """Checks that something is left to learn in.

    Args:
        warm_up: Control steps before learning begins.
        steps: Control steps in all.

    Raises:
        UserError: If nothing is.
    """
    if warm_up >= steps:
        raise UserError(
            f"--warm-up {warm_up} leaves nothing of --steps {steps} to learn in. Lower "
            "it, or raise --steps."
        )
