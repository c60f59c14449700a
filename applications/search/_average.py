"""Averages over the last part of a run, which wobble less than what is newest."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree


Tree = TypeVar("Tree", bound=PyTree)


def averaged(
    average: Tree, newest: Tree, *, part: float, iteration: Int[Array, ""]
) -> Tree:
    """Averages over the last part of the iterations, the newest in them.

    Of t + 1 iterations the newest counts 1 / (1 + part t), so that those of about the
    last part t count.

    Args:
        average: The average so far.
        newest: What this iteration gave, of the same form.
        part: Over which last part of the iterations; 0 for the newest alone.
        iteration: t, how many there were before.

    Returns:
        The average now; floating-point arrays are averaged, the rest is the newest.
    """
    if not part:
        return newest
    share = part * iteration.astype(jnp.float32)

    def join(before: Any, now: Any) -> Any:
        if not eqx.is_inexact_array(now):
            return now
        return before + (now - before) / (1 + share)

    return jax.tree.map(join, average, newest)
