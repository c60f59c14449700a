"""One inference on one jaxpr: which index sets there are, and which are free."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wsl._infer._control import Interpreter, used_inputs
from wsl._infer._nesting import find_nesting
from wsl._infer._parts import Tracker, Value
from wsl._infer._store import IndexSets, Reason


class Problem(NamedTuple):
    """A function to follow.

    Attributes:
        jaxpr: From the weights' leaves and constants to all outputs.
        shapes: Shapes of the leaves.
        constants: Shapes of what else goes in, and why their axes are fixed.
        outputs: For each output of the jaxpr, which of the function's it is a part of;
            None where they are the same.
    """

    jaxpr: Any
    shapes: tuple[tuple[int, ...], ...]
    constants: tuple[tuple[tuple[int, ...], Reason], ...]
    outputs: tuple[int, ...] | None = None


class Analysis(NamedTuple):
    """What an inference found.

    Attributes:
        sets: The index sets.
        leaves: The parts of every axis of every leaf.
        nested: Index sets, and those in whose blocks they are nested.
        inside: The same for blocks that nothing moves.
        used: Which leaves the function depends on.
    """

    sets: IndexSets
    leaves: list[Value]
    nested: dict[int, int]
    inside: dict[int, int]
    used: set[int]


def analyse(
    problem: Problem,
    *,
    exploring: bool = False,
    watch: Callable[[Any, list[Value]], None] | None = None,
) -> Analysis:
    """Follows every axis of every leaf.

    Args:
        problem: What to follow.
        exploring: Whether only to look for cuts, which the sets' `demands` then name.
        watch: Told of every equation and the parts of its results, once all is known.

    Returns:
        The sets; unless exploring, all that is free leaves the function unchanged.
    """
    sets = IndexSets()
    tracker = Tracker(sets, exploring=exploring)
    used = used_inputs(problem.jaxpr)
    leaves = [
        _value(sets, shape, None if at in used else Reason("not used"))
        for at, shape in enumerate(problem.shapes)
    ]
    constants = [_value(sets, shape, reason) for shape, reason in problem.constants]
    interpreter = Interpreter(tracker)

    def run(leaves: Sequence[Value]) -> None:
        outputs = interpreter.run(problem.jaxpr, [*leaves, *constants])
        which = problem.outputs or range(len(outputs))
        alone = max(which, default=0) == 0
        for i, value in zip(which, outputs, strict=True):
            name = "output" if alone else f"output {i}"
            tracker.freeze(value.parts(), Reason(name))

    if exploring:
        run(leaves)
        return Analysis(sets, [tracker.operand(leaf) for leaf in leaves], {}, {}, used)
    # What a run that learns nothing has used is true.
    known = -1
    while known != sets.changes:
        known = sets.changes
        run(leaves)
    leaves = [tracker.operand(leaf) for leaf in leaves]
    nested = find_nesting(tracker, leaves, run)
    inside = find_nesting(tracker, leaves, run, fixed=True)
    if watch is not None:
        interpreter.watch = watch
        run(leaves)
    if known != sets.changes:
        raise AssertionError("The search for nested groups has found other groups.")
    return Analysis(sets, leaves, nested, inside, used)


def _value(sets: IndexSets, shape: Sequence[int], reason: Reason | None) -> Value:
    tracker = Tracker(sets)
    axes = [tracker.uniform(n) for n in shape]
    for axis in axes:
        for part in axis:
            part.index_set = sets.new(part.size, reason)
    return Value(tuple(axes))
