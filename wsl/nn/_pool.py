import math
from collections.abc import Mapping
from typing import final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import Layout, WeightSpace
from wsl.nn._basis import Blocks, Index, partitions
from wsl.nn._basis_apply import diagonal
from wsl.nn._channels import per_leaf
from wsl.nn._draw import normal, split
from wsl.nn._dtypes import wide


@final
class InvariantPool(eqx.Module):
    """Reduces weight features to a vector that no permutation changes.

    Each leaf is reduced over the entries that may move, for each channel and each index
    that may not; all results are concatenated. Where a leaf has several axes of one
    group (recurrent weights), its diagonals are reduced too: once for each way to set
    some of these axes equal, so that for the mean the results span all invariant linear
    functionals. Their number per leaf, channel and fixed index is a product of Bell
    numbers, one for each group, of how many axes it has there (1, 2, 5, 15, ...).

    Attention weighs entries by a softmax: with the features `x_i` of entry `i` (its
    channels, at all fixed indices) and a learned query `q`, the result is
    `sum_i softmax_i(q . x_i) x_i`. Projections to keys and values would add nothing:
    the one is part of the query, the other of the linear layer that follows.

    Source: Zhou et al. 2023 (NFN), invariant layers, for mean and max; Zhou et al. 2023
    (NFT), weight-space cross-attention, where queries attend to all leaves together;
    here each leaf has its own.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> weights = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
        >>> space = wsl.WeightSpace.from_spec(weights, {"['w']": ("h", "h")})
        >>> pool = wsl.nn.InvariantPool(space, 1, "max")
        >>> pool.num_features  # the diagonal, and the whole matrix
        2
        >>> pool(wsl.nn.lift(space, weights))
        Array([4., 4.], dtype=float32)

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf.
        reduction: How entries are reduced.
        queries: For each leaf, the queries of attention, `(num_diagonals, num_queries,
            fixed * channels)`; None for other reductions.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    reduction: str = eqx.field(static=True)
    queries: tuple[Float[Array, "_num_diagonals num_queries _size"], ...] | None

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        reduction: Literal["mean", "max", "attention"] = "mean",
        *,
        num_queries: int = 1,
        key: PRNGKeyArray | None = None,
    ):
        """Makes the layer.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            reduction: How entries are reduced.
            num_queries: How many queries each leaf has, for attention.
            key: Source of randomness, for attention.

        Raises:
            ValueError: If `channels` does not fit the space, `reduction` is none of
                these, `num_queries` is not positive, or attention has no key.
        """
        if reduction not in ("mean", "max", "attention"):
            raise ValueError(
                f'`reduction` must be "mean", "max" or "attention"; got {reduction!r}.'
            )
        self.space = space
        self.channels = per_leaf(space, channels)
        self.reduction = reduction
        self.queries = None
        if reduction == "attention":
            if key is None:
                raise ValueError("Pooling by attention needs a key.")
            if num_queries < 1:
                raise ValueError(f"`num_queries` must be positive; got {num_queries}.")
            keys = split(key, len(self.channels))
            self.queries = tuple(
                normal(subkey, (parts, num_queries, size), 1 / math.sqrt(size))
                for subkey, (parts, size) in zip(keys, self._sizes(), strict=True)
            )

    @property
    def num_features(self) -> int:
        """Length of the vector."""
        times = self.queries[0].shape[1] if self.queries else 1
        return times * sum(parts * size for parts, size in self._sizes())

    def __call__(
        self, features: PyTree, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " features"]:
        """Pools one weight set's features.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            A vector, for each leaf, for each of its diagonals (the whole leaf last),
            for each query, the fixed factors in row-major order and the channels. Of
            the promoted dtype of all leaves.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        arrays = self.space.cut_features(features, self.channels)
        pooled = []
        for i, (leaf, array) in enumerate(zip(self.space.pieces, arrays, strict=True)):
            folded = leaf.layout.fold(array)
            for j, blocks in enumerate(_diagonals(leaf.layout)):
                entries = diagonal(folded, blocks)
                entries = entries.reshape(-1, entries.shape[-1])
                query = None if self.queries is None else self.queries[i][j]
                pooled.append(_reduce(entries, self.reduction, query))
        with jax.numpy_dtype_promotion("standard"):
            return jnp.concatenate(pooled) if pooled else jnp.zeros(0)

    def _sizes(self) -> list[tuple[int, int]]:
        """For each leaf, how many diagonals, and how many numbers at each entry."""
        return [
            (len(_diagonals(leaf.layout)), leaf.layout.fixed * count)
            for leaf, count in zip(self.space.pieces, self.channels, strict=True)
        ]


def _diagonals(layout: Layout) -> list[Blocks]:
    """Which slots to set equal; last, none."""
    return partitions(tuple(Index(slot.group, slot.parent) for slot in layout.slots))


def _reduce(entries: Array, reduction: str, query: Array | None) -> Array:
    x = wide(entries)
    if query is not None:
        weights = jax.nn.softmax(query.astype(x.dtype) @ x.T, axis=-1)
        pooled = (weights @ x).ravel()
    else:
        pooled = x.max(0) if reduction == "max" else x.mean(0)
    return pooled.astype(entries.dtype)
