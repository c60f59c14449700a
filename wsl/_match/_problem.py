"""Two sets of weights, folded for matching: products, the action and its objective."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree

from wsl._action import ancestors
from wsl._layout import layouts
from wsl._take import take
from wsl._weight_space import WeightSpace


Permutations: TypeAlias = dict[str, np.ndarray]
Term: TypeAlias = tuple[tuple[str, ...], np.ndarray]
"""What it is worth to match indices of a chain of nested groups: their names, outermost
first, and an array of shape `(*sizes, *sizes)` over the indices in `a` and in `b`."""


class Pair(NamedTuple):
    """One leaf of both sets of weights, with the moving factors first.

    Attributes:
        a: The leaf of `a`, `(*slot_sizes, fixed)`.
        b: The leaf of `b`, of the same shape.
        groups: The group of each slot.
        parents: The slot that holds the index of its block, for each nested slot.
    """

    a: np.ndarray
    b: np.ndarray
    groups: tuple[str, ...]
    parents: tuple[int | None, ...]

    def above(self, slot: int) -> list[int]:
        """A slot and those of its blocks, outermost first."""
        chain: list[int] = [slot]
        while (parent := self.parents[chain[0]]) is not None:
            chain.insert(0, parent)
        return chain

    def chains(self, groups: Sequence[str]) -> list[list[int]]:
        """Innermost slots of the groups, each with those of its blocks."""
        return [
            self.above(slot)
            for slot, group in enumerate(self.groups)
            if group in groups and slot not in self.parents
        ]

    def permuted(
        self, element: Mapping[str, np.ndarray], groups: Sequence[str] | None = None
    ) -> np.ndarray:
        """The leaf of `b`, moved by an element, or only by some of its groups."""
        slots = [
            slot
            for slot, group in enumerate(self.groups)
            if groups is None or group in groups
        ]
        leaf = self.b
        for slot in sorted(slots, key=lambda slot: len(self.above(slot))):
            leaf = take(leaf, self.above(slot), element[self.groups[slot]])
        return leaf


class Problem(NamedTuple):
    """Weights to match.

    Attributes:
        pairs: The leaves that something moves.
        sizes: Sizes of the groups.
        families: For each outermost group, itself and all that is nested in it, blocks
            before what lies in them.
        children: For each group, the groups that are nested directly in it.
        blocks: For each group, the groups of its blocks, outermost first.
    """

    pairs: tuple[Pair, ...]
    sizes: dict[str, int]
    families: dict[str, list[str]]
    children: dict[str, list[str]]
    blocks: dict[str, list[str]]

    def identity(self) -> Permutations:
        return {
            group: np.broadcast_to(
                np.arange(size), (*(self.sizes[above] for above in blocks), size)
            )
            for (group, size), blocks in zip(
                self.sizes.items(), self.blocks.values(), strict=True
            )
        }

    def sample(self, random: np.random.Generator) -> Permutations:
        return {
            group: random.permuted(unmoved, axis=-1)
            for group, unmoved in self.identity().items()
        }

    def compose(
        self, first: Permutations, second: Permutations, groups: Sequence[str]
    ) -> Permutations:
        """Acts as `first`, then on some groups as `second`."""
        result = dict(first)
        for group in groups:
            moved = first[group]
            for axis, block in enumerate(self.blocks[group]):
                moved = take(moved, list(range(axis + 1)), second[block])
            result[group] = np.take_along_axis(moved, second[group], axis=-1)
        return result

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


def make_problem(space: WeightSpace, a: PyTree, b: PyTree) -> Problem:
    """Folds two sets of weights, in double precision.

    Raises:
        ValueError: If weights are not of the space, or not finite.
    """
    pairs = []
    both = zip(_leaves(space, a, "a"), _leaves(space, b, "b"), strict=True)
    for layout, (of_a, of_b) in zip(layouts(space), both, strict=True):
        if not layout.slots:
            continue
        shape = (*layout.slot_sizes, layout.fixed)
        of_a, of_b = (
            leaf.reshape(layout.sizes).transpose(layout.order).reshape(shape)
            for leaf in (of_a, of_b)
        )
        groups = tuple(slot.group for slot in layout.slots)
        parents = tuple(slot.parent for slot in layout.slots)
        pairs.append(Pair(of_a, of_b, groups, parents))
    nested = dict(space.nested)
    blocks = {group: ancestors(group, nested) for group in space.groups}
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
    return Problem(tuple(pairs), space.groups, families, children, blocks)


def _leaves(space: WeightSpace, weights: PyTree, name: str) -> list[np.ndarray]:
    # Says which leaf does not fit.
    weights = space.permute(weights, space.identity())
    paths = {jax.tree_util.keystr(p): x for p, x in jax.tree.leaves_with_path(weights)}
    leaves = [np.asarray(paths[path]).astype(float) for path in space.paths]
    for path, leaf in zip(space.paths, leaves, strict=True):
        if not np.isfinite(leaf).all():
            raise ValueError(f"Not all of leaf {path!r} of `{name}` are finite.")
    return leaves


def gram(a: np.ndarray, b: np.ndarray, dimensions: Sequence[int]) -> np.ndarray:
    """Inner products of all slices of `a` with all slices of `b`."""
    sizes = [a.shape[d] for d in dimensions]
    front = range(len(sizes))
    rows = [
        np.moveaxis(array, dimensions, front).reshape((math.prod(sizes), -1))
        for array in (a, b)
    ]
    return (rows[0] @ rows[1].T).reshape((*sizes, *sizes))
