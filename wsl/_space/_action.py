"""How group elements act on one leaf, and on one another, in NumPy or in JAX.

What is made of NumPy arrays alone stays in NumPy, in its precision.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from wsl._space._axes import Factor, Slot
from wsl._space._leaf import Leaf


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


def enclosing(slot: Slot, slots: Sequence[Slot]) -> list[Slot]:
    """A slot and those of the blocks that hold it, outermost first."""
    chain = [slot]
    while (parent := chain[0].parent) is not None:
        chain.insert(0, slots[parent])
    return chain


def take(array: Any, dimensions: Sequence[int], permutation: Any) -> Any:
    """Permutes an array along the last of the dimensions, in each block of the others.

    Args:
        array: A NumPy or JAX array.
        dimensions: Axes of the enclosing blocks, outermost first, then the axis that
            is permuted.
        permutation: One permutation for every block, `(*blocks, n)`.

    Returns:
        The permuted array.
    """
    in_numpy = all(isinstance(x, np.ndarray) for x in (array, permutation))
    xp: Any = np if in_numpy else jnp
    if len(dimensions) == 1:
        return xp.take(array, permutation, axis=dimensions[0])
    order = sorted(range(len(dimensions)), key=dimensions.__getitem__)
    free = [d for d in range(array.ndim) if d not in dimensions]
    index = xp.expand_dims(permutation.transpose(order), free)
    return xp.take_along_axis(array, index, axis=dimensions[-1])


# On leaves.


def permute_factors(
    factors: Any,
    slots: Sequence[Slot],
    element: Mapping[str, Any],
    groups: Collection[str] | None = None,
) -> Any:
    """Acts on an array with an axis for every factor.

    Args:
        factors: The array.
        slots: The slots of the leaf; `dimension` is the axis of the array.
        element: A permutation for each group.
        groups: The groups to act with; None for all.

    Returns:
        The permuted array.
    """
    chains = [
        enclosing(slot, slots)
        for slot in slots
        if groups is None or slot.group in groups
    ]
    # Blocks first, so that what lies in them is permuted where it comes to lie.
    for chain in sorted(chains, key=len):
        dimensions = [slot.dimension for slot in chain]
        factors = take(factors, dimensions, element[chain[-1].group])
    return factors


def permute_leaf(
    array: Any,
    axes: Sequence[Sequence[Factor]],
    slots: Sequence[Slot],
    element: Mapping[str, Any],
) -> Any:
    """Acts on the leading axes of an array; what follows them goes along."""
    sizes = [factor.size for factors in axes for factor in factors]
    factors = array.reshape((*sizes, *array.shape[len(axes) :]))
    return permute_factors(factors, slots, element).reshape(array.shape)


def permute_leaves(
    leaves: Sequence[Leaf], arrays: Sequence[Any], element: Mapping[str, Any]
) -> list[Any]:
    """Acts on the arrays of a space's leaves."""
    return [
        permute_leaf(array, leaf.axes, leaf.slots, element)
        for leaf, array in zip(leaves, arrays, strict=True)
    ]


# On elements. `blocks` holds the groups of each group's blocks, outermost first.


def identity(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The element that moves nothing."""
    return {
        group: np.broadcast_to(np.arange(shape[-1]), shape)
        for group, shape in shapes.items()
    }


def sample(
    shapes: Mapping[str, tuple[int, ...]], random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draws an element uniformly."""
    return {
        group: random.permuted(unmoved, axis=-1)
        for group, unmoved in identity(shapes).items()
    }


def compose(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    blocks: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The element that acts as `first`, then `second`, on the groups of `blocks`."""
    return {
        group: _along(first[group], [second[name] for name in (*above, group)])
        for group, above in blocks.items()
    }


def inverse(
    element: Mapping[str, Any], blocks: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The element that undoes `element`."""
    found: dict[str, Any] = {}
    # What lies in a block comes after the block.
    for group in sorted(blocks, key=lambda group: len(blocks[group])):
        moved = _along(element[group], [found[block] for block in blocks[group]])
        found[group] = moved.argsort(axis=-1)
    return {group: found[group] for group in blocks}


def _along(permutations: Any, moves: Sequence[Any]) -> Any:
    """Permutations of nested blocks, moved by those of their leading axes in turn."""
    for axis, move in enumerate(moves):
        permutations = take(permutations, range(axis + 1), move)
    return permutations
