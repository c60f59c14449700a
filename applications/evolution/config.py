"""Settings of the algorithms; the docstrings of fields are the help of their flags."""

import abc
import dataclasses
from typing import ClassVar, final, Literal, TypeAlias

from applications.policies import check_policy
from applications.settings import (
    check_settings,
    Count,
    OptionalCount,
    OptionalLevels,
    Rate,
    Steps,
    UserError,
    Widths,
)


Descriptor: TypeAlias = Literal["auto", "speed", "return"]
# Of fewer policies a strategy that adapts has no better half to tell from the rest.
_FEWEST = 4


@dataclasses.dataclass(frozen=True)
class AbstractConfig(abc.ABC):
    """Settings that all strategies have, beside `num_envs`, `hidden` and their own."""

    steps: Steps = 1_000_000
    """Control steps to train for. May be raised when a run is resumed."""

    policy: str = "mlp"
    """What policies are: mlp, a perceptron with hidden units of tanh, or one of your
    own (package.module:Factory)."""

    action_levels: OptionalLevels = None
    """Round what the policy puts out to so many values, evenly from end to end of the
    range of an action: 3 are full reverse, nothing and full ahead. Not rounded unless
    given."""

    normalise: bool = False
    """Standardise observations by running statistics."""

    eval_episodes: Count = 8
    """Extra episodes of the policy itself, to watch it; not learned from."""

    episodes: Count = 1
    """Episodes of each policy in each iteration."""

    chunk: OptionalCount = None
    """Policies simulated at once, to bound the memory. All of them unless given."""

    # No flags: no observation is handed back, and each policy has starts of its own.
    visits: ClassVar[int] = 0
    common_starts: ClassVar[bool] = False

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)
        check_policy(self.policy, self.action_levels)
        self._check_own()

    @abc.abstractmethod
    def _check_own(self) -> None:
        """Checks what is of one strategy."""


@final
@dataclasses.dataclass(frozen=True)
class ARSConfig(AbstractConfig):
    """Trains a policy by augmented random search (evosax).

    Defaults are those of Mania et al. (2018) for Ant. A run is a directory; its path is
    printed at the end.
    """

    num_envs: Count = 120
    """Parallel environments: policies tried in an iteration."""

    hidden: Widths = ()
    """Width of each hidden layer of the policy."""

    learning_rate: Rate = 0.015
    """Step size; plain steps."""

    noise_scale: Rate = 0.025
    """Standard deviation of the noise on weights."""

    top: Count = 20
    """Of the directions tried, those that are learned from."""

    def _check_own(self) -> None:
        check_directions(self.num_envs, self.top)


@final
@dataclasses.dataclass(frozen=True)
class OpenESConfig(AbstractConfig):
    """Trains a policy by OpenAI's evolution strategy (evosax).

    Salimans et al. (2017) have Adam at 0.01 and noise of 0.02, for wider networks. A
    run is a directory; its path is printed at the end.
    """

    num_envs: Count = 128
    """Parallel environments: policies tried in an iteration."""

    hidden: Widths = (16, 16)
    """Width of each hidden layer of the policy."""

    learning_rate: Rate = 0.05
    """Step size of Adam."""

    noise_scale: Rate = 0.1
    """Standard deviation of the noise on weights."""

    def _check_own(self) -> None:
        check_directions(self.num_envs)


@dataclasses.dataclass(frozen=True)
class AdaptiveConfig(AbstractConfig):
    """Settings of the strategies that find out their step sizes by themselves."""

    num_envs: Count = 32
    """Parallel environments: policies tried in an iteration."""

    hidden: Widths = ()
    """Width of each hidden layer of the policy."""

    noise_scale: Rate = 0.3
    """Standard deviation of the noise on weights at first; it is adapted."""

    def _check_own(self) -> None:
        if self.num_envs < _FEWEST:
            raise UserError(
                f"--num-envs must be at least {_FEWEST}, some of them better than "
                f"others; got {self.num_envs}."
            )


@final
@dataclasses.dataclass(frozen=True)
class CMAESConfig(AdaptiveConfig):
    """Trains a policy by CMA-ES (evosax).

    Covariance matrix adaptation, Hansen (2016), with active updates. Time and memory
    grow with the square of the number of weights and faster: for up to about a thousand
    of them. A run is a directory; its path is printed at the end.
    """


@final
@dataclasses.dataclass(frozen=True)
class SepCMAESConfig(AdaptiveConfig):
    """Trains a policy by separable CMA-ES (evosax), for thousands of weights.

    One step size for each weight, which are learned at the rates of Ros and Hansen
    (2008). A run is a directory; its path is printed at the end.
    """


@final
@dataclasses.dataclass(frozen=True)
class SNESConfig(AdaptiveConfig):
    """Trains a policy by separable natural evolution, SNES, for thousands of weights.

    Of evosax, by Schaul et al. (2011): one step size for each weight, which follow the
    natural gradient. A run is a directory; its path is printed at the end.
    """


@final
@dataclasses.dataclass(frozen=True)
class MAPElitesConfig(AbstractConfig):
    """Keeps the best policy for each speed, by MAP-Elites (QDax).

    Mouret and Clune (2015), with the variation of Vassiliades and Mouret (2018). The
    run stands for the best of all. A run is a directory; its path is printed at the
    end.
    """

    num_envs: Count = 64
    """Parallel environments: policies tried in an iteration."""

    hidden: Widths = (16, 16)
    """Width of each hidden layer of the policies."""

    descriptor: Descriptor = "auto"
    """By what policies are told apart: their mean speed over an episode, or their
    return; auto is the speed on tasks that show it."""

    cells: Count = 32
    """Equal parts of the descriptor's range. Each keeps one policy."""

    low: float | None = None
    """Lower end of the descriptor's range; the task's own unless given. What is less
    goes into the first cell."""

    high: float | None = None
    """Its upper end. What is more goes into the last cell."""

    iso_scale: Rate = 0.05
    """Standard deviation of the noise on each weight."""

    line_scale: Rate = 0.2
    """Standard deviation of the step along the line from one parent to another, as a
    share of their distance."""

    def _check_own(self) -> None:
        """There is nothing that needs the task."""


Config: TypeAlias = ARSConfig | OpenESConfig | AdaptiveConfig


def check_directions(num_envs: int, top: int | None = None) -> None:
    """Checks that policies come in pairs, two for each direction.

    Args:
        num_envs: How many policies are tried.
        top: How many directions are learned from.

    Raises:
        UserError: If the number is odd, or there are not so many directions.
    """
    if num_envs % 2:
        raise UserError(
            f"--num-envs {num_envs} is odd; directions are tried both ways."
        )
    if top is not None and top > num_envs // 2:
        raise UserError(
            f"--top {top} is more than the {num_envs // 2} directions, half of "
            "--num-envs."
        )
