from typing import Any, final

from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import ActionSpace
from applications.policies._policy import AbstractPolicy


@final
class InVariant(AbstractPolicy):
    """A policy, and the variant of the task that it acts in.

    It is called like the policy. Rollouts of whole episodes in JAX place it in the
    variant; nothing else does.

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
    ) -> "InVariant":
        """As of the policy, which stays in its variant."""
        return InVariant(self.policy.fold_standardisation(mean, std), self.number)
