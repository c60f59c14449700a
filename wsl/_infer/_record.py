"""The arrays in which units appear, while a function runs on data."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal
from jaxtyping import PyTree

from wsl._infer._analyse import analyse
from wsl._infer._blocks import bind
from wsl._infer._grid import keys
from wsl._infer._infer import name_all, pose
from wsl._infer._naming import LeafCuts, Names
from wsl._infer._parts import Value
from wsl._infer._sums import find_sums, Found, in_pieces
from wsl._space import Factor, WeightSpace


class Activations(NamedTuple):
    """What to look at while a function runs.

    Attributes:
        space: The space of its weights.
        axes: For each array that is looked at, the factors of its axes, those without
            a name of their own nameless.
        run: From the pieces of weights, and what else goes in, to these arrays.
        cut: From the leaves of weights to their pieces.
        given: The arrays that go in beside the weights.
    """

    space: WeightSpace
    axes: tuple[tuple[tuple[Factor, ...], ...], ...]
    run: Callable[[Sequence[Any], Sequence[Any]], list[Any]]
    cut: Callable[[Sequence[Any]], list[Any]]
    given: list[Any]


def record(fn_or_module: Any, inputs: tuple[PyTree, ...]) -> Activations:
    """Finds the arrays that depend on the data and have an axis of a group.

    Args:
        fn_or_module: A module, or a function whose first input is its weights.
        inputs: What it is called with.

    Returns:
        What to look at.
    """
    problem, free, given = pose(fn_or_module, inputs)
    found = find_sums(problem)
    grids = [cuts.axes for cuts in found.cuts]
    pieces = in_pieces(problem, grids)
    seen: list[tuple[Any, Value]] = []

    def watch(eqn: Any, results: list[Value]) -> None:
        seen.extend(zip(eqn.outvars, results, strict=True))

    analysis = analyse(pieces, watch=watch)
    names = Names(analysis.sets)
    space = name_all(free, Found(analysis, found.cuts, found.ties), names)
    inner = pieces.jaxpr.jaxpr
    on_data = _reached(inner, inner.invars[len(pieces.shapes) :])
    sites, axes = [], []
    for variable, value in seen:
        if variable not in on_data:
            continue
        described = _described(value, analysis, names)
        if any(f.name in space.groups for axis in described for f in axis):
            sites.append(variable)
            axes.append(described)

    @jax.jit
    def run(blocks: Sequence[Any], constants: Sequence[Any]) -> list[Any]:
        known = dict(zip(inner.invars, [*blocks, *constants], strict=True))
        known.update(zip(inner.constvars, pieces.jaxpr.consts, strict=True))
        for eqn in inner.eqns:
            arrays = [v.val if isinstance(v, Literal) else known[v] for v in eqn.invars]
            known.update(zip(eqn.outvars, bind(eqn, arrays), strict=True))
        return [known[variable] for variable in sites]

    def cut(leaves: Sequence[Any]) -> list[Any]:
        pairs = zip(space.leaves, found.cuts, leaves, strict=True)
        return [
            piece.reshape([dim[i] for dim, i in zip(cuts.dims, key, strict=True)])
            for leaf, cuts, array in pairs
            for key, piece in zip(_keys(cuts), leaf.cut(array), strict=True)
        ]

    return Activations(space, tuple(axes), run, cut, jax.tree.leaves(given))


def _keys(cuts: LeafCuts) -> list[tuple[int, ...]]:
    return list(keys(cuts.dims))


def _described(
    value: Value, analysis: Any, names: Names
) -> tuple[tuple[Factor, ...], ...]:
    axes = []
    for axis in value.axes:
        factors = []
        for part in axis:
            roots = (
                [None]
                if part.index_set is None
                else analysis.sets.resolve(part.index_set)
            )
            for root in roots:
                if root is None:
                    factors.append(Factor(part.size))
                else:
                    size = analysis.sets.size(root)
                    factors.append(Factor(size, names.of.get(root)))
        axes.append(tuple(factors) or (Factor(1),))
    return tuple(axes)


def _reached(jaxpr: Any, sources: Sequence[Any]) -> set[Any]:
    """Variables that depend on some of the inputs."""
    reached = set(sources)
    for eqn in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in reached for v in eqn.invars):
            reached.update(eqn.outvars)
    return reached
