"""What primitives do to arrays in blocks: shapes, reductions, windows."""

from collections import deque
from collections.abc import Callable
from typing import Any

from jax import lax

from wsl._infer._blocks import (
    bind,
    block_rule,
    BLOCK_RULES,
    BlockInterpreter,
    drop_axis,
    elementwise,
    new_axis,
    side_by_side,
    take_span,
)
from wsl._infer._grid import (
    align,
    Blocked,
    conform,
    Cuts,
    factor,
    flatten,
    joined,
    Key,
)
from wsl._infer._rules import elementwise as elementwise_rule, RULES, shape_of


def _entrywise(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Every block by itself."""
    del interpreter
    return elementwise(eqn, operands)


BLOCK_RULES.update(
    {name: _entrywise for name, one in RULES.items() if one is elementwise_rule}
)


@block_rule("optimization_barrier", "device_put")
def unchanged(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """The results are the operands."""
    del interpreter, eqn
    return operands


@block_rule("concatenate")
def concatenate(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """What makes arrays in blocks."""
    del interpreter
    found = side_by_side(operands, int(eqn.params["dimension"]))
    return None if found is None else [found]


@block_rule("stack")
def stack(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """The same along a new axis."""
    del interpreter
    axis = int(eqn.params["axis"])
    found = side_by_side([new_axis(x, axis) for x in operands], axis)
    return None if found is None else [found]


@block_rule("unstack")
def unstack(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Every index of an axis by itself."""
    del interpreter
    axis = int(eqn.params["axis"])
    return [
        drop_axis(take_span(operands[0], axis, i, i + 1), axis)
        for i in range(len(eqn.outvars))
    ]


@block_rule("slice")
def slice_(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Stretches of axes."""
    del interpreter
    (x,) = operands
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(starts)
    for axis, (start, limit, stride, n) in enumerate(
        zip(starts, limits, strides, x.shape, strict=True)
    ):
        start, limit, stride = int(start), int(limit), int(stride)
        if start == limit:
            return None
        if stride != 1:
            x, d = joined(x, axis), x.place(axis)
            size = len(range(start, limit, stride))
            blocks = {
                key: lax.slice_in_dim(block, start, limit, stride, axis=d)
                for key, block in x.blocks.items()
            }
            x = x.replace(axis, ((size,),), blocks)
        elif (start, limit) != (0, n):
            x = take_span(x, axis, start, limit)
    return [x]


@block_rule("split")
def split(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """All stretches of an axis."""
    del interpreter
    axis, start, found = int(eqn.params["axis"]), 0, []
    if 0 in eqn.params["sizes"]:
        return None
    for size in map(int, eqn.params["sizes"]):
        found.append(take_span(operands[0], axis, start, start + size))
        start += size
    return found


@block_rule("transpose")
def transpose(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Axes in another order."""
    del interpreter
    (x,), order = operands, eqn.params["permutation"]
    places = [d for axis in order for d in x.span(axis)]
    blocks = {
        tuple(key[d] for d in places): lax.transpose(block, places)
        for key, block in x.blocks.items()
    }
    return [Blocked(tuple(x.axes[axis] for axis in order), blocks, x.tainted)]


@block_rule("squeeze")
def squeeze(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Axes of length 1 go."""
    del interpreter
    (x,) = operands
    for axis in sorted(eqn.params["dimensions"], reverse=True):
        x = drop_axis(x, axis)
    return [x]


@block_rule("broadcast_in_dim")
def broadcast_in_dim(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """New axes are in one piece."""
    del interpreter
    if len(operands) != 1:
        return None
    (x,), shape = operands, shape_of(eqn.outvars[0])
    to = {axis: d for d, axis in enumerate(eqn.params["broadcast_dimensions"])}
    axes: list[Cuts] = []
    places: list[int | None] = []
    for axis, n in enumerate(shape):
        if axis in to and x.shape[to[axis]] == n:
            axes.append(x.axes[to[axis]])
            places += x.span(to[axis])
        else:
            axes.append(((n,),))
            places.append(None)
    grown = [d for d in range(len(x.dims)) if d not in places]
    blocks: dict[Key, Any] = {}
    for key, block in x.blocks.items():
        block = lax.squeeze(block, grown)
        kept = [at for at, d in enumerate(places) if d is not None]
        size = [
            n if d is None else x.dims[d][key[d]]
            for d, n in zip(places, [sum(dim) for a in axes for dim in a], strict=True)
        ]
        new = tuple(0 if d is None else key[d] for d in places)
        blocks[new] = lax.broadcast_in_dim(block, size, kept)
    return [Blocked(tuple(axes), blocks, x.tainted)]


@block_rule("reshape")
def reshape(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """All dimensions, one after the other, gathered into other axes."""
    del interpreter
    shape = shape_of(eqn.outvars[0])
    if eqn.params.get("dimensions") is not None or 0 in shape:
        return None
    (x,) = operands
    # As one axis of many dimensions, none of length 1.
    kept = [d for d, dim in enumerate(x.dims) if sum(dim) > 1]
    gone = [d for d in range(len(x.dims)) if d not in kept]
    x = Blocked(
        (tuple(x.dims[d] for d in kept),),
        {
            tuple(key[d] for d in kept): lax.squeeze(block, gone)
            for key, block in x.blocks.items()
        },
        x.tainted,
    )
    axes = _gather(x.axes[0], shape)
    if axes is None:
        return None
    x = conform(x, 0, tuple(dim for cuts in axes for dim in cuts))
    # Axes of length 1 come back.
    order, fresh, new, at = [], [], [], 0
    for cuts in axes:
        new.append(cuts or ((1,),))
        if not cuts:
            fresh.append(len(order))
        order += list(range(at, at + len(cuts))) or [None]
        at += len(cuts)
    blocks = {
        tuple(0 if d is None else key[d] for d in order): lax.expand_dims(block, fresh)
        for key, block in x.blocks.items()
    }
    return [Blocked(tuple(new), blocks, x.tainted)]


def _gather(dims: Cuts, shape: tuple[int, ...]) -> list[Cuts] | None:
    """Dimensions, factored where they must be, for every axis of a shape."""
    queue, axes = deque(dims), []
    for n in shape:
        cuts: list = []
        while n > 1:
            dim = queue.popleft()
            size = sum(dim)
            if n % size == 0:
                cuts.append(dim)
                n //= size
            elif size % n == 0:
                outer, inner = factor(dim, n)
                cuts.append(outer)
                queue.appendleft(inner)
                n = 1
            else:
                return None
        axes.append(tuple(cuts))
    return axes


# Reductions.


_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "reduce_sum": lax.add,
    "reduce_max": lax.max,
    "reduce_min": lax.min,
    "reduce_prod": lax.mul,
    "reduce_and": lax.bitwise_and,
    "reduce_or": lax.bitwise_or,
    "reduce_xor": lax.bitwise_xor,
}


@block_rule(*_COMBINE)
def reduction(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Reduces every block, then the results."""
    del interpreter
    (x,), gone = operands, {int(axis) for axis in eqn.params["axes"]}
    combine = _COMBINE[eqn.primitive.name]
    places = [d for axis in gone for d in x.span(axis)]
    kept = [d for d in range(len(x.dims)) if d not in places]
    blocks: dict[Key, Any] = {}
    for key, block in x.blocks.items():
        (part,) = bind(eqn, [block], axes=tuple(sorted(places)))
        new = tuple(key[d] for d in kept)
        blocks[new] = combine(blocks[new], part) if new in blocks else part
    axes = tuple(cuts for axis, cuts in enumerate(x.axes) if axis not in gone)
    return [Blocked(axes, blocks, x.tainted)]


# What works along some axes, which must be in one piece, and on the others alike.


def _acting(*names: str, axes: Callable[[Any], Any], **_: Any) -> None:
    def along(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
        del interpreter
        acted = set(axes(eqn.params))
        if any(x.axes and x.shape != operands[0].shape for x in operands):
            return None
        arrays = [x for x in operands if x.axes]
        for d in range(len(arrays[0].axes)):
            change = joined if d in acted else flatten
            arrays = [change(x, d) for x in arrays]
        arrays, scalars = align(arrays), [x for x in operands if not x.axes]
        found: list[dict] = [{} for _ in eqn.outvars]
        for key in arrays[0].blocks:
            given = [x.blocks[key] for x in arrays] + [x.blocks[()] for x in scalars]
            for blocks, block in zip(found, bind(eqn, given), strict=True):
                blocks[key] = block
        results = []
        for variable, blocks in zip(eqn.outvars, found, strict=True):
            shape = shape_of(variable)
            if len(shape) != len(arrays[0].axes):
                return None
            cuts = tuple(
                ((shape[d],),) if d in acted else one
                for d, one in enumerate(arrays[0].axes)
            )
            results.append(Blocked(cuts, blocks, True))
        return results

    block_rule(*names)(along)


_acting(
    "pad",
    axes=lambda p: [
        d for d, w in enumerate(p["padding_config"]) if tuple(w) != (0, 0, 0)
    ],
)
_acting("rev", axes=lambda p: p["dimensions"])
_acting(
    *"cumlogsumexp cummax cummin cumprod cumsum".split(), axes=lambda p: [p["axis"]]
)
_acting("sort", axes=lambda p: [p["dimension"]])
_acting(
    *"reduce_window_max reduce_window_min reduce_window_sum".split(),
    axes=lambda p: [
        d
        for d, (size, stride, padding) in enumerate(
            zip(p["window_dimensions"], p["window_strides"], p["padding"], strict=True)
        )
        if (size, stride, tuple(padding)) != (1, 1, (0, 0)) or p["base_dilation"][d] > 1
    ],
)
