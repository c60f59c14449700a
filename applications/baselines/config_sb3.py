"""Settings of Stable-Baselines3's algorithms; docstrings of fields are flags' help."""

import dataclasses
import math
from typing import Annotated, Literal, TypeAlias

from applications.baselines.config import (
    BaselineConfig,
    check_warm_up,
    Cost,
    Share,
)
from applications.settings import (
    AtLeast,
    Count,
    Rate,
    UserError,
    Widths,
)


Activation: TypeAlias = Literal["tanh", "relu"]
Schedule: TypeAlias = Literal["constant", "linear"]
OptionalCost: TypeAlias = Annotated[float | None, AtLeast(0)]


@dataclasses.dataclass(frozen=True)
class SB3PPOConfig(BaselineConfig):
    """Trains a policy by proximal policy optimisation (Stable-Baselines3).

    A run is a directory; its path is printed at the end.
    """

    num_envs: Count = 8
    """Parallel environments."""

    hidden: Widths = (64, 64)
    """Width of each hidden layer of the policy."""

    critic_hidden: Widths = (64, 64)
    """Width of each hidden layer of the critic."""

    activation: Activation = "tanh"
    """What hidden units are: tanh or relu."""

    orthogonal: bool = True
    """Draw orthogonal weights at first; otherwise PyTorch's own."""

    normalise: bool = False
    """Standardise observations by running statistics."""

    normalise_rewards: bool = False
    """Divide rewards by the running deviation of discounted returns."""

    learning_rate: Rate = 3e-4
    """Step size of Adam."""

    schedule: Schedule = "constant"
    """Of step size and ratio clip: constant, or linear down to 0 at the end."""

    noise_scale: Rate = 1.0
    """Standard deviation of the noise on actions at first; it is learned."""

    sde: bool = False
    """Noise that is a function of the state, drawn anew with each batch."""

    discount: Share = 0.99
    """Discount of rewards."""

    unroll: Count = 256
    """Control steps of each environment in a batch."""

    batch_size: Count = 64
    """Transitions in a gradient step."""

    updates: Count = 10
    """Passes over each batch."""

    gae_lambda: Share = 0.95
    """Trace of the advantages."""

    ratio_clip: Rate = 0.2
    """How far the probability ratio may go from 1."""

    entropy_cost: Cost = 0.0
    """Weight of the entropy."""

    critic_cost: Cost = 0.5
    """Weight of the critic's loss, a mean square."""

    max_grad_norm: Rate = 0.5
    """Longest gradient."""

    threads: Count = 1
    """Threads of PyTorch. More gain little in networks this small, and lose much where
    cores are busy."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        super().__post_init__()
        batch = self.num_envs * self.unroll
        if batch % self.batch_size:
            raise UserError(
                f"--batch-size {self.batch_size} does not divide the {batch} "
                "transitions of --num-envs times --unroll."
            )
        if self.batch_size == 1:
            raise UserError(
                "--batch-size must be at least 2: advantages are standardised in it."
            )


@dataclasses.dataclass(frozen=True)
class SB3SACConfig(BaselineConfig):
    """Trains a policy by soft actor-critic (Stable-Baselines3).

    A run is a directory; its path is printed at the end.
    """

    num_envs: Count = 1
    """Parallel environments."""

    hidden: Widths = (256, 256)
    """Width of each hidden layer of the policy and of the critic."""

    normalise: bool = False
    """Standardise observations by running statistics."""

    learning_rate: Rate = 3e-4
    """Step size of Adam."""

    sde: bool = False
    """Noise that is a function of the state, drawn anew with each unroll."""

    noise_scale: Rate = round(math.exp(-3), 4)
    """Scale of that noise at first; only with --sde."""

    discount: Share = 0.99
    """Discount of rewards."""

    batch_size: Count = 256
    """Transitions in a gradient step."""

    buffer: Count = 1_000_000
    """Transitions that are kept to learn from."""

    warm_up: Count = 10_000
    """Control steps, of random actions, before learning begins."""

    unroll: Count = 1
    """Control steps of each environment between gradient steps."""

    updates: Count = 1
    """Gradient steps after each unroll."""

    target_rate: Share = 0.005
    """How far target networks follow in each gradient step."""

    entropy_cost: OptionalCost = None
    """Weight of the entropy. Learned unless given."""

    threads: Count = 1
    """Threads of PyTorch. More gain little in networks this small, and lose much where
    cores are busy."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        super().__post_init__()
        check_warm_up(self.warm_up, self.steps)
        if self.buffer < self.num_envs:
            raise UserError(
                f"--buffer {self.buffer} does not hold one transition of each of the "
                f"{self.num_envs} environments of --num-envs."
            )


@dataclasses.dataclass(frozen=True)
class DDPGConfig(BaselineConfig):
    """Trains a policy by deep deterministic policy gradients (Stable-Baselines3).

    A run is a directory; its path is printed at the end.
    """

    hidden: Widths = (256, 256)
    """Width of each hidden layer of the policy and of the critic."""

    learning_rate: Rate = 1e-3
    """Step size of Adam."""

    noise_scale: Rate = 0.1
    """Standard deviation of the noise on actions within 1."""

    discount: Share = 0.99
    """Discount of rewards."""

    batch_size: Count = 256
    """Transitions in a gradient step."""

    buffer: Count = 1_000_000
    """Transitions that are kept to learn from."""

    warm_up: Count = 1000
    """Control steps before learning begins."""

    target_rate: Share = 0.005
    """How far target networks follow in each gradient step."""

    threads: Count = 1
    """Threads of PyTorch. More gain little in networks this small, and lose much where
    cores are busy."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        super().__post_init__()
        check_warm_up(self.warm_up, self.steps)
