"""Axes that are sums of index sets: where to cut them, and which cuts were worth it.

A first look follows the function without freezing what is sliced, and notes where. The
leaves are cut there, and the function is written anew for the pieces, without the
concatenations and slices between them (`_blocks`); that may show further cuts. The last
inference is an ordinary one, of a function of pieces: what it finds is true. Cuts that
have told nothing apart are then taken back.
"""

from collections.abc import Sequence
from typing import Any

import jax

from wsl._infer import _block_loops, _block_products, _block_rules
from wsl._infer._analyse import analyse, Problem
from wsl._infer._blocks import BlockInterpreter
from wsl._infer._grid import Blocked, keys, whole
from wsl._infer._where import (
    all_dims,
    between_members,
    Found,
    Grid,
    leaf_cuts,
    log_order,
    number,
    useful_grid,
    where_sliced,
)


# Imported for the rules that they register.
del _block_loops, _block_products, _block_rules

_MAX_ROUNDS, _MAX_PIECES = 8, 2048
_CUTTING = ("concatenate", "scan", "slice", "split", "stack", "unstack")


def find_sums(problem: Problem) -> Found:
    """The group of a function, with all sums that could be found."""
    uncut: list[Grid] = [tuple(((n,),) for n in shape) for shape in problem.shapes]
    try:
        return _find(problem, uncut)
    except Exception as error:
        # What cannot be written anew for pieces still has the group of the whole.
        found = _analysed(problem, uncut)
        why = f"what is put together, which {type(error).__name__} kept from following"
        return found._replace(ties=(*found.ties, why))


def _find(problem: Problem, uncut: list[Grid]) -> Found:
    cutting = _mentions(problem.jaxpr, _CUTTING)
    left: list[str] = []
    if cutting:
        grids = uncut
    else:
        found = _analysed(problem, uncut)
        grids = between_members(found, uncut, left)
        if grids == uncut:
            return found._replace(ties=(*found.ties, *left))
    found = None
    for _ in range(_MAX_ROUNDS):
        plain = grids == uncut and not BlockInterpreter().creates(problem.jaxpr)
        pieces = problem if plain else in_pieces(problem, grids)
        finer = grids
        if cutting:
            finer = where_sliced(analyse(pieces, exploring=True), grids, left)
        if finer == grids:
            found = _analysed(pieces, grids)
            finer = between_members(found, grids, left)
        if finer == grids:
            break
        if sum(map(number, finer)) > _MAX_PIECES:
            left.append(f"more than {_MAX_PIECES} pieces of weights")
            break
        grids = finer
    if found is None:
        found = _analysed(in_pieces(problem, grids), grids)
    ties = (*found.ties, *dict.fromkeys(left))
    useful = [useful_grid(found.analysis, cuts) for cuts in found.cuts]
    if useful != grids:
        fewer = problem if useful == uncut else in_pieces(problem, useful)
        again = _analysed(fewer, useful)
        # As large as before, unless a cut was needed after all.
        if log_order(again.analysis) >= log_order(found.analysis) - 1e-6:
            found = again
    if ties:
        # Pieces that had to be put together again may be less than the whole.
        whole_leaves = _analysed(problem, uncut)
        if log_order(whole_leaves.analysis) > log_order(found.analysis) + 1e-6:
            found = whole_leaves
    return found._replace(ties=ties)


def _analysed(pieces: Problem, grids: Sequence[Grid]) -> Found:
    analysis = analyse(pieces)
    return Found(analysis, leaf_cuts(grids), tuple(analysis.sets.ties))


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
    given = len(problem.shapes)
    avals = [v.aval for v in inner.invars]
    shapes = [
        tuple(dim[i] for dim, i in zip(all_dims(grid), key, strict=True))
        for grid in grids
        for key in keys(all_dims(grid))
    ]
    dtypes = [
        aval.dtype
        for aval, grid in zip(avals, grids, strict=False)
        for _ in range(number(grid))
    ]
    which: list[int] = []

    def run(pieces: Sequence[Any], constants: Sequence[Any]) -> list[Any]:
        rest = iter(pieces)
        leaves = [
            Blocked(grid, {key: next(rest) for key in keys(all_dims(grid))}, True)
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
    constants = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals[given:]]
    with jax.numpy_dtype_promotion("standard"):
        jaxpr = jax.make_jaxpr(run)(arrays, constants)
    return Problem(jaxpr, tuple(shapes), problem.constants, tuple(which))


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
