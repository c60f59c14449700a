"""Dtypes and ranks inside layers."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def wide(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same numbers in 32 bits or more: sums of 16-bit ones lose digits."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def like(parameter: Array, x: Array) -> Array:
    """A parameter of the last axis, in the dtype and rank of `x`."""
    return jnp.expand_dims(parameter.astype(x.dtype), range(x.ndim - 1))
