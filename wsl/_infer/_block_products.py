"""Products of arrays in blocks: matrices and convolutions."""

from typing import Any

from jax import lax

from wsl._infer._blocks import bind, block_rule, BlockInterpreter
from wsl._infer._grid import (
    align_axes,
    Blocked,
    conform,
    flatten,
    joined,
    Key,
    stretches,
)


@block_rule("dot_general")
def dot_general(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Sums the products of blocks over the blocks of what is contracted."""
    del interpreter
    lhs, rhs = operands
    contracted, batch = eqn.params["dimension_numbers"]
    for left, right in (*zip(*contracted, strict=True), *zip(*batch, strict=True)):
        lhs, rhs = align_axes([lhs, rhs], [left, right])

    def places(x: Blocked, axes: Any) -> list[int]:
        return [d for axis in axes for d in x.span(axis)]

    numbers = tuple(
        (tuple(places(lhs, pair[0])), tuple(places(rhs, pair[1])))
        for pair in (contracted, batch)
    )
    (left_sum, right_sum), (left_batch, right_batch) = numbers
    free = [
        [axis for axis in range(len(x.axes)) if axis not in (*used[0], *used[1])]
        for x, used in (
            (lhs, (contracted[0], batch[0])),
            (rhs, (contracted[1], batch[1])),
        )
    ]
    left_free, right_free = places(lhs, free[0]), places(rhs, free[1])
    shared: dict[tuple[Key, Key], list[Key]] = {}
    for key in rhs.blocks:
        joint = tuple(key[d] for d in right_batch), tuple(key[d] for d in right_sum)
        shared.setdefault(joint, []).append(key)
    blocks: dict[Key, Any] = {}
    for key, block in lhs.blocks.items():
        batched = tuple(key[d] for d in left_batch)
        for other in shared[batched, tuple(key[d] for d in left_sum)]:
            (part,) = bind(eqn, [block, rhs.blocks[other]], dimension_numbers=numbers)
            new = (
                *batched,
                *(key[d] for d in left_free),
                *(other[d] for d in right_free),
            )
            blocks[new] = lax.add(blocks[new], part) if new in blocks else part
    axes = (
        *(lhs.axes[axis] for axis in batch[0]),
        *(lhs.axes[axis] for axis in free[0]),
        *(rhs.axes[axis] for axis in free[1]),
    )
    return [Blocked(axes, blocks, True)]


@block_rule("conv_general_dilated")
def convolution(interpreter: BlockInterpreter, eqn: Any, operands: list[Blocked]):
    """Features in blocks, windows in one piece."""
    del interpreter
    (lhs, rhs), params = operands, eqn.params
    if params["batch_group_count"] != 1:
        return None
    numbers, groups = params["dimension_numbers"], int(params["feature_group_count"])
    batch, features, *space = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    for axis in space:
        lhs = joined(lhs, axis)
    for axis in window:
        rhs = joined(rhs, axis)
    for axis in (batch, features):
        lhs = flatten(lhs, axis)
    for axis in (out, into):
        rhs = flatten(rhs, axis)
    if groups == 1:
        lhs, rhs = align_axes([lhs, rhs], [features, into])
    else:
        lhs, rhs = _by_groups(lhs, rhs, (features, out, into), groups)
    blocks: dict[Key, Any] = {}
    for key, block in lhs.blocks.items():
        for other, kernel in rhs.blocks.items():
            if groups == 1 and key[features] != other[into]:
                continue
            if groups > 1 and key[features] != other[out]:
                continue
            count = groups
            if groups > 1:
                per_group = sum(lhs.dims[features]) // groups
                count = lhs.dims[features][key[features]] // per_group
            (part,) = bind(eqn, [block, kernel], feature_group_count=count)
            place = {numbers.out_spec[0]: key[batch], numbers.out_spec[1]: other[out]}
            new = tuple(place.get(d, 0) for d in range(len(lhs.axes)))
            blocks[new] = lax.add(blocks[new], part) if new in blocks else part
    shape = eqn.outvars[0].aval.shape
    axes = [((int(n),),) for n in shape]
    axes[numbers.out_spec[0]] = lhs.axes[batch]
    axes[numbers.out_spec[1]] = rhs.axes[out]
    return [Blocked(tuple(axes), blocks, True)]


def _by_groups(
    lhs: Blocked, rhs: Blocked, axes: tuple[int, int, int], groups: int
) -> tuple[Blocked, Blocked]:
    """Cuts between groups of features alike on both sides; elsewhere joins."""
    features, out, into = axes
    rhs = joined(rhs, into)
    ends = []
    for x, axis in ((lhs, features), (rhs, out)):
        size, at, points = x.shape[axis] // groups, 0, []
        for n in x.dims[axis][:-1]:
            at += n
            points.append(at / size)
        ends.append(points)
    points = {p for found in ends for p in found}
    if any(not p.is_integer() for p in points):
        return joined(lhs, features), joined(rhs, out)
    per = lhs.shape[features] // groups, rhs.shape[out] // groups
    cuts = [
        stretches([int(p) * n for p in points], x.shape[axis])
        for n, x, axis in zip(per, (lhs, rhs), (features, out), strict=True)
    ]
    return conform(lhs, features, (cuts[0],)), conform(rhs, out, (cuts[1],))
