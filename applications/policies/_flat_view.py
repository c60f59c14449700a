from typing import final, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

import wsl


Policy = TypeVar("Policy", bound=eqx.Module)


@final
class FlatView(eqx.Module, Generic[Policy]):
    """Goes back and forth between policies of one architecture and vectors θ.

    Attributes:
        space: The weight space of the architecture; no axis is marked as permutable.
    """

    space: wsl.WeightSpace = eqx.field(static=True)
    _static: Policy

    def __init__(self, policy: Policy):
        """Makes the view.

        Args:
            policy: Any policy of the architecture; its weights are not kept.
        """
        self.space = wsl.WeightSpace.from_spec(policy)
        self._static = eqx.filter(policy, eqx.is_array, inverse=True)

    @property
    def like(self) -> Policy:
        """A policy of the architecture, with weights 0."""
        return self.to_policy(jnp.zeros(self.space.size))

    def to_vector(self, policy: Policy) -> Float[Array, " weights"]:
        """The weights θ of a policy."""
        return self.space.flatten(policy)

    def to_policy(self, vector: Float[Array, " weights"]) -> Policy:
        """The policy with weights θ."""
        return eqx.combine(self.space.unflatten(vector), self._static)
