"""Where axes are cut into sums, and which cuts were worth it."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from wsl._infer._analyse import Analysis
from wsl._infer._blocks import MAX_STRETCHES
from wsl._infer._grid import common, Cuts, Dimension, Key, keys, stretches
from wsl._infer._naming import LeafCuts
from wsl._infer._parts import Axis
from wsl._space import ancestors


Grid: TypeAlias = tuple[Cuts, ...]
"""How the axes of a leaf are cut."""


class Found(NamedTuple):
    """What the search for sums came to.

    Attributes:
        analysis: Of the function of pieces.
        cuts: How each leaf is cut into them.
        ties: What made free sets one that need not be, in words.
    """

    analysis: Analysis
    cuts: tuple[LeafCuts, ...]
    ties: tuple[str, ...]


def leaf_cuts(grids: Sequence[Grid]) -> tuple[LeafCuts, ...]:
    """Which block of all is which block of which leaf."""
    found, start = [], 0
    for grid in grids:
        stop = start + number(grid)
        found.append(LeafCuts(grid, range(start, stop)))
        start = stop
    return tuple(found)


def number(grid: Grid) -> int:
    """How many blocks there are."""
    return math.prod(len(dim) for cuts in grid for dim in cuts)


def all_dims(grid: Grid) -> Cuts:
    """The dimensions of all axes, in order."""
    return tuple(dim for cuts in grid for dim in cuts)


def where_sliced(
    analysis: Analysis, grids: Sequence[Grid], left: list[str]
) -> list[Grid]:
    """Finer grids, cut where an exploration has met slices."""
    sets = analysis.sets
    points = sets.demanded()
    free = {s: p for s, p in points.items() if p and sets.reason(s) is None}
    return _cut_at(analysis, free, grids, left)


def between_members(found: Found, grids: Sequence[Grid], left: list[str]) -> list[Grid]:
    """Finer grids, cut between members of an ensemble that nothing moves."""
    sets, blocks = found.analysis.sets, set(found.analysis.inside.values())
    points = {s: set(range(1, sets.size(s))) for s in blocks}
    return _cut_at(found.analysis, points, grids, left)


def _cut_at(
    analysis: Analysis,
    points: dict[int, set[int]],
    grids: Sequence[Grid],
    left: list[str],
) -> list[Grid]:
    for index_set, where in list(points.items()):
        if len(where) >= MAX_STRETCHES:
            size = analysis.sets.size(index_set)
            left.append(
                f"a stack of {size}, more than the {MAX_STRETCHES} that are told apart"
            )
            del points[index_set]
    leaves = zip(leaf_cuts(grids), grids, strict=True)
    return [
        _refined(analysis, cuts, grid, points) if points else grid
        for cuts, grid in leaves
    ]


def _refined(
    analysis: Analysis, leaf: LeafCuts, grid: Grid, points: dict[int, set[int]]
) -> Grid:
    dims = all_dims(grid)
    blocks = dict(zip(keys(dims), leaf.inputs, strict=True))
    finer: list[Cuts] = []
    for d, dim in enumerate(dims):
        wanted: Cuts = (dim,)
        for key, at in blocks.items():
            parts = analysis.leaves[at].axes[d]
            one = _wanted(parts, points)
            if one is None:
                continue
            if len(dim) == 1:
                merged = common(wanted, one)
            elif len(one) == 1:
                # One part, cut further within its stretch.
                start, at_points, inside = sum(dim[: key[d]]), 0, []
                for n in one[0]:
                    at_points += n
                    inside.append(start + at_points)
                cut = stretches((*_points(dim), *inside), sum(dim))
                merged = common(wanted, (cut,))
            else:
                merged = None
            wanted = wanted if merged is None else merged
        finer.append(wanted if all(len(x) <= MAX_STRETCHES for x in wanted) else (dim,))
    rest = iter(finer)
    return tuple(tuple(dim for _ in cuts for dim in next(rest)) for cuts in grid)


def _points(dim: Dimension) -> list[int]:
    at, found = 0, []
    for n in dim:
        at += n
        found.append(at)
    return found


def _wanted(parts: Axis, points: dict[int, set[int]]) -> Cuts | None:
    """The parts of an axis as dimensions, those cut that are to be."""
    if not any(part.index_set in points for part in parts):
        return None
    found: list[Dimension] = []
    plain = 1
    for part in parts:
        if part.index_set is None or part.index_set not in points:
            plain *= part.size
            continue
        if plain > 1:
            found.append((plain,))
        plain = 1
        found.append(stretches(points[part.index_set], part.size))
    return tuple(found) if plain == 1 else (*found, (plain,))


# Which cuts were worth it.


def useful_grid(analysis: Analysis, leaf: LeafCuts) -> Grid:
    """The grid without cuts between pieces of which nothing tells one from another."""
    blocks = dict(zip(keys(leaf.dims), leaf.inputs, strict=True))
    dims = list(leaf.dims)
    for d, dim in enumerate(dims):
        if len(dim) == 1:
            continue
        by_rest: dict[Key, list[int]] = {}
        for key, at in blocks.items():
            by_rest.setdefault((*key[:d], *key[d + 1 :]), []).append(at)
        if all(_alike(analysis, inputs, d) for inputs in by_rest.values()):
            dims[d] = (sum(dim),)
    rest, axes = iter(dims), []
    for cuts in leaf.axes:
        mine = [next(rest) for _ in cuts]
        if all(len(dim) == 1 for dim in mine):
            mine = [(math.prod(map(sum, mine)),)]
        axes.append(tuple(mine))
    return tuple(axes)


def _alike(analysis: Analysis, inputs: Sequence[int], d: int) -> bool:
    """Whether pieces side by side along a dimension have the same names elsewhere."""
    sets = analysis.sets

    def names(axis: Axis) -> list[int | None]:
        return [part.index_set for part in axis]

    # What the function ignores may go with anything.
    used = [at for at in inputs if at in analysis.used] or list(inputs)
    first = analysis.leaves[used[0]].axes
    along = [analysis.leaves[at].axes[d] for at in inputs]
    for at in used[1:]:
        axes = analysis.leaves[at].axes
        if any(names(x) != names(y) for x, y in zip(first[:d], axes[:d], strict=True)):
            return False
        rest = zip(first[d + 1 :], axes[d + 1 :], strict=True)
        if any(names(x) != names(y) for x, y in rest):
            return False
    fixed = all(
        part.index_set is None or sets.reason(part.index_set) is not None
        for axis in along
        for part in axis
    )
    return fixed or all(names(axis) == names(along[0]) for axis in along)


def log_order(analysis: Analysis) -> float:
    """Logarithm of the order of the group."""
    nested = {str(a): str(b) for a, b in analysis.nested.items()}
    sets = {
        part.index_set: analysis.sets.size(part.index_set)
        for leaf in analysis.leaves
        for part in leaf.parts()
        if part.index_set is not None and analysis.sets.reason(part.index_set) is None
    }
    total = 0.0
    for index_set, size in sets.items():
        above = ancestors(str(index_set), nested)
        times = math.prod(sets[int(block)] for block in above)
        total += times * math.lgamma(size + 1)
    return total
