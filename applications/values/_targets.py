"""Returns as targets of a regression, and back."""

import math
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


_ROOT_3 = math.sqrt(3)


@final
class StandardTargets(eqx.Module):
    """Returns with the archive's mean and standard deviation taken out.

    Attributes:
        mean: Mean return, 0 where there are none.
        std: Standard deviation of the returns, 1 where they do not vary.
    """

    mean: Float[Array, ""]
    std: Float[Array, ""]

    def __init__(self, returns: Float[Array, " n"], where: Bool[Array, " n"]):
        """Reads the statistics.

        Args:
            returns: Returns in the archive.
            where: Which of them count.
        """
        # By powers of two, which round nothing, as squares have to be finite.
        largest = jnp.max(jnp.abs(returns), where=where, initial=0.0)
        unit = jnp.where(largest > 1e15, 2.0**96, 1.0)
        mean = unit * jnp.mean(returns / unit, where=where)
        std = unit * jnp.std(returns / unit, where=where)
        self.mean = jnp.where(jnp.any(where), mean, 0.0)
        # Comparing with NaN, the spread of no returns at all, is false.
        self.std = jnp.where(std > 1e-6 * (1 + jnp.abs(self.mean)), std, 1.0)

    def __call__(self, returns: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """From returns to targets."""
        return (returns - self.mean) / self.std

    def inverse(self, targets: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """From targets, or predictions of them, to returns."""
        return targets * self.std + self.mean


@final
class RankTargets(eqx.Module):
    """Ranks of the returns in the archive, spread evenly inside ±√3, around 0.

    The share of returns below, counting equal ones half, is stretched from [0, 1] to
    [-√3, √3], so that ranks of many different returns have variance 1. Unlike the
    standardised return, the target does not depend on how far an outlier lies from the
    rest.

    Attributes:
        ordered: The archive's returns in ascending order, then infinities.
        count: How many of them are returns; 1 where there are none.
    """

    ordered: Float[Array, " n"]
    count: Float[Array, ""]

    def __init__(self, returns: Float[Array, " n"], where: Bool[Array, " n"]):
        """Reads the order.

        Args:
            returns: Returns in the archive.
            where: Which of them count.
        """
        self.ordered = jnp.sort(jnp.where(where, returns, jnp.inf))
        self.count = jnp.maximum(jnp.sum(where), 1).astype(returns.dtype)

    def __call__(self, returns: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """From returns to targets."""
        below = jnp.searchsorted(self.ordered, returns, side="left")
        up_to = jnp.searchsorted(self.ordered, returns, side="right")
        share = (below + up_to).astype(returns.dtype) / 2 / self.count
        return _ROOT_3 * (2 * share - 1)

    def inverse(self, targets: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """From targets, or predictions of them, to returns, by interpolation."""
        share = (targets / _ROOT_3 + 1) / 2
        last = self.count - 1
        place = jnp.clip(share * self.count - 0.5, 0, last)
        lower = jnp.floor(place).astype(jnp.int32)
        upper = jnp.minimum(lower + 1, last.astype(jnp.int32))
        part = place - lower.astype(place.dtype)
        return self.ordered[lower] * (1 - part) + self.ordered[upper] * part
