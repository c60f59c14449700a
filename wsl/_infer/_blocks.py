"""Runs a jaxpr on arrays in blocks, so that what it joins and cuts stays apart.

A concatenation becomes an array in blocks, and what follows works block by block: a
product with a matrix is a sum of products with the matrix' own blocks, which is cut to
match. Where weights come in blocks too, no concatenation and no slice is left between
them. What has no rule joins its operands and runs as it was: the function computed is
always the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jax import lax
from jax.extend.core import Literal

from wsl._infer._grid import (
    align_axes,
    Blocked,
    cut,
    Cuts,
    flatten,
    Key,
    keys,
    plain,
    tidy,
    whole,
)


BlockRule: TypeAlias = Callable[
    ["BlockInterpreter", Any, list[Blocked]], list[Blocked] | None
]
"""From an interpreter, an equation and its operands to its results; None to join."""

BLOCK_RULES: dict[str, BlockRule] = {}

MAX_STRETCHES = 64
"""Into how many stretches a dimension is cut at most."""

_CREATING = ("concatenate", "stack")
_CALLS = (
    "call checkpoint closed_call core_call custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr jit pjit remat remat2"
).split()


def block_rule(*names: str) -> Callable[[BlockRule], BlockRule]:
    """Registers a rule for primitives."""

    def register(function: BlockRule) -> BlockRule:
        BLOCK_RULES.update(dict.fromkeys(names, function))
        return function

    return register


class BlockInterpreter:
    """Runs jaxprs on arrays in blocks."""

    def __init__(self):
        """Keeps what does not depend on how arrays are cut."""
        self._creating: dict[int, tuple[Any, bool]] = {}

    def run(self, jaxpr: Any, inputs: Sequence[Blocked]) -> list[Blocked]:
        """The outputs of a jaxpr, in blocks."""
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        constants = [whole(c, False) for c in getattr(jaxpr, "consts", ())]
        known: dict[Any, Blocked] = dict(
            zip((*inner.constvars, *inner.invars), (*constants, *inputs), strict=True)
        )

        def read(variable: Any) -> Blocked:
            if isinstance(variable, Literal):
                return whole(variable.val, False)
            return known[variable]

        for eqn in inner.eqns:
            results = self._equation(eqn, [read(v) for v in eqn.invars])
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(v) for v in inner.outvars]

    def creates(self, jaxpr: Any) -> bool:
        """Whether a jaxpr puts arrays together somewhere."""
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        if id(inner) not in self._creating:
            found = any(
                eqn.primitive.name in _CREATING
                or any(self.creates(j) for j in _inner_jaxprs(eqn))
                for eqn in inner.eqns
            )
            # Kept with the jaxpr, so that its id stays its own.
            self._creating[id(inner)] = (inner, found)
        return self._creating[id(inner)][1]

    def _equation(self, eqn: Any, operands: list[Blocked]) -> list[Blocked]:
        name = eqn.primitive.name
        tainted = any(x.tainted for x in operands)
        if name in _CALLS:
            for param in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
                jaxpr = eqn.params.get(param)
                inner = getattr(jaxpr, "jaxpr", jaxpr)
                if inner is not None and len(inner.invars) == len(operands):
                    return self.run(jaxpr, operands)
        is_cut = any(x.is_cut for x in operands)
        creating = name in _CREATING or any(map(self.creates, _inner_jaxprs(eqn)))
        if is_cut or (creating and tainted):
            rule = BLOCK_RULES.get(name)
            results = None if rule is None else rule(self, eqn, operands)
            if results is not None:
                return [tidy(x._replace(tainted=tainted)) for x in results]
        return [whole(x, tainted) for x in bind(eqn, map(plain, operands))]


def bind(eqn: Any, arrays: Any, **params: Any) -> list[Any]:
    """Runs an equation on plain arrays, with some parameters replaced."""
    own: Any = eqn.primitive.get_bind_params({**eqn.params, **params})
    # Before JAX 0.10 functions came apart from parameters.
    functions, own = own if isinstance(own, tuple) else ((), own)
    results = eqn.primitive.bind(*functions, *arrays, **own)
    return list(results) if eqn.primitive.multiple_results else [results]


def _inner_jaxprs(eqn: Any) -> list[Any]:
    found = []
    for value in eqn.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(one, "jaxpr", one), "eqns"):
                found.append(one)
    return found


def each_block(x: Blocked, function: Callable[[Any], Any], axes: Any = None) -> Blocked:
    """Applies a function to every block."""
    blocks = {key: function(block) for key, block in x.blocks.items()}
    return Blocked(x.axes if axes is None else axes, blocks, x.tainted)


# Shapes.


def take_span(x: Blocked, axis: int, start: int, stop: int) -> Blocked:
    """A stretch of an axis."""
    x = cut(flatten(x, axis), axis, 0, (start, stop))
    place, dim, found, at = x.place(axis), x.axes[axis][0], [], 0
    for i, size in enumerate(dim):
        if start <= at and at + size <= stop:
            found.append(i)
        at += size
    blocks = {
        (*key[:place], found.index(key[place]), *key[place + 1 :]): block
        for key, block in x.blocks.items()
        if key[place] in found
    }
    return x.replace(axis, (tuple(dim[i] for i in found),), blocks)


def drop_axis(x: Blocked, axis: int) -> Blocked:
    """Takes out an axis of length 1."""
    places = x.span(axis)
    kept = [d for d in range(len(x.dims)) if d not in places]
    blocks = {
        tuple(key[d] for d in kept): lax.squeeze(block, places)
        for key, block in x.blocks.items()
    }
    return Blocked((*x.axes[:axis], *x.axes[axis + 1 :]), blocks, x.tainted)


def new_axis(x: Blocked, axis: int) -> Blocked:
    """Puts in an axis of length 1."""
    place = x.place(axis)
    blocks = {
        (*key[:place], 0, *key[place:]): lax.expand_dims(block, (place,))
        for key, block in x.blocks.items()
    }
    return Blocked((*x.axes[:axis], ((1,),), *x.axes[axis:]), blocks, x.tainted)


def side_by_side(arrays: Sequence[Blocked], axis: int) -> Blocked | None:
    """Arrays one after the other along an axis; None for too many."""
    arrays = [flatten(x, axis) for x in arrays if x.shape[axis]]
    if sum(len(x.axes[axis][0]) for x in arrays) > MAX_STRETCHES:
        return None
    for d in range(len(arrays[0].axes)):
        if d != axis:
            arrays = align_axes(arrays, [d] * len(arrays))
    place, dim, blocks = arrays[0].place(axis), (), {}
    for x in arrays:
        for key, block in x.blocks.items():
            moved = key[place] + len(dim)
            blocks[(*key[:place], moved, *key[place + 1 :])] = block
        dim = (*dim, *x.axes[axis][0])
    return arrays[0].replace(axis, (dim,), blocks)


def elementwise(eqn: Any, operands: list[Blocked]) -> list[Blocked] | None:
    """Applies an equation block by block; scalars and axes of length 1 go to all."""
    shape = tuple(map(int, eqn.outvars[0].aval.shape))
    arrays = [x for x in operands if x.axes]
    if not arrays or any(
        len(x.axes) != len(shape)
        or any(n not in (1, m) for n, m in zip(x.shape, shape, strict=True))
        for x in arrays
    ):
        return None
    axes: list[Cuts] = []
    for axis, n in enumerate(shape):
        full = [i for i, x in enumerate(arrays) if x.shape[axis] == n]
        aligned = align_axes([arrays[i] for i in full], [axis] * len(full))
        axes.append(aligned[0].axes[axis])
        for i, x in zip(full, aligned, strict=True):
            arrays[i] = x
        for i in set(range(len(arrays))) - set(full):
            for _ in axes[-1][1:]:
                arrays[i] = _with_one(arrays[i], axis)
    blocks: list[dict] = [{} for _ in eqn.outvars]
    for key in keys(dim for cuts in axes for dim in cuts):
        rest = iter(arrays)
        given = [_at(next(rest), key) if x.axes else x.blocks[()] for x in operands]
        for found, block in zip(blocks, bind(eqn, given), strict=True):
            found[key] = block
    return [Blocked(tuple(axes), found, True) for found in blocks]


def _with_one(x: Blocked, axis: int) -> Blocked:
    """One more dimension of length 1 for an axis."""
    place = x.place(axis)
    blocks = {
        (*key[:place], 0, *key[place:]): lax.expand_dims(block, (place,))
        for key, block in x.blocks.items()
    }
    return x.replace(axis, ((1,), *x.axes[axis]), blocks)


def _at(x: Blocked, key: Key) -> Any:
    dims = x.dims
    return x.blocks[
        tuple(i if len(dim) > 1 else 0 for i, dim in zip(key, dims, strict=True))
    ]
