from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from wsl.encoders import AbstractEncoder, EncodedMLP


def value_function(
    encoder: AbstractEncoder,
    width: int,
    depth: int,
    *,
    state_size: int = 0,
    out_size: int | Literal["scalar"] = "scalar",
    key: PRNGKeyArray,
) -> EncodedMLP:
    """Draws V(θ) or V(s, θ): an encoder of policies and a perceptron on its vector.

    Source: V(θ), the start-state value function of Faccio et al. (2021); V(s, θ) as
    written by Bohlinger and Peters (2025), with ∇J(θ) = E over start states of
    ∇V(s, θ). Hidden units are ELU where Faccio et al. have ReLU: fitted to few returns,
    all of a ReLU head's units can die, and then no policy moves again.

    Args:
        encoder: From a policy to a vector.
        width: Width of the head's hidden layers.
        depth: How many there are.
        state_size: Size of the start state's observation; 0 for V(θ).
        out_size: How many numbers it says of a policy; "scalar" for one, of shape `()`.
        key: Source of randomness.

    Returns:
        The value function, called with a policy and, for V(s, θ), the observation of a
        start state. Its values are in the units of the targets that it is fitted to.
    """
    states = (state_size,) if state_size else ()
    return EncodedMLP(
        encoder, states, out_size, width, depth, activation=jax.nn.elu, key=key
    )


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
