import math
from collections.abc import Mapping
from typing import final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import Layout, Slot, WeightSpace
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant, fan_in, split
from wsl.nn._dtypes import like, wide


class _Axes(NamedTuple):
    """How the slots of one leaf take part in attention over one of them.

    Attributes:
        along: The slots a token runs over: the one in question, and those of the blocks
            that hold it, outermost first.
        tokens: The slots that number the tokens.
        pooled: Slots that lie in blocks of `along`. Their indices mean nothing outside
            of their block, so that they can number no tokens.
    """

    along: tuple[int, ...]
    tokens: tuple[int, ...]
    pooled: tuple[int, ...]


@final
class WeightSpaceAttention(eqx.Module):
    """Attention between the rows and columns of weights that share a group.

    For a hidden layer of an MLP, with `n` units, the tokens are the columns of its own
    matrix, its bias, and the rows of the next matrix: all of them vectors over its
    units, with `d` channels at each. A token attends to all others; its query and a key
    are compared over units and channels together, and what it takes in is again a
    vector over the units:

        out[t, i] = sum_s softmax_s(sum_j q[t, j] . k[s, j] / sqrt(n d)) v[s, i]

    An entry of a matrix is in two tokens, one of each layer that it lies between, and
    also attends by itself to the means of all leaves (last term). The results of these
    terms, and of all heads, are concatenated and mixed by one linear map. This commutes
    with the permutations of hidden units. Unlike attention over the set of all weights
    it does not commute with others, such as those that move the rows of one matrix but
    not the columns of the next.

    In a general space, any slot of any leaf makes tokens for its group: vectors over
    the slot, one for each index of the other slots. A repeated axis makes two sets of
    tokens, rows and columns, which attend to each other. Vectors over a nested group
    run over all blocks and what is in them; a group of blocks sees the means over what
    they hold. Indices that nothing may move are folded into the channels. Queries, keys
    and values have coefficients of their own for every leaf and slot, so that no
    encoding of layers is needed to tell them apart.

    Source: Zhou et al. 2023 (NFT), weight-space self-attention. There all leaves share
    coefficients, told apart by layer encodings; and the last term attends to every
    single weight, which costs the square of their number. Here it attends to one mean
    for each leaf.

    Cost: for a group of `n` indices with `T` tokens, `T^2 n d` operations and `T^2`
    memory for each head. In an MLP `T` is the sum of the two neighbouring widths, plus
    1 (a neighbour that is fixed makes one token in all). The last term costs `d`
    operations for each weight and leaf.

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf.
        num_heads: Number of heads.
        head_channels: Channels of a query at one index, in one head.
        inputs: For each leaf, the map to queries, keys and values of all slots, and
            the query of the last term.
        summaries: For each leaf, the map from its mean to the last term's key and
            value.
        outputs: For each leaf, the map from all terms to channels.
        biases: For each leaf, what is added to its folded channels.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    num_heads: int = eqx.field(static=True)
    head_channels: int = eqx.field(static=True)
    inputs: tuple[Float[Array, "_folded _projections"], ...]
    summaries: tuple[Float[Array, "_folded _projections"], ...]
    outputs: tuple[Float[Array, "_terms _folded"], ...]
    biases: tuple[Float[Array, " _folded"], ...]

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        num_heads: int,
        *,
        head_channels: int | None = None,
        key: PRNGKeyArray,
    ):
        """Makes the layer.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            num_heads: Number of heads.
            head_channels: Channels of a query at one index, in one head. Unless given,
                the channels divided by the number of heads.
            key: Source of randomness.

        Raises:
            ValueError: If `channels` does not fit the space, a number is not positive,
                or the channels cannot be divided into heads.
        """
        self.space = space
        self.channels = per_leaf(space, channels)
        if head_channels is None:
            widest = max(self.channels, default=num_heads)
            if num_heads < 1 or widest % num_heads:
                raise ValueError(
                    f"{widest} channels cannot be divided into {num_heads} heads; give "
                    "`head_channels`."
                )
            head_channels = widest // num_heads
        if min(num_heads, head_channels) < 1:
            raise ValueError(
                f"Numbers must be positive; got num_heads={num_heads}, "
                f"head_channels={head_channels}."
            )
        self.num_heads = num_heads
        self.head_channels = head_channels
        width = num_heads * head_channels
        inputs, summaries, outputs, biases = [], [], [], []
        keys = split(key, len(self.channels))
        for leaf_key, leaf, count in zip(
            keys, space.pieces, self.channels, strict=True
        ):
            input_key, summary_key, output_key = split(leaf_key, 3)
            folded, terms = leaf.layout.fixed * count, len(leaf.slots) + 1
            inputs.append(fan_in(input_key, folded, (3 * terms - 2) * width))
            summaries.append(fan_in(summary_key, folded, 2 * width))
            outputs.append(fan_in(output_key, terms * width, folded))
            biases.append(constant(0.0, folded))
        self.inputs, self.summaries = tuple(inputs), tuple(summaries)
        self.outputs, self.biases = tuple(outputs), tuple(biases)

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Attends.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes. Leaves of different dtypes are
            compared in their promoted dtype.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        leaves = self.space.cut_features(features, self.channels)
        if not leaves:
            return features
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*leaves)
        all_layouts = tuple(leaf.layout for leaf in self.space.pieces)
        folded = [
            layout.fold(leaf.astype(dtype))
            for leaf, layout in zip(leaves, all_layouts, strict=True)
        ]
        heads = (self.num_heads, self.head_channels)
        projected = [
            (x @ w.astype(dtype)).reshape(*x.shape[:-1], -1, *heads)
            for x, w in zip(folded, self.inputs, strict=True)
        ]
        terms = self._between_slots(projected, all_layouts)
        means = [
            x.mean(tuple(range(x.ndim - 1))) @ w.astype(dtype)
            for x, w in zip(folded, self.summaries, strict=True)
        ]
        keys, values = jnp.moveaxis(jnp.stack(means).reshape(-1, 2, *heads), 1, 0)
        results = []
        for i, (leaf, layout) in enumerate(zip(leaves, all_layouts, strict=True)):
            query = projected[i][..., -1, :, :]
            seen = _attend(query.reshape(-1, 1, *heads), keys[:, None], values[:, None])
            joined = jnp.stack([*terms[i], seen.reshape(query.shape)], axis=-3)
            mixed = joined.reshape(*layout.slot_sizes, -1)
            mixed = mixed @ self.outputs[i].astype(dtype)
            mixed = mixed + like(self.biases[i], mixed)
            results.append(layout.unfold(mixed).astype(leaf.dtype))
        return self.space.join_features(results)

    def _between_slots(
        self, projected: list[Array], all_layouts: tuple[Layout, ...]
    ) -> list[list[Array]]:
        """For each leaf and each of its slots, what the slot's tokens take in."""
        terms: list[list[Array]] = [[] for _ in projected]
        taken: dict[tuple[int, int], Array] = {}
        for group in self.space.groups:
            members = [
                (i, s, _axes(layout.slots, s))
                for i, layout in enumerate(all_layouts)
                for s, slot in enumerate(layout.slots)
                if slot.group == group
            ]
            tokens = [
                _tokens(projected[i][..., 3 * s : 3 * s + 3, :, :], axes)
                for i, s, axes in members
            ]
            q, k, v = jnp.moveaxis(jnp.concatenate(tokens), 2, 0)
            attended = _attend(q, k, v)
            start = 0
            for (i, s, axes), token in zip(members, tokens, strict=True):
                part = attended[start : start + len(token)]
                start += len(token)
                taken[i, s] = _spread(part, axes, all_layouts[i].slot_sizes)
        for i, layout in enumerate(all_layouts):
            terms[i] = [taken[i, s] for s in range(len(layout.slots))]
        return terms


