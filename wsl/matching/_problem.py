"""Two sets of weights, folded for matching: products, the action and its objective."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wsl._space import (
    compose,
    enclosing,
    identity,
    Layout,
    permute_factors,
    sample,
    Slot,
    WeightSpace,
)


Permutations: TypeAlias = dict[str, np.ndarray]
Term: TypeAlias = tuple[tuple[str, ...], np.ndarray]
"""What it is worth to match indices of a chain of nested groups: their names, outermost
first, and an array of shape `(*sizes, *sizes)` over the indices in `a` and in `b`."""


class Pair(NamedTuple):
    """One leaf of both sets of weights, with the moving factors first.

    Attributes:
        a: The leaf of `a`, `(*slot_sizes, fixed)`.
        b: The leaf of `b`, of the same shape.
        slots: The slots, each on the axis of its place among them.
    """

    a: np.ndarray
    b: np.ndarray
    slots: tuple[Slot, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each slot."""
        return tuple(slot.group for slot in self.slots)

    def chains(self, groups: Sequence[str]) -> list[list[int]]:
        """Innermost slots of the groups, each below those of its blocks."""
        parents = {slot.parent for slot in self.slots}
        return [
            [above.dimension for above in enclosing(slot, self.slots)]
            for slot in self.slots
            if slot.group in groups and slot.dimension not in parents
        ]

    def permuted(
        self, element: Mapping[str, np.ndarray], groups: Sequence[str] | None = None
    ) -> np.ndarray:
        """The leaf of `b`, moved by an element, or only by some of its groups."""
        return permute_factors(self.b, self.slots, element, groups)


class Problem(NamedTuple):
    """Weights to match.

    Attributes:
        pairs: The leaves that something moves.
        sizes: Sizes of the groups.
        shapes: Shapes of their permutations.
        families: For each outermost group, itself and all that is nested in it, blocks
            before what lies in them.
        children: For each group, the groups that are nested directly in it.
        blocks: For each group, the groups of its blocks, outermost first.
    """

    pairs: tuple[Pair, ...]
    sizes: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    families: dict[str, list[str]]
    children: dict[str, list[str]]
    blocks: dict[str, tuple[str, ...]]

    def identity(self) -> Permutations:
        return identity(self.shapes)

    def sample(self, random: np.random.Generator) -> Permutations:
        return sample(self.shapes, random)

    def compose(
        self, first: Permutations, second: Permutations, groups: Sequence[str]
    ) -> Permutations:
        """Acts as `first`, then on some groups as `second`."""
        moving = {group: self.blocks[group] for group in groups}
        return first | compose(first, second, moving)

    def touched(self, groups: Sequence[str]) -> list[Pair]:
        return [pair for pair in self.pairs if set(pair.groups) & set(groups)]

    def value(
        self, element: Mapping[str, np.ndarray], groups: Sequence[str] | None = None
    ) -> float:
        """Inner product of `a` with `b` moved, over the leaves of some groups."""
        pairs = self.pairs if groups is None else self.touched(groups)
        return float(sum(np.vdot(pair.a, pair.permuted(element)) for pair in pairs))

    def terms(self, root: str, element: Mapping[str, np.ndarray]) -> list[Term]:
        """Gains of moving a family further, to first order.

        Exact where no leaf has the family on more than one chain of axes.
        """
        family, terms = self.families[root], []
        for pair in self.touched(family):
            b = pair.permuted(element)
            for chain in pair.chains(family):
                names = tuple(pair.groups[slot] for slot in chain)
                terms.append((names, gram(pair.a, b, chain)))
        return terms

    def is_repeated(self, root: str) -> bool:
        """Whether a leaf has the family on more than one chain of axes."""
        family = self.families[root]
        return any(len(pair.chains(family)) > 1 for pair in self.pairs)


def finite_arrays(space: WeightSpace, weights: PyTree, name: str) -> list[np.ndarray]:
    """The pieces of weights in double precision.

    Raises:
        ValueError: If the weights are not of the space, or not finite.
    """
    arrays = [
        np.asarray(jnp.asarray(array)).astype(float)
        for array in space.weight_leaves(weights)
    ]
    for leaf, array in zip(space.leaves, arrays, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(f"Not all of leaf {leaf.path!r} of `{name}` are finite.")
    return space.cut(arrays)


def make_problem(
    space: WeightSpace, a: Sequence[np.ndarray], b: Sequence[np.ndarray]
) -> Problem:
    """Folds the pieces of two sets of weights."""
    pairs = []
    for leaf, mine, other in zip(space.pieces, a, b, strict=True):
        if leaf.slots:
            pairs.append(fold_pair(mine, other, leaf.slots, leaf.layout.sizes))
    nested, blocks = dict(space.nested), space.blocks
    by_depth = sorted(space.groups, key=lambda group: len(blocks[group]))
    families = {
        root: [group for group in by_depth if root in (group, *blocks[group])]
        for root in space.groups
        if root not in nested
    }
    children = {
        group: [child for child, block in space.nested if block == group]
        for group in space.groups
    }
    sizes, shapes = space.groups, space.element_shapes()
    return Problem(tuple(pairs), sizes, shapes, families, children, blocks)


def fold_pair(
    a: np.ndarray, b: np.ndarray, slots: Sequence[Slot], sizes: Sequence[int]
) -> Pair:
    """Two arrays of one form, with what moves first and all the rest in one axis."""
    layout = Layout(tuple(slots), tuple(sizes), a.shape)
    folded = [
        array.reshape(layout.sizes)
        .transpose(layout.order)
        .reshape((*layout.slot_sizes, layout.fixed))
        for array in (a, b)
    ]
    places = [slot._replace(dimension=i) for i, slot in enumerate(slots)]
    return Pair(folded[0], folded[1], tuple(places))


def gram(a: np.ndarray, b: np.ndarray, dimensions: Sequence[int]) -> np.ndarray:
    """Inner products of all slices of `a` with all slices of `b`."""
    sizes = [a.shape[d] for d in dimensions]
    front = range(len(sizes))
    rows = [
        np.moveaxis(array, dimensions, front).reshape((math.prod(sizes), -1))
        for array in (a, b)
    ]
    return (rows[0] @ rows[1].T).reshape((*sizes, *sizes))
