"""Primitives that only move numbers: reshape, broadcast, cut, join."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

from wsl._infer._parts import Axis, Tracker, Value
from wsl._infer._rules import rule, shape_of
from wsl._infer._store import Reason


@rule("broadcast_in_dim")
def broadcast_in_dim(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """New axes, and those of length 1 that grow, are uniform."""
    if len(operands) != 1:
        return None
    before = shape_of(eqn.invars[0])
    shape = shape_of(eqn.outvars[0])
    axes = [tracker.uniform(n) for n in shape]
    for d, to in enumerate(eqn.params["broadcast_dimensions"]):
        if before[d] == shape[to]:
            axes[to] = operands[0].axes[d]
    return [Value(tuple(axes))]


@rule("tile")
def tile(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Copies one after the other: uniform over the copies."""
    axes = [
        [*tracker.uniform(int(copies)), *axis]
        for copies, axis in zip(eqn.params["reps"], operands[0].axes, strict=True)
    ]
    return [Value(tuple(axes))]


@rule("transpose")
def transpose(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Axes in another order."""
    del tracker
    return [Value(tuple(operands[0].axes[d] for d in eqn.params["permutation"]))]


@rule("squeeze")
def squeeze(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Axes of length 1 go."""
    del tracker
    gone = eqn.params["dimensions"]
    return [Value(tuple(a for d, a in enumerate(operands[0].axes) if d not in gone))]


@rule("reshape")
def reshape(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """The parts of all axes, one after the other, cut anew."""
    if len(operands) != 1 or eqn.params.get("dimensions") is not None:
        return None
    shape = shape_of(eqn.outvars[0])
    if 0 in shape:
        return None
    return [Value(tuple(tracker.regroup(list(operands[0].parts()), shape)))]


@rule("rev")
def rev(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """A reversed axis is in another order."""
    axes = list(operands[0].axes)
    for d in eqn.params["dimensions"]:
        if not tracker.is_uniform(axes[d]):
            length = shape_of(eqn.invars[0])[d]
            axes[d] = tracker.fix(axes[d], length, Reason("reversed"))
    return [Value(tuple(axes))]


@rule("pad")
def pad(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """A padded axis has other indices."""
    axes = list(operands[0].axes)
    for d, widths in enumerate(eqn.params["padding_config"]):
        if tuple(widths) != (0, 0, 0):
            length = shape_of(eqn.outvars[0])[d]
            axes[d] = tracker.fix(axes[d], length, Reason("padding"))
    return [Value(tuple(axes))]


@rule("slice")
def slice_(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """A part of an axis; whole blocks of it, where the cuts allow it."""
    shape = shape_of(eqn.invars[0])
    strides = eqn.params["strides"] or (1,) * len(shape)
    axes = []
    for d, (start, limit, stride, n) in enumerate(
        zip(
            eqn.params["start_indices"],
            eqn.params["limit_indices"],
            strides,
            shape,
            strict=True,
        )
    ):
        axis = operands[0].axes[d]
        length = shape_of(eqn.outvars[0])[d]
        if length == n:
            axes.append(axis)
        elif stride != 1:
            axes.append(_part(tracker, axis, length, Reason("slice")))
        else:
            span = (int(start), int(limit))
            (part,) = _cut(tracker, axis, n, [span], Reason("slice"), (id(eqn), d))
            axes.append(part)
    return [Value(tuple(axes))]


@rule("split")
def split(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """All parts of an axis."""
    d, sizes = eqn.params["axis"], [int(n) for n in eqn.params["sizes"]]
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    spans = [(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]
    axes = operands[0].axes
    parts = _cut(tracker, axes[d], stops[-1], spans, Reason("split"), (id(eqn), d))
    return [Value((*axes[:d], part, *axes[d + 1 :])) for part in parts]


@rule("unstack")
def unstack(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Every index of an axis by itself."""
    d, axes = eqn.params["axis"], operands[0].axes
    spans = [(i, i + 1) for i in range(len(eqn.outvars))]
    if tracker.explore(axes[d], spans, (id(eqn), d)) is None:
        tracker.freeze(axes[d], Reason("slice"))
    return [Value((*axes[:d], *axes[d + 1 :]))] * len(eqn.outvars)


@rule("stack")
def stack(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """A new axis that runs over the operands."""
    d = eqn.params["axis"]
    axes = [
        tracker.tie(same, "stack")
        for same in zip(*(value.axes for value in operands), strict=True)
    ]
    new = tracker.fixed(len(operands), Reason("stack"))
    return [Value((*axes[:d], new, *axes[d:]))]


@rule("concatenate")
def concatenate(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Blocks of one length, the greatest that divides all, one after the other."""
    at = eqn.params["dimension"]
    lengths = [shape_of(v)[at] for v in eqn.invars]
    arrays = [(v, n) for v, n in zip(operands, lengths, strict=True) if n]
    if len(arrays) < 2:
        return [value for value, _ in arrays] or None
    size = math.gcd(*lengths)
    reason = Reason(f"concatenation of lengths {', '.join(map(str, lengths))}")
    inner = []
    for value, n in arrays:
        blocks, block = tracker.regroup(value.axes[at], (n // size, size))
        tracker.freeze(blocks, reason)
        inner.append(block)
    axes: list[Axis] = [
        tracker.align(*(value.axes[d] for value, _ in arrays))
        if d != at
        else [
            *tracker.fixed(sum(lengths) // size, reason),
            *tracker.tie(inner, reason.text),
        ]
        for d in range(len(operands[0].axes))
    ]
    return [Value(tuple(axes))]


def _part(tracker: Tracker, axis: Axis, length: int, reason: Reason) -> Axis:
    if tracker.is_uniform(axis):
        return tracker.uniform(length)
    return tracker.fix(axis, length, reason)


def _cut(
    tracker: Tracker,
    axis: Axis,
    n: int,
    spans: Sequence[tuple[int, int]],
    reason: Reason,
    place: Hashable,
) -> list[Axis]:
    """Stretches of an axis: of blocks as long as all the cuts allow."""
    if tracker.is_uniform(axis):
        return [tracker.uniform(stop - start) for start, stop in spans]
    if (explored := tracker.explore(axis, spans, place)) is not None:
        return explored
    reason = tracker.why_fixed(axis) or reason
    size = math.gcd(n, *(cut for span in spans for cut in span))
    blocks, inner = tracker.regroup(axis, (n // size, size))
    tracker.freeze(blocks, reason)
    return [
        [*tracker.fixed((stop - start) // size, reason), *inner] if stop > start else []
        for start, stop in spans
    ]
