from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_numpy(leaf: Any) -> np.ndarray:
    """The numbers of an array; of keys, their data."""
    return np.asarray(jr.key_data(leaf) if is_key(leaf) else leaf)


def from_numpy(array: np.ndarray, like: Any) -> Any:
    """Inverse of `to_numpy`, for an array that was of the same kind as `like`."""
    if isinstance(like, np.ndarray):
        return array
    value = jnp.asarray(array)
    if not is_key(like):
        return value
    # Of `like` there may be no more than shape and dtype.
    return jr.wrap_key_data(value, impl=jr.key_impl(jnp.empty((), like.dtype)))
