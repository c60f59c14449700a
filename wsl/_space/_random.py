"""Random numbers for what runs in NumPy."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray


def numpy_generator(key: PRNGKeyArray) -> np.random.Generator:
    """A NumPy random number generator that is seeded from a key."""
    return np.random.default_rng(np.asarray(jr.bits(key, (4,), jnp.uint32)))
