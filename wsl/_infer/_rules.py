"""What each primitive does to the parts of its operands: the common ones."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, TypeAlias

from wsl._infer._parts import Axis, Tracker, Value
from wsl._infer._store import Reason


Rule: TypeAlias = Callable[[Tracker, Any, Sequence[Value]], list[Value] | None]
"""From a tracker, an equation and copies of its operands' parts to its results; None
where a rule cannot say."""

RULES: dict[str, Rule] = {}
"""Rules by the name of the primitive."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for primitives."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def shape_of(variable: Any) -> tuple[int, ...]:
    """Shape of a variable of a jaxpr; `()` where it is no array."""
    return tuple(map(int, getattr(variable.aval, "shape", ())))


@rule(
    *"abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e "
    "bitcast_convert_type cbrt ceil clamp clz complex conj convert_element_type copy "
    "copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt "
    "igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p "
    "log2 logistic lt lt_to max min mul mul_any mulhi name ne neg nextafter not "
    "one_minus_square or polygamma population_count pow pvary random_gamma_grad real "
    "reduce_precision regularized_incomplete_beta rem round rsqrt select_if_vmap "
    "select_n "
    "sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign "
    "sin sinh sqrt square stop_gradient sub tan tanh xor zeta".split()
)
def elementwise(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Operands come together index by index; scalars and axes of length 1 repeat."""
    (result,) = eqn.outvars
    shape = shape_of(result)
    arrays = []
    for variable, operand in zip(eqn.invars, operands, strict=True):
        lengths = shape_of(variable)
        if lengths == ():
            continue
        if len(lengths) != len(shape) or any(
            n not in (1, m) for n, m in zip(lengths, shape, strict=True)
        ):
            return None
        repeated = [
            axis if n == m else tracker.uniform(m)
            for axis, n, m in zip(operand.axes, lengths, shape, strict=True)
        ]
        arrays.append(Value(tuple(repeated)))
    if not arrays:
        return None
    return [tracker.align_arrays(arrays)]


@rule("optimization_barrier", "device_put")
def unchanged(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """The results are the operands."""
    del tracker
    return list(operands) if len(eqn.outvars) == len(operands) else None


@rule("iota")
def iota(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Counts along one axis, the same along the others."""
    del operands
    axes = [
        tracker.fixed(n, Reason("iota"))
        if d == eqn.params["dimension"]
        else tracker.uniform(n)
        for d, n in enumerate(shape_of(eqn.outvars[0]))
    ]
    return [Value(tuple(axes))]


@rule(
    *"reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum "
    "reduce_xor".split()
)
def reduction(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Does not depend on the order along the reduced axes."""
    del tracker
    return [_without(operands[0], eqn.params["axes"])]


@rule("pmax", "pmin", "psum")
def mapped_reduction(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """A reduction over what was a mapped axis, and is an axis of the array."""
    axes = eqn.params["axes"]
    if (
        not all(hasattr(d, "__index__") for d in axes)
        or eqn.params["axis_index_groups"]
    ):
        return None
    del tracker
    return [_without(operand, axes) for operand in operands]


@rule("argmax", "argmin")
def argument(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """An index depends on the order along the reduced axes."""
    for d in eqn.params["axes"]:
        tracker.freeze(operands[0].axes[d], Reason(eqn.primitive.name))
    return [_without(operands[0], eqn.params["axes"])]


@rule("reduce")
def any_reduction(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """A reduction by an unknown function may depend on the order."""
    arrays = operands[: len(eqn.outvars)]
    if any(shape_of(v) != () for v in eqn.invars[len(arrays) :]):
        return None
    merged = tracker.align_arrays(arrays)
    for d in eqn.params["dimensions"]:
        tracker.freeze(merged.axes[d], Reason("reduce"))
    return [_without(merged, eqn.params["dimensions"])] * len(arrays)


@rule("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum")
def cumulative(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Depends on the order along one axis."""
    return [_mixed(tracker, eqn, operands[0], eqn.params["axis"])]


@rule("sort")
def sort(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """One array, sorted, does not depend on the order; others in its order do."""
    dimension = eqn.params["dimension"]
    merged = tracker.align_arrays(operands)
    axis = merged.axes[dimension]
    if len(operands) > 1:
        tracker.freeze(axis, Reason("sort"))
    axes = list(merged.axes)
    length = shape_of(eqn.invars[0])[dimension]
    axes[dimension] = tracker.fixed(length, Reason("sort"))
    return [Value(tuple(axes))] * len(operands)


@rule("top_k")
def top_k(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Gives indices, which depend on the order."""
    last = eqn.params.get("axis", -1) % len(operands[0].axes)
    k = shape_of(eqn.outvars[0])[last]
    axes = list(operands[0].axes)
    axes[last] = tracker.fix(axes[last], k, Reason("top_k"))
    return [Value(tuple(axes))] * 2


@rule(
    *"random_bits random_clone random_fold_in random_gamma random_seed random_split "
    "random_unwrap random_wrap rng_bit_generator rng_uniform threefry2x32".split()
)
def random_numbers(tracker: Tracker, eqn: Any, operands: Sequence[Value]):
    """Other numbers at every index."""
    reason = Reason("random numbers")
    for operand in operands:
        tracker.freeze(operand.parts(), reason)
    return [_fixed(tracker, shape_of(v), reason) for v in eqn.outvars]


def unknown(tracker: Tracker, eqn: Any, operands: Sequence[Value]) -> list[Value]:
    """Fixes all that an unknown primitive touches, and blames it for that.

    Where all its operands are fixed anyway, for instance inputs, so are its results,
    and nothing is lost.
    """
    name = eqn.primitive.name
    parts = [part for operand in operands for part in operand.parts()]
    reasons = [
        part.reason if part.index_set is None else tracker.sets.reason(part.index_set)
        for part in parts
    ]
    known = [reason for reason in reasons if reason is not None]
    blame = Reason(f"unknown primitive {name!r}", name)
    reason = known[0] if known and len(known) == len(parts) else blame
    tracker.freeze(parts, reason)
    return [_fixed(tracker, shape_of(v), reason) for v in eqn.outvars]


def _fixed(tracker: Tracker, shape: Sequence[int], reason: Reason) -> Value:
    return Value(tuple(tracker.fixed(n, reason) for n in shape))


def _without(value: Value, dimensions: Sequence[SupportsIndex]) -> Value:
    axes: list[Axis] = list(value.axes)
    return Value(tuple(a for d, a in enumerate(axes) if d not in dimensions))


def _mixed(tracker: Tracker, eqn: Any, value: Value, dimension: Any) -> Value:
    axes = list(value.axes)
    length = shape_of(eqn.outvars[0])[dimension]
    axes[dimension] = tracker.fix(axes[dimension], length, Reason(eqn.primitive.name))
    return Value(tuple(axes))
