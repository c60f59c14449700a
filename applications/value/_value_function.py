from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from wsl.encoders import AbstractEncoder


@final
class ValueFunction(eqx.Module):
    """V(θ) or V(s, θ): an encoder of policies and a perceptron on its vector.

    Source: V(θ), the start-state value function of Faccio et al. (2021); V(s, θ) as
    written by Bohlinger and Peters (2025), with ∇J(θ) = E over start states of
    ∇V(s, θ). Hidden units are ELU where Faccio et al. have ReLU: fitted to few returns,
    all of a ReLU head's units can die, and then no policy moves again.

    Attributes:
        encoder: From a policy to a vector.
        head: From that vector, and the start state's observation if there is one, to
            the value.
        state_size: Size of the observation; 0 for V(θ).
    """

    encoder: AbstractEncoder
    head: eqx.nn.MLP
    state_size: int = eqx.field(static=True)

    def __init__(
        self,
        encoder: AbstractEncoder,
        width: int,
        depth: int,
        *,
        state_size: int = 0,
        key: PRNGKeyArray,
    ):
        """Draws a value function.

        Args:
            encoder: From a policy to a vector.
            width: Width of the head's hidden layers.
            depth: How many there are.
            state_size: Size of the start state's observation; 0 for V(θ).
            key: Source of randomness.
        """
        self.encoder = encoder
        self.head = eqx.nn.MLP(
            encoder.num_features + state_size,
            "scalar",
            width,
            depth,
            jax.nn.elu,
            key=key,
        )
        self.state_size = state_size

    @property
    def conditions_on_state(self) -> bool:
        """Whether this is V(s, θ) and not V(θ)."""
        return self.state_size > 0

    def __call__(
        self, policy: PyTree, state: Float[Array, " state"] | None = None
    ) -> Float[Array, ""]:
        """The value of one policy.

        Args:
            policy: The policy.
            state: Observation of a start state, for V(s, θ) only.

        Returns:
            The value, in the units of the targets that it was fitted to.

        Raises:
            ValueError: If V(s, θ) is given no state, or V(θ) one.
        """
        if (state is not None) != self.conditions_on_state:
            raise ValueError(
                "V(s, θ) takes a policy and a start state, V(θ) a policy only."
            )
        features = self.encoder(policy)
        if state is not None:
            features = jnp.concatenate([features, state])
        return self.head(features)


def correlation(
    x: Float[Array, "*shape"], y: Float[Array, "*shape"], where: Bool[Array, "*shape"]
) -> Float[Array, ""]:
    """Pearson's correlation of two samples.

    Args:
        x: A sample.
        y: Another one, in pairs with the first.
        where: Which pairs count.

    Returns:
        A number from -1 to 1; NaN where one of the samples does not vary.
    """
    x, y = (jnp.where(where, z, jnp.mean(z, where=where)) for z in (x, y))
    # Rounding can leave a constant sample off its mean, so its range is asked as well.
    varies = (jnp.ptp(x) > 0) & (jnp.ptp(y) > 0)
    x, y = x - jnp.mean(x), y - jnp.mean(y)
    spread = jnp.sqrt(jnp.sum(x**2) * jnp.sum(y**2))
    varies = varies & (spread > 0)
    ratio = jnp.sum(x * y) / jnp.where(varies, spread, jnp.ones_like(spread))
    return jnp.where(varies, ratio, jnp.nan)
