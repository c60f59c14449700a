"""What acts on the axes of weights: factors of axes, and where groups act on them."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Factor(NamedTuple):
    """A part of an axis.

    An axis of length `n` is the row-major product of its factors: a feature map of 8
    channels and 5 x 5 pixels that was flattened has the factors 8 and 25, the three
    gates of a GRU with 16 units 3 and 16.

    Attributes:
        size: How many indices the factor has.
        name: What its indices are. Factors with the same name have the same indices,
            wherever they are. None where it does not matter, as nothing may move them.
    """

    size: int
    name: str | None = None


class Slot(NamedTuple):
    """A factor of some leaf that a group acts on.

    Attributes:
        dimension: Position among all factors of the leaf, in order.
        size: How many indices it has.
        group: Name of the group.
        parent: For a nested group, which of the leaf's slots holds the index of its
            block; None otherwise.
    """

    dimension: int
    size: int
    group: str
    parent: int | None


def find_slots(
    path: str,
    axes: Sequence[Sequence[Factor]],
    fixed: Collection[str],
    nested: Mapping[str, str],
) -> tuple[Slot, ...]:
    """The slots of one leaf, each nested one beside that of its block."""
    found: list[tuple[int, int, Factor]] = []  # axis, dimension, factor
    dimension = 0
    for axis, factors in enumerate(axes):
        for factor in factors:
            if factor.name is not None and factor.name not in fixed:
                found.append((axis, dimension, factor))
            dimension += 1
    slots = []
    for axis, dimension, factor in found:
        name = str(factor.name)
        parent = None
        if name in nested:
            above = [
                (i, at) for i, (at, _, f) in enumerate(found) if f.name == nested[name]
            ]
            beside = [i for i, at in above if at == axis] or [i for i, _ in above]
            if len(beside) != 1:
                raise ValueError(
                    f"Group {name!r} is nested in {nested[name]!r}, so that every leaf "
                    f"with an axis of the one needs an axis of the other beside it; "
                    f"leaf {path!r} has {len(beside)}."
                )
            (parent,) = beside
        slots.append(Slot(dimension, factor.size, name, parent))
    return tuple(slots)
