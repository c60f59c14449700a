"""How a group element acts on one leaf, and on other elements."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Int

from wsl._axes import Factor, Slot


GroupElement: TypeAlias = dict[str, Int[Array, "..."]]
"""Permutations of the indices of each group of a space, by the group's name: an array
of shape `(n,)`, or for a nested group, with one for every block, `(*blocks, n)`."""


def ancestors(group: str, nested: Mapping[str, str]) -> list[str]:
    """The groups whose blocks hold this one, outermost first."""
    above: list[str] = []
    while (block := nested.get(group)) is not None and block not in above:
        above.insert(0, block)
        group = block
    return above


def move_blocks(
    permutations: Int[Array, "..."], indices: Sequence[Int[Array, "..."]]
) -> Int[Array, "..."]:
    """The permutations inside each block, where the block comes to lie.

    Args:
        permutations: One permutation for every block, `(*blocks, n)`.
        indices: The permutations of the enclosing blocks, outermost first.

    Returns:
        An array of the same shape.
    """
    for axis, index in enumerate(indices):
        index = index.reshape(index.shape + (1,) * (permutations.ndim - index.ndim))
        permutations = jnp.take_along_axis(permutations, index, axis=axis)
    return permutations


def permute_leaf(
    leaf: Array,
    axes: Sequence[Sequence[Factor]],
    slots: Sequence[Slot],
    element: GroupElement,
) -> Array:
    """Acts on the leading axes of a leaf; what follows them goes along."""
    shape = leaf.shape
    trailing = shape[len(axes) :]
    leaf = leaf.reshape(*(f.size for factors in axes for f in factors), *trailing)
    # Blocks first, so that what lies in them is permuted where it comes to lie.
    for slot in sorted(slots, key=lambda slot: len(_enclosing(slot, slots))):
        dimensions = [s.dimension for s in (*_enclosing(slot, slots), slot)]
        index = element[slot.group]
        if len(dimensions) == 1:
            leaf = jnp.take(leaf, index, axis=slot.dimension)
        else:
            order = sorted(range(len(dimensions)), key=dimensions.__getitem__)
            free = [d for d in range(leaf.ndim) if d not in dimensions]
            index = jnp.expand_dims(jnp.transpose(index, order), free)
            leaf = jnp.take_along_axis(leaf, index, axis=slot.dimension)
    return leaf.reshape(shape)


def _enclosing(slot: Slot, slots: Sequence[Slot]) -> list[Slot]:
    """The slots of the blocks that hold this one, outermost first."""
    above: list[Slot] = []
    while slot.parent is not None:
        slot = slots[slot.parent]
        above.insert(0, slot)
    return above
