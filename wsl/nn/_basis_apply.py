"""Pooling a tensor in all the ways of a basis at once, and the way back."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from wsl.nn._basis import Blocks, Form, Pattern


Part: TypeAlias = tuple[Blocks, tuple[int, ...]]
"""A pattern up to the order of what it keeps: the blocks, and those kept, ascending."""


def pool(
    tensor: Float[Array, "..."], form: Form, wanted: Sequence[Pattern]
) -> list[Float[Array, "..."]]:
    """Pools one tensor by several patterns; each diagonal and each mean is made once.

    Args:
        tensor: Shape `(*sizes, channels)`, with the indices of `form`.
        form: Its indices.
        wanted: The patterns.

    Returns:
        For each pattern the means over the blocks that it does not keep, its axes in
        the order of those that it keeps.
    """
    made: dict[Part, Array] = {}

    def get(blocks: Blocks, kept: tuple[int, ...]) -> Array:
        if (blocks, kept) not in made:
            if len(kept) == len(blocks):
                made[blocks, kept] = diagonal(tensor, blocks)
            else:
                more = _larger(form, blocks, kept)
                smallest = min(more, key=lambda b: tensor.shape[blocks[b][0]])
                longer = tuple(sorted((*kept, smallest)))
                mean = get(blocks, longer).mean(longer.index(smallest))
                made[blocks, kept] = mean
        return made[blocks, kept]

    pooled = []
    for blocks, kept in wanted:
        ascending = tuple(sorted(kept))
        array = get(blocks, ascending)
        pooled.append(_transpose(array, [ascending.index(b) for b in kept]))
    return pooled


def broadcast(
    parts: Mapping[Part, Float[Array, "..."]], form: Form, sizes: Sequence[int]
) -> Float[Array, "..."]:
    """Sums what is broadcast to one tensor: small to larger, and diagonals last.

    Args:
        parts: For each part a tensor over its kept blocks, in ascending order.
        form: The indices of the result.
        sizes: Their sizes.

    Returns:
        A tensor of shape `(*sizes, channels)`.
    """
    finest = tuple((i,) for i in range(len(form)))
    total = None
    # The finest partition last: on it there is nothing to place.
    for blocks in sorted({blocks for blocks, _ in parts}, key=finest.__eq__):
        sums = {kept: part for (b, kept), part in parts.items() if b == blocks}
        every = tuple(range(len(blocks)))
        for count in range(len(blocks)):
            for kept in [k for k in sums if len(k) == count]:
                part = sums.pop(kept)
                larger = [
                    tuple(sorted((*kept, b))) for b in _larger(form, blocks, kept)
                ]
                known = [k for k in larger if k in sums] or [every]
                target = min(known, key=lambda k: _size(k, blocks, sizes))
                axes = [axis for axis, b in enumerate(target) if b not in kept]
                part = jnp.expand_dims(part, axes)
                if target in sums:
                    part = sums[target] + part
                sums[target] = part
        shape = tuple(sizes[block[0]] for block in blocks)
        part = sums[every]
        part = jnp.broadcast_to(part, (*shape, part.shape[-1]))
        placed = place_diagonal(part, blocks)
        total = placed if total is None else total + placed
    assert total is not None
    return total


def diagonal(tensor: Float[Array, "..."], blocks: Blocks) -> Float[Array, "..."]:
    """The entries whose indices in each block are equal: one axis for each block."""
    tensor = _transpose(tensor, [i for block in blocks for i in block])
    for axis, block in enumerate(blocks):
        size, count = tensor.shape[axis], len(block)
        if count > 1:
            shape = (*tensor.shape[:axis], size**count, *tensor.shape[axis + count :])
            step = sum(size**power for power in range(count))
            tensor = lax.slice_in_dim(tensor.reshape(shape), 0, None, step, axis)
    return tensor


def place_diagonal(tensor: Float[Array, "..."], blocks: Blocks) -> Float[Array, "..."]:
    """A tensor that is `tensor` on the diagonal and zero off it.

    Undoes [`diagonal`][wsl.nn._basis_apply.diagonal] there.
    """
    # From the last block, so that the axes before it stay where they are.
    for axis in reversed(range(len(blocks))):
        count, size = len(blocks[axis]), tensor.shape[axis]
        if count > 1:
            step = sum(size**power for power in range(count))
            pads = [(0, 0, 0)] * tensor.ndim
            pads[axis] = (0, 0, step - 1)
            tensor = lax.pad(tensor, jnp.zeros((), tensor.dtype), pads)
            split = (size,) * count
            tensor = tensor.reshape(
                *tensor.shape[:axis], *split, *tensor.shape[axis + 1 :]
            )
    members = [i for block in blocks for i in block]
    return _transpose(tensor, [members.index(i) for i in range(len(members))])


def ascending(pattern: Pattern, tensor: Float[Array, "..."]) -> tuple[Part, Array]:
    """A tensor over a pattern's kept blocks, with these in ascending order."""
    kept = tuple(sorted(pattern.kept))
    order = [pattern.kept.index(b) for b in kept]
    return (pattern.blocks, kept), _transpose(tensor, order)


def _transpose(tensor: Array, order: Sequence[int]) -> Array:
    """The axes before the channels in another order."""
    if list(order) == sorted(order):
        return tensor
    return tensor.transpose(*order, len(order))


def _larger(form: Form, blocks: Blocks, kept: tuple[int, ...]) -> list[int]:
    """The blocks that may be kept next, with the blocks they are nested in."""
    home = {member: b for b, block in enumerate(blocks) for member in block}
    parents = [form[block[0]].parent for block in blocks]
    return [
        b
        for b, parent in enumerate(parents)
        if b not in kept and (parent is None or home[parent] in kept)
    ]


def _size(kept: tuple[int, ...], blocks: Blocks, sizes: Sequence[int]) -> int:
    size = 1
    for b in kept:
        size *= sizes[blocks[b][0]]
    return size
