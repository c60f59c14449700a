"""Axes that are sums of index sets: where to cut them, and which cuts were worth it.

A first look follows the function without freezing what is sliced, and notes where. The
leaves are cut there, and the function is written anew for the pieces, without the
concatenations and slices between them (`_blocks`); that may show further cuts. The last
inference is an ordinary one, of a function of pieces: what it finds is true. Cuts that
have told nothing apart are then taken back.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from wsl._infer import _block_loops, _block_products, _block_rules
from wsl._infer._analyse import analyse, Analysis, Problem
from wsl._infer._blocks import BlockInterpreter, MAX_STRETCHES
from wsl._infer._grid import (
    Blocked,
    common,
    Cuts,
    Dimension,
    Key,
    keys,
    stretches,
    whole,
)
from wsl._infer._naming import LeafCuts
from wsl._infer._parts import Axis
from wsl._space import ancestors


# Imported for the rules that they register.
del _block_loops, _block_products, _block_rules

_MAX_ROUNDS, _MAX_PIECES = 8, 2048
_CUTTING = ("concatenate", "scan", "slice", "split", "stack", "unstack")

Grid = tuple[Cuts, ...]
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


def find_sums(problem: Problem) -> Found:
    """The group of a function, with all sums that could be found."""
    uncut = [tuple(((n,),) for n in shape) for shape in problem.shapes]
    grids = list(uncut)
    cutting = _mentions(problem.jaxpr, _CUTTING)
    if not cutting:
        found = _analysed(problem, problem, grids)
        if not found.analysis.inside:
            return found
        grids = _demanded(found.analysis, found.cuts, grids, True)
    too_large: list[str] = []
    found = None
    for _ in range(_MAX_ROUNDS):
        pieces = in_pieces(problem, grids)
        finer = grids
        if cutting:
            finer = _demanded(
                analyse(pieces, exploring=True), _cuts(grids), grids, False, too_large
            )
        if finer == grids:
            found = _analysed(problem, pieces, grids)
            finer = _demanded(found.analysis, found.cuts, grids, True, too_large)
        if finer == grids or _count(finer) > _MAX_PIECES:
            break
        grids = finer
    if found is None:
        found = _analysed(problem, in_pieces(problem, grids), grids)
    ties = (*found.ties, *dict.fromkeys(too_large))
    useful = [_useful(found.analysis, cuts) for cuts in found.cuts]
    if useful != grids:
        fewer = problem if useful == uncut else in_pieces(problem, useful)
        again = _analysed(problem, fewer, useful)
        # As large as before, unless a cut was needed after all.
        if _order(again.analysis) >= _order(found.analysis) - 1e-6:
            found = again
    return found._replace(ties=ties)


def _analysed(problem: Problem, pieces: Problem, grids: Sequence[Grid]) -> Found:
    del problem
    analysis = analyse(pieces)
    return Found(analysis, _cuts(grids), tuple(analysis.sets.ties))


def _cuts(grids: Sequence[Grid]) -> tuple[LeafCuts, ...]:
    found, start = [], 0
    for grid in grids:
        stop = start + _number(grid)
        found.append(LeafCuts(grid, range(start, stop)))
        start = stop
    return tuple(found)


def _number(grid: Grid) -> int:
    return math.prod(len(dim) for cuts in grid for dim in cuts)


def _count(grids: Sequence[Grid]) -> int:
    return sum(map(_number, grids))


def in_pieces(problem: Problem, grids: Sequence[Grid]) -> Problem:
    """A function as one of the pieces of its leaves.

    Args:
        problem: The function.
        grids: How each leaf is cut.

    Returns:
        The function of the pieces, leaf after leaf, each with an axis for every
        dimension of its leaf's axes.
    """
    interpreter, inner = BlockInterpreter(), problem.jaxpr.jaxpr
    number = len(problem.shapes)
    avals = [v.aval for v in inner.invars]
    shapes = [
        tuple(dim[i] for dim, i in zip(_dims(grid), key, strict=True))
        for grid in grids
        for key in keys(_dims(grid))
    ]
    dtypes = [
        aval.dtype
        for aval, grid in zip(avals, grids, strict=False)
        for _ in range(_number(grid))
    ]
    which: list[int] = []

    def run(pieces: Sequence[Any], constants: Sequence[Any]) -> list[Any]:
        rest = iter(pieces)
        leaves = [
            Blocked(grid, {key: next(rest) for key in keys(_dims(grid))}, True)
            for grid in grids
        ]
        given = [whole(constant, False) for constant in constants]
        outputs = interpreter.run(problem.jaxpr, [*leaves, *given])
        which[:] = [i for i, x in enumerate(outputs) for _ in x.blocks]
        return [block for x in outputs for block in x.blocks.values()]

    arrays = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    constants = [
        jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals[number:]
    ]
    with jax.numpy_dtype_promotion("standard"):
        jaxpr = jax.make_jaxpr(run)(arrays, constants)
    return Problem(jaxpr, tuple(shapes), problem.constants, tuple(which))


def _dims(grid: Grid) -> Cuts:
    return tuple(dim for cuts in grid for dim in cuts)


def _mentions(jaxpr: Any, names: Sequence[str]) -> bool:
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    return any(
        eqn.primitive.name in names
        or any(
            hasattr(getattr(one, "jaxpr", one), "eqns") and _mentions(one, names)
            for value in eqn.params.values()
            for one in (value if isinstance(value, tuple | list) else (value,))
        )
        for eqn in inner.eqns
    )


# Where to cut.


def _demanded(
    analysis: Analysis,
    leaves: Sequence[LeafCuts],
    grids: Sequence[Grid],
    inside: bool,
    too_large: list[str] | None = None,
) -> list[Grid]:
    """Finer grids, cut where operations cut, or between members of an ensemble."""
    sets = analysis.sets
    if inside:
        blocks = set(analysis.inside.values())
        points = {s: set(range(1, sets.size(s))) for s in blocks}
    else:
        found = sets.demanded()
        points = {s: p for s, p in found.items() if sets.reason(s) is None and p}
    for index_set in [s for s, p in points.items() if len(p) >= MAX_STRETCHES]:
        del points[index_set]
        if too_large is not None:
            too_large.append(
                f"a stack of {sets.size(index_set)}, more than the {MAX_STRETCHES} "
                "that are told apart"
            )
    return [
        _refined(analysis, cuts, grid, points) if points else grid
        for cuts, grid in zip(leaves, grids, strict=True)
    ]


def _refined(
    analysis: Analysis, leaf: LeafCuts, grid: Grid, points: dict[int, set[int]]
) -> Grid:
    dims = _dims(grid)
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


def _useful(analysis: Analysis, leaf: LeafCuts) -> Grid:
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


def _order(analysis: Analysis) -> float:
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
