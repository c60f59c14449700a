"""What acts on the axes of weights: factors of axes, and the spec that names them."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias


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


AxisSpec: TypeAlias = str | int | None | Sequence[str | int]


def read_spec(
    spec: Mapping[str, Sequence[AxisSpec]],
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
) -> dict[str, tuple[tuple[Factor, ...], ...]]:
    """The factors of every axis of every leaf, by path, from names and lengths."""
    unknown = [path for path in spec if path not in shapes]
    if unknown:
        raise ValueError(
            f"The spec names {unknown}, which the weights do not have. "
            f"Their leaves: {list(shapes)}."
        )
    missing = [path for path in shapes if path not in spec]
    if missing:
        raise ValueError(
            f"The spec leaves out {missing}. Give every leaf one entry for each axis, "
            "None where nothing may move it."
        )
    for path, shape in shapes.items():
        if isinstance(spec[path], str) or len(spec[path]) != len(shape):
            raise ValueError(
                f"The spec of leaf {path!r} is {spec[path]!r}, but the leaf has shape "
                f"{shape}: give a sequence of {len(shape)} entries."
            )
    axes = {
        path: [(path, *axis) for axis in zip(shape, spec[path], strict=True)]
        for path, shape in shapes.items()
    }
    known = _solve_sizes([axis for leaf in axes.values() for axis in leaf], sizes)
    return {
        path: tuple(_factors(*axis, known) for axis in leaf)
        for path, leaf in axes.items()
    }


def _solve_sizes(
    axes: Sequence[tuple[str, int, AxisSpec]], sizes: Mapping[str, int]
) -> dict[str, int]:
    """The size of every name: as given, of a whole axis, or what is left of one."""
    known, origin = dict(sizes), dict.fromkeys(sizes, "in `sizes`")
    factored = []
    for path, length, entry in axes:
        if isinstance(entry, str):
            size = known.setdefault(entry, length)
            where = origin.setdefault(entry, f"on leaf {path!r}")
            if size != length:
                raise ValueError(
                    f"Group {entry!r} has size {size} {where} but {length} on leaf "
                    f"{path!r}."
                )
        elif entry is not None:
            factored.append((path, length, _parts(entry)))
    while factored:
        undecided = []
        for path, length, parts in factored:
            unknown = [p for p in parts if isinstance(p, str) and p not in known]
            if len(unknown) == 1:
                known[unknown[0]] = length // max(_product(parts, known), 1)
            elif unknown:
                undecided.append((path, length, parts))
        if len(undecided) == len(factored):
            path, length, parts = undecided[0]
            raise ValueError(
                f"The spec of leaf {path!r} splits an axis of length {length} into "
                f"{parts}, which leaves the sizes open. Say them: `sizes={{name: n}}`."
            )
        factored = undecided
    return known


def _parts(entry: AxisSpec) -> tuple[str | int, ...]:
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str | int) else tuple(entry)


def _product(parts: Sequence[str | int], known: Mapping[str, int]) -> int:
    return math.prod(p if isinstance(p, int) else known.get(p, 1) for p in parts)


def _factors(
    path: str, length: int, entry: AxisSpec, known: Mapping[str, int]
) -> tuple[Factor, ...]:
    if entry is None:
        return (Factor(length),)
    parts = _parts(entry)
    factors = tuple(
        Factor(p) if isinstance(p, int) else Factor(known[p], p) for p in parts
    )
    if _product(parts, known) != length:
        sizes = " x ".join(str(factor.size) for factor in factors)
        raise ValueError(
            f"The spec of leaf {path!r} splits an axis of length {length} into "
            f"{parts}, that is {sizes}."
        )
    return factors


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
