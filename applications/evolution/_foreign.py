"""Rules of JAX for libraries that are not as strict as we are."""

import contextlib

import jax


@contextlib.contextmanager
def foreign_rules():
    """Evosax and QDax mix dtypes and ranks."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
