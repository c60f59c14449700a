from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


NoiseLaw: TypeAlias = Literal["uniform", "gaussian"]


def draw_noise(
    law: NoiseLaw, count: int, size: int, *, key: PRNGKeyArray
) -> Float[Array, "count size"]:
    """Draws unscaled perturbations of policies.

    Args:
        law: Uniform on [-1, 1] or standard normal.
        count: Number of policies.
        size: Number of weights of each.
        key: Source of randomness. Row i depends on it and on i alone, so that no device
            has to draw another one's noise.

    Returns:
        One perturbation a row.
    """

    def draw(index):
        own_key = jr.fold_in(key, index)
        if law == "uniform":
            return jr.uniform(own_key, (size,), minval=-1.0, maxval=1.0)
        return jr.normal(own_key, (size,))

    return jax.vmap(draw)(jnp.arange(count))
