"""Products that contract axes, and windows that slide over them."""

from collections.abc import Sequence
from typing import Any

from wsl._infer._parts import Axis, Tracker, Value
from wsl._infer._rules import rule, shape_of
from wsl._infer._store import Reason


@rule("dot_general")
def dot_general(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Contracted and batch axes are the same on both sides."""
    lhs, rhs = operands
    contracted, batch = eqn.params["dimension_numbers"]
    for left, right in zip(*contracted, strict=True):
        tracker.align(lhs.axes[left], rhs.axes[right])
    axes = [
        tracker.align(lhs.axes[left], rhs.axes[right])
        for left, right in zip(*batch, strict=True)
    ]
    for value, used in zip(operands, zip(contracted, batch, strict=True), strict=True):
        axes += [
            axis
            for d, axis in enumerate(value.axes)
            if all(d not in dimensions for dimensions in used)
        ]
    return [Value(tuple(axes))]


@rule("conv_general_dilated")
def convolution(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Contracts features, group by group; fixes what the window slides over."""
    params, (lhs, rhs) = eqn.params, operands
    if params["batch_group_count"] != 1:
        return None
    numbers, reason = params["dimension_numbers"], Reason("convolution")
    batch, features, *space = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    groups = int(params["feature_group_count"])
    in_shape, window_shape = map(shape_of, eqn.invars)
    shape = shape_of(eqn.outvars[0])
    in_groups, contracted = tracker.regroup(
        lhs.axes[features], (groups, in_shape[features] // groups)
    )
    out_groups, units = tracker.regroup(
        rhs.axes[out], (groups, window_shape[out] // groups)
    )
    tracker.align(contracted, rhs.axes[into])
    axes: list[Axis] = [[] for _ in shape]
    axes[numbers.out_spec[0]] = lhs.axes[batch]
    axes[numbers.out_spec[1]] = [*tracker.align(in_groups, out_groups), *units]
    for i, to in enumerate(numbers.out_spec[2:]):
        pointwise = (
            window_shape[window[i]] == 1
            and params["window_strides"][i] == 1
            and tuple(params["padding"][i]) == (0, 0)
            and params["lhs_dilation"][i] == 1
        )
        along = lhs.axes[space[i]]
        axes[to] = along if pointwise else tracker.fix(along, shape[to], reason)
        tracker.freeze(rhs.axes[window[i]], reason)
    return [Value(tuple(axes))]


@rule("reduce_window_max", "reduce_window_min", "reduce_window_sum")
def window_reduction(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Fixes the axes that the window slides over."""
    params, axes = eqn.params, list(operands[0].axes)
    for d, (size, stride, padding, base) in enumerate(
        zip(
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            params["base_dilation"],
            strict=True,
        )
    ):
        if (size, stride, tuple(padding), base) != (1, 1, (0, 0), 1):
            length = shape_of(eqn.outvars[0])[d]
            axes[d] = tracker.fix(axes[d], length, Reason("pooling"))
    return [Value(tuple(axes))]


def _along_batch(tracker: Tracker, eqn: Any, operands: Sequence[Value], last: int):
    """What works on the last axes, and on each of the others by itself."""
    ranks = [len(value.axes) for value in operands]
    batch = max(ranks, default=0) - last
    if batch < 0 or any(rank != batch + last for rank in ranks):
        return None
    reason = Reason(eqn.primitive.name)
    aligned = []
    for d in range(batch):
        lengths = {shape_of(v)[d] for v in eqn.invars}
        if len(lengths) > 1:
            return None
        aligned.append(tracker.align(*(value.axes[d] for value in operands)))
    for value in operands:
        for axis in value.axes[batch:]:
            tracker.freeze(axis, reason)
    results = []
    for variable in eqn.outvars:
        shape = shape_of(variable)
        if shape[:batch] != shape_of(eqn.invars[0])[:batch]:
            return None
        rest = [tracker.fixed(n, reason) for n in shape[batch:]]
        results.append(Value((*aligned, *rest)))
    return results


@rule("fft")
def fft(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Mixes the last axes."""
    return _along_batch(tracker, eqn, operands, len(eqn.params["fft_lengths"]))


@rule(*"cholesky eigh eig geqrf hessenberg lu qr schur svd tridiagonal".split())
def linear_algebra(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Works on matrices, each by itself."""
    return _along_batch(tracker, eqn, operands, 2)


@rule("lu_pivots_to_permutation")
def pivots(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Works on vectors, each by itself."""
    return _along_batch(tracker, eqn, operands, 1)


@rule("triangular_solve")
def triangular_solve(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Solves for each right-hand side by itself."""
    matrix, sides = operands
    at = len(sides.axes) - (1 if eqn.params["left_side"] else 2)
    held = list(sides.axes)
    held[at] = tracker.uniform(shape_of(eqn.invars[1])[at])
    results = _along_batch(tracker, eqn, [matrix, Value(tuple(held))], 2)
    if results is None:
        return None
    solved = list(results[0].axes)
    solved[at] = sides.axes[at]
    return [Value(tuple(solved))]
