"""Finds index sets that may be permuted inside each block of another by themselves."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from wsl._infer._parts import Axis, Tracker, Value


Leaves: TypeAlias = Sequence[Value]


def find_nesting(
    tracker: Tracker,
    leaves: Leaves,
    run: Callable[[Leaves], object],
    *,
    fixed: bool = False,
) -> dict[int, int]:
    """Nests free index sets in others wherever the function allows it.

    What index sets are, and which are free, must be known: nothing is learnt of it
    here. All hypotheses that do not contradict one another are tested in one run, and
    each that fails is replaced by the next, until a run refutes none.

    Args:
        tracker: What the runs report to.
        leaves: The weights.
        run: Runs the function on the parts of its weights.
        fixed: Whether to nest in fixed sets, not in free ones: what is free in each
            member of an ensemble is.

    Returns:
        For each nested index set that in whose blocks it lies.
    """
    untested = _hypotheses(tracker, leaves, fixed)
    tracker.nested = {}
    if not any(untested.values()):
        return {}
    while True:
        nested = tracker.nested
        for inner, blocks in untested.items():
            if inner not in nested:
                for block in blocks:
                    if inner not in _above(block, nested):
                        nested[inner] = block
                        blocks.remove(block)
                        break
        tested = dict(nested)
        run([_with_blocks(tracker, leaf, tested) for leaf in leaves])
        if tracker.nested == tested:
            return tested


def _hypotheses(tracker: Tracker, leaves: Leaves, fixed: bool) -> dict[int, list[int]]:
    """For each free index set those that may hold it, the likeliest first."""
    parts = [part for leaf in leaves for part in leaf.parts()]
    sets = {part.index_set: None for part in parts if part.index_set is not None}
    free = {s: None for s in sets if tracker.sets.reason(s) is None}
    others = [s for s in sets if s not in free] if fixed else free
    found: dict[int, list[int]] = {}
    for inner in free:
        holders = [leaf for leaf in leaves if _count(leaf.axes, inner)]
        blocks = [
            block
            for block in others
            if block != inner and all(_holds(leaf, inner, block) for leaf in holders)
        ]
        found[inner] = sorted(blocks, key=lambda b: _distance(holders[0], inner, b))
    return found


def _count(axes: Sequence[Axis], index_set: int) -> int:
    return sum(part.index_set == index_set for axis in axes for part in axis)


def _holds(leaf: Value, inner: int, block: int) -> bool:
    """Whether each part of one index set in a leaf has one of another beside it."""
    axes = [axis for axis in leaf.axes if _count([axis], inner)]
    return all(_block_axis(leaf, axis, block) for axis in axes)


def _block_axis(leaf: Value, axis: Axis, block: int) -> Axis:
    """Where the block of what lies on `axis` is: there, or else anywhere, but once."""
    near = axis if _count([axis], block) else [s for a in leaf.axes for s in a]
    return near if _count([near], block) == 1 else []


def _distance(leaf: Value, inner: int, block: int) -> int:
    """How likely nesting is: first in what comes before on an axis, nearest first."""
    parts = [s.index_set for s in leaf.parts()]
    steps = parts.index(inner) - parts.index(block)
    beside = any(_count([a], inner) and _count([a], block) for a in leaf.axes)
    return (steps if steps > 0 else len(parts) - steps) + 2 * len(parts) * (not beside)


def _above(block: int, nested: dict[int, int]) -> list[int]:
    """A set and all in whose blocks it lies."""
    found = [block]
    while (block := nested.get(block, -1)) != -1:
        found.append(block)
    return found


def _with_blocks(tracker: Tracker, leaf: Value, nested: dict[int, int]) -> Value:
    leaf = tracker.operand(leaf)
    for axis in leaf.axes:
        for part in axis:
            if part.index_set in nested:
                block = nested[part.index_set]
                near = _block_axis(leaf, axis, block)
                part.block = next(s for s in near if s.index_set == block)
    return leaf