def _axes(slots: tuple[Slot, ...], at: int) -> _Axes:
    along = (*_blocks(slots, at), at)
    others = [s for s in range(len(slots)) if s not in along]
    pooled = [s for s in others if set(_blocks(slots, s)) & set(along)]
    return _Axes(along, tuple(s for s in others if s not in pooled), tuple(pooled))


def _blocks(slots: tuple[Slot, ...], at: int) -> tuple[int, ...]:
    """The slots of the blocks that hold this one, outermost first."""
    parent = slots[at].parent
    return () if parent is None else (*_blocks(slots, parent), parent)


def _tokens(x: Array, axes: _Axes) -> Array:
    """Features as `(num_tokens, length, ...)`, from `(*slot_sizes, ...)`."""
    x = x.mean(axes.pooled, keepdims=True)
    trailing = range(sum(map(len, axes)), x.ndim)
    x = x.transpose(*axes.tokens, *axes.along, *axes.pooled, *trailing)
    split, stop = len(axes.tokens), len(axes.tokens) + len(axes.along)
    numbers, along = math.prod(x.shape[:split]), math.prod(x.shape[split:stop])
    return x.reshape(numbers, along, *(x.shape[t] for t in trailing))


def _spread(tokens: Array, axes: _Axes, sizes: tuple[int, ...]) -> Array:
    """Inverse of `_tokens`; what was pooled is the same everywhere."""
    trailing = tokens.shape[2:]
    order = (*axes.tokens, *axes.along, *axes.pooled)
    shape = [1 if s in axes.pooled else sizes[s] for s in order]
    x = tokens.reshape(*shape, *trailing)
    back = sorted(range(len(order)), key=order.__getitem__)
    x = x.transpose(*back, *range(len(order), x.ndim))
    return jnp.broadcast_to(x, (*sizes, *trailing))


def _attend(
    q: Float[Array, "tokens length heads channels"],
    k: Float[Array, "others length heads channels"],
    v: Float[Array, "others length heads channels"],
) -> Float[Array, "tokens length heads channels"]:
    scores = jnp.einsum("tnhd,snhd->hts", q, k) / math.sqrt(q.shape[1] * q.shape[3])
    weights = jax.nn.softmax(wide(scores), axis=-1).astype(v.dtype)
    return jnp.einsum("hts,snhd->tnhd", weights, v)
