from collections.abc import Mapping
from typing import final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant
from wsl.nn._dtypes import like, wide


@final
class ChannelNorm(eqx.Module):
    """Layer norm over the channels of each entry.

    Entries do not see each other, so it commutes with every permutation. Mean and
    variance are those of the entry's channels (the variance is the biased one: with a
    single channel it is 0, and the result is the offset alone). Scale and offset are
    learned, for each leaf and channel.

    Source: Ba et al. 2016, eq. 3, at every entry, as in Zhou et al. 2023 (NFT).

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf.
        scales: For each leaf, one factor for every channel.
        offsets: For each leaf, one summand for every channel.
        epsilon: Added to the variance.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    scales: tuple[Float[Array, " _channels"], ...]
    offsets: tuple[Float[Array, " _channels"], ...]
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        *,
        epsilon: float = 1e-5,
    ):
        """Makes the layer, with scales 1 and offsets 0.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            epsilon: Added to the variance.

        Raises:
            ValueError: If `channels` does not fit the space.
        """
        self.space = space
        self.channels = per_leaf(space, channels)
        self.scales, self.offsets = _affine(self.channels)
        self.epsilon = epsilon

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Normalises.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        leaves = self.space.cut_features(features, self.channels)
        normed = [
            _normalise(leaf, (-1,), scale, offset, self.epsilon)
            for leaf, scale, offset in zip(
                leaves, self.scales, self.offsets, strict=True
            )
        ]
        return self.space.join_features(normed)


@final
class LeafNorm(eqx.Module):
    """Normalises each leaf by statistics of its own entries, in one weight set.

    Statistics are taken over whole orbits of the group, never at single coordinates:
    those would tell one hidden unit from another, and break the symmetry. Either over
    all entries and channels of a leaf (`"leaf"`, a group norm with one group), or at
    each channel and each index that cannot move over the entries that can (`"orbit"`,
    an instance norm). A set of a single number has no statistics, and is left as it is.
    Scale and offset are learned, for each leaf and channel.

    Source: Wu and He 2018 (group norm) for `"leaf"`; Ulyanov et al. 2016 (instance
    norm) for `"orbit"`.

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf.
        scales: For each leaf, one factor for every channel.
        offsets: For each leaf, one summand for every channel.
        over: What the statistics are taken over.
        epsilon: Added to the variance.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    scales: tuple[Float[Array, " _channels"], ...]
    offsets: tuple[Float[Array, " _channels"], ...]
    over: str = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        *,
        over: Literal["leaf", "orbit"] = "leaf",
        epsilon: float = 1e-5,
    ):
        """Makes the layer, with scales 1 and offsets 0.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            over: What the statistics are taken over.
            epsilon: Added to the variance.

        Raises:
            ValueError: If `channels` does not fit the space or `over` is neither.
        """
        if over not in ("leaf", "orbit"):
            raise ValueError(f'`over` must be "leaf" or "orbit"; got {over!r}.')
        self.space = space
        self.channels = per_leaf(space, channels)
        self.scales, self.offsets = _affine(self.channels)
        self.over = over
        self.epsilon = epsilon

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Normalises.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        arrays = self.space.cut_features(features, self.channels)
        normed = []
        for i, (leaf, array) in enumerate(zip(self.space.pieces, arrays, strict=True)):
            layout = leaf.layout
            whole = self.over == "leaf"
            folded = array if whole else layout.fold(array)
            axes = tuple(range(array.ndim if whole else len(layout.slots)))
            times = 1 if whole else layout.fixed
            folded = _normalise(
                folded,
                axes,
                jnp.tile(self.scales[i], times),
                jnp.tile(self.offsets[i], times),
                self.epsilon,
            )
            normed.append(folded if whole else layout.unfold(folded))
        return self.space.join_features(normed)


def _affine(
    channels: tuple[int, ...],
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    scales = tuple(constant(1.0, count) for count in channels)
    return scales, tuple(constant(0.0, count) for count in channels)


def _normalise(
    leaf: Array, axes: tuple[int, ...], scale: Array, offset: Array, epsilon: float
) -> Array:
    x = wide(leaf)
    if axes == (-1,) or np.prod([x.shape[axis] for axis in axes]) > 1:
        centred = x - jnp.mean(x, axes, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
        x = centred * jax.lax.rsqrt(variance + epsilon)
    return (x * like(scale, x) + like(offset, x)).astype(leaf.dtype)
