"""From what an inference found to the leaves of a weight space."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsl._infer._analyse import Analysis
from wsl._infer._grid import Cuts, Key, keys, stops
from wsl._infer._parts import Axis
from wsl._infer._store import IndexSets
from wsl._space import Factor, Leaf, make_piece


class LeafCuts(NamedTuple):
    """How a leaf is cut.

    Attributes:
        axes: How each axis is.
        inputs: Which leaf of the analysis each block is, in the order of `keys`.
    """

    axes: tuple[Cuts, ...]
    inputs: range

    @property
    def dims(self) -> Cuts:
        """The dimensions of all axes, in order."""
        return tuple(dim for axis in self.axes for dim in axis)


class Names:
    """Names of index sets, in order of appearance.

    Attributes:
        of: The name of each set.
        reasons: For names of fixed sets, why they are.
    """

    of: dict[int, str]
    reasons: dict[str, str]

    def __init__(self, sets: IndexSets):
        """Starts without names."""
        self.of, self.reasons = {}, {}
        self._sets = sets

    def factors(self, axis: Axis) -> list[Factor]:
        """The named factors of an axis; one of length 0 or 1 has none."""
        found = []
        for part in axis:
            if part.index_set is None:
                continue
            if part.index_set not in self.of:
                reason = self._sets.reason(part.index_set)
                if reason is None:
                    name = f"g{len(self.of) - len(self.reasons)}"
                else:
                    name = f"f{len(self.reasons)}"
                    self.reasons[name] = reason.text
                self.of[part.index_set] = name
            found.append(Factor(part.size, self.of[part.index_set]))
        return found


def describe(leaf: Leaf, cuts: LeafCuts, analysis: Analysis, names: Names) -> Leaf:
    """A leaf with the names on its axes, or on those of its pieces."""
    blocks = dict(zip(keys(cuts.dims), cuts.inputs, strict=True))

    def axes(key: Key) -> list[tuple[Factor, ...]]:
        found, parts = [], iter(analysis.leaves[blocks[key]].axes)
        for axis, _ in zip(cuts.axes, leaf.shape, strict=True):
            found.append(tuple(f for _ in axis for f in names.factors(next(parts))))
        return found

    if len(blocks) == 1:
        (key,) = blocks
        named = zip(leaf.axes, axes(key), strict=True)
        return dataclasses.replace(leaf, axes=tuple(new or old for old, new in named))
    pieces = []
    for key in blocks:
        index, at = [], 0
        for axis in cuts.axes:
            index.append(_positions(axis, key[at : at + len(axis)]))
            at += len(axis)
        shape = [len(positions) for positions in index]
        factors = [new or (Factor(n),) for n, new in zip(shape, axes(key), strict=True)]
        pieces.append(make_piece(leaf, index, factors))
    return dataclasses.replace(leaf, pieces=tuple(pieces))


def _positions(cuts: Cuts, key: Sequence[int]) -> tuple[int, ...]:
    """Which indices of an axis a stretch of each of its dimensions holds."""
    sizes = [sum(dim) for dim in cuts]
    grid = np.arange(int(np.prod(sizes))).reshape(sizes)
    spans = [stops(dim)[i : i + 2] for dim, i in zip(cuts, key, strict=True)]
    return tuple(grid[tuple(slice(*span) for span in spans)].ravel().tolist())
