"""Gather, scatter and slices that start where the data say."""

from collections.abc import Sequence
from typing import Any

from wsl._infer._parts import Axis, Tracker, Value
from wsl._infer._rules import rule, shape_of
from wsl._infer._store import Reason


_INDEXED = Reason("indexed")


@rule("gather")
def gather(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Axes that are taken whole pass; what is indexed is fixed."""
    operand, indices = operands
    numbers = eqn.params["dimension_numbers"]
    sizes = [int(n) for n in eqn.params["slice_sizes"]]
    shape, result = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    tracker.freeze(indices.axes[-1], _INDEXED)
    batch = list(indices.axes[:-1])
    for d, at in zip(
        numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
    ):
        batch[at] = tracker.align(batch[at], operand.axes[d])
    windows = []
    for d, axis in enumerate(operand.axes):
        if d in numbers.operand_batching_dims:
            continue
        # A whole axis is taken from its start, or filled, wherever it is asked for.
        if sizes[d] != shape[d]:
            axis = tracker.fix(axis, sizes[d], _INDEXED)
        if d not in numbers.collapsed_slice_dims:
            windows.append(axis)
    offsets = [int(d) for d in numbers.offset_dims]
    return [Value(_interleave(offsets, windows, batch, len(result)))]


@rule("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul")
def scatter(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Axes that are written whole pass; what is indexed is fixed."""
    operand, indices, updates = operands
    numbers = eqn.params["dimension_numbers"]
    shape, written = shape_of(eqn.invars[0]), shape_of(eqn.invars[2])
    tracker.freeze(indices.axes[-1], _INDEXED)
    windows = list(numbers.update_window_dims)
    rows = [d for d in range(len(written)) if d not in windows]
    batching = dict(
        zip(
            numbers.operand_batching_dims,
            numbers.scatter_indices_batching_dims,
            strict=True,
        )
    )
    for at, row in enumerate(rows):
        same = tracker.align(indices.axes[at], updates.axes[row])
        if at not in batching.values():
            # Where rows fall on one another, the last to be written may stay.
            tracker.freeze(same, _INDEXED)
    axes: list[Axis] = []
    for d, axis in enumerate(operand.axes):
        if d in batching:
            axes.append(tracker.align(axis, updates.axes[rows[batching[d]]]))
        elif d in numbers.inserted_window_dims:
            axes.append(tracker.fix(axis, shape[d], _INDEXED))
        else:
            window = windows.pop(0)
            update = updates.axes[window]
            if written[window] == shape[d]:
                axes.append(tracker.align(axis, update))
            else:
                tracker.freeze(update, _INDEXED)
                axes.append(tracker.fix(axis, shape[d], _INDEXED))
    return [Value(tuple(axes))]


@rule("dynamic_slice")
def dynamic_slice(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Axes that are taken whole pass."""
    shape, sizes = shape_of(eqn.invars[0]), shape_of(eqn.outvars[0])
    axes = [
        axis if sizes[d] == shape[d] else tracker.fix(axis, sizes[d], _INDEXED)
        for d, axis in enumerate(operands[0].axes)
    ]
    return [Value(tuple(axes))]


@rule("dynamic_update_slice")
def dynamic_update_slice(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Axes that are written whole pass."""
    shape, written = shape_of(eqn.invars[0]), shape_of(eqn.invars[1])
    axes = []
    for d, (axis, update) in enumerate(
        zip(operands[0].axes, operands[1].axes, strict=True)
    ):
        if written[d] == shape[d]:
            axes.append(tracker.align(axis, update))
        else:
            tracker.freeze(update, _INDEXED)
            axes.append(tracker.fix(axis, shape[d], _INDEXED))
    return [Value(tuple(axes))]


def _interleave(
    offsets: Sequence[int], windows: list[Axis], batch: list[Axis], rank: int
) -> tuple[Axis, ...]:
    """Puts the axes of the windows at `offsets`, those of the batch elsewhere."""
    first, second = iter(windows), iter(batch)
    return tuple(next(first if d in offsets else second) for d in range(rank))
