"""Means and variances, over draws of an initialiser or over contexts."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Key, PRNGKeyArray

from wsl.nn._dtypes import wide


# Numbers that are held at a time while statistics are summed up.
_BUFFER = 2**20

Sampler: TypeAlias = Callable[[Any, Sequence[int]], Sequence[Array]]


class Moments(NamedTuple):
    """Mean and variance of each leaf, pooled over its entries and over samples.

    Attributes:
        mean: Mean of each leaf.
        variance: Variance of each leaf; exactly 0 where all numbers are the same.
    """

    mean: Float[Array, " leaves"]
    variance: Float[Array, " leaves"]


def pooled_moments(
    sample: Sampler,
    sizes: Sequence[int],
    rounds: Sequence[tuple[int, Any]],
) -> Moments:
    """Measures leaves, small ones on more samples than large ones.

    The pooled moments of a leaf get as many numbers from one sample as it has entries,
    so that a large leaf needs few samples, and most of the work is for large leaves.

    Args:
        sample: Makes some of the leaves, given one input and their positions.
        sizes: How many entries each leaf has.
        rounds: Pairs of a size and inputs, stacked, sizes falling and the last one 1: a
            leaf is measured in the first round whose size it reaches.

    Returns:
        The moments.
    """
    return _measure(sample, tuple(sizes), tuple(rounds))


@eqx.filter_jit
def _measure(
    sample: Sampler, sizes: tuple[int, ...], rounds: tuple[tuple[int, Any], ...]
) -> Moments:
    order: list[int] = []
    found: list[Moments] = []
    for smallest, inputs in rounds:
        chosen = tuple(
            i for i, size in enumerate(sizes) if size >= smallest and i not in order
        )
        order += chosen
        if chosen:
            # A power of 2, as the numbers of inputs are: no batch is cut short.
            room = max(1, _BUFFER // sum(sizes[i] for i in chosen))
            batch_size = min(128, 2 ** (room.bit_length() - 1))
            found.append(_stream(sample, chosen, batch_size, inputs))
    mean, variance = (
        jnp.concatenate(parts)[np.argsort(order)] for parts in zip(*found, strict=True)
    )
    return Moments(mean, variance)


def _stream(
    sample: Sampler, chosen: tuple[int, ...], batch_size: int, inputs: Any
) -> Moments:
    def measure(one: Any) -> tuple[Array, Array]:
        leaves = [wide(leaf).astype(float) for leaf in sample(one, chosen)]
        return (
            jnp.stack([leaf.mean() for leaf in leaves]),
            jnp.stack([leaf.var() for leaf in leaves]),
        )

    means, variances = jax.lax.map(measure, inputs, batch_size=batch_size)
    return Moments(means.mean(0), variances.mean(0) + means.var(0))


def initial_moments(make_leaves: Sampler, sizes: Sequence[int]) -> Moments:
    """Moments of what an initialiser draws.

    From 16,384 numbers or more for each leaf, but for small leaves beside very many
    others. The draws are always the same: the statistics are the initialiser's own, and
    an ensemble of generators, made by `eqx.filter_vmap`, needs them once.

    Args:
        make_leaves: Makes some of the leaves, given a key and their positions.
        sizes: How many entries each leaf has.

    Returns:
        The moments.
    """
    large = 256 if sum(sizes) > 1024 else sum(sizes) + 1
    small = sum(size for size in sizes if size < large)
    num_small = 2 ** min(14, max(10, (2**24 // max(small, 1)).bit_length() - 1))
    # These keys compile in half the time.
    key = jr.key(0, impl="rbg")
    rounds = [(large, _split(key, 64)), (1, _split(key, num_small))]
    return pooled_moments(make_leaves, sizes, rounds)


@functools.partial(jax.jit, static_argnums=1)
def _split(key: PRNGKeyArray, num: int) -> Key[Array, " num"]:
    return jr.split(key, num)


def standard_normal_sample(num: int, size: int) -> Float[Array, "num size"]:
    """A standard normal sample that is spread evenly along each coordinate.

    Latin hypercube: coordinate by coordinate, one point in each of `num` intervals of
    equal probability, at its middle. Averages over it scatter less than over a random
    one. Source: McKay, Beckman and Conover 1979.

    Args:
        num: How many points.
        size: How many coordinates.

    Returns:
        The sample, the same one at every call.
    """
    quantiles = scipy.special.ndtri((np.arange(num) + 0.5) / num)
    columns = np.broadcast_to(quantiles[:, None], (num, size))
    sample = np.random.default_rng(0).permuted(columns, axis=0)
    # `jnp.asarray` would compile a cast.
    return jax.device_put(sample.astype(jax.dtypes.canonicalize_dtype(float)))
