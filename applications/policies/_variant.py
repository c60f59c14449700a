import abc
from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import ActionSpace
from applications.policies._policy import AbstractPolicy


class AbstractNumbered(AbstractPolicy):
    """A policy, and a number of it that it is not shown. It is called like the policy.

    Attributes:
        policy: The policy.
        number: The number.
    """

    policy: eqx.AbstractVar[AbstractPolicy]
    number: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def __init__(self, policy: AbstractPolicy, number: Float[Array, ""]):
        """Puts them together."""

    @property
    def action_space(self) -> ActionSpace:
        """The policy's."""
        return self.policy.action_space

    def __call__(
        self,
        observation: Float[Array, " observation"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Any:
        """As of the policy."""
        return self.policy(observation, key=key)

    def fold_standardisation(
        self, mean: Float[Array, " observation"], std: Float[Array, " observation"]
    ) -> "AbstractNumbered":
        """As of the policy, which keeps its number."""
        folded = self.policy.fold_standardisation(mean, std)
        return type(self)(folded, self.number)


@final
class InVariant(AbstractNumbered):
    """A policy, and the variant of the task that it acts in.

    Rollouts of whole episodes in JAX place it in the variant; nothing else does.

    Attributes:
        policy: The policy.
        number: The value of the task's parameter.
    """

    policy: AbstractPolicy
    number: Float[Array, ""]

    def __init__(self, policy: AbstractPolicy, number: Float[Array, ""]):
        """Puts them together.

        Args:
            policy: The policy.
            number: The value of the task's parameter.
        """
        self.policy = policy
        self.number = number
