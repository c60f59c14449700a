"""Written specifications: what names on axes say of leaves."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from wsl._space._axes import Factor
from wsl._space._leaf import Leaf, make_piece


AxisSpec: TypeAlias = "str | int | None | Sum | Sequence[str | int | Sum]"


class Sum:
    """An axis, or a part of one, in stretches: one index set after the other.

    Attributes:
        terms: What each stretch is: a name, a size of its own that nothing moves, a
            product of these, or a sum again.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> weights = {"w": jnp.ones((18, 8))}  # on h, of 16 units, beside 2 inputs
        >>> wsl.WeightSpace.from_spec(weights, {"['w']": (wsl.Sum("h", 2), "g")}).groups
        {'h': 16, 'g': 8}
    """

    terms: tuple[Any, ...]

    def __init__(self, *terms: Any):
        """Puts stretches side by side.

        Args:
            *terms: What each stretch is.

        Raises:
            ValueError: If there are none, or one is None, which has no size.
        """
        if not terms or None in terms:
            raise ValueError(
                f"A sum is of names and sizes, one or more; got {terms}. Write the "
                "size of what nothing may move."
            )
        self.terms = terms

    def __repr__(self) -> str:
        return f"Sum({', '.join(map(repr, self.terms))})"


class Stacked:
    """A leaf that is a stack along its first axis, each member with names of its own.

    The weights of layers that a loop runs over are such leaves: the rows of one layer
    are the columns of the next.

    Attributes:
        specs: For each index of the first axis, the entries for the other axes.
    """

    specs: tuple[Sequence[Any], ...]

    def __init__(self, *specs: Sequence[Any]):
        """Puts members side by side.

        Args:
            *specs: For each index of the first axis, the entries for the other axes.
        """
        self.specs = specs

    def __repr__(self) -> str:
        return f"Stacked({', '.join(map(repr, self.specs))})"


class _Term(NamedTuple):
    """A stretch of an axis: which indices, and the factors of which it is made."""

    positions: np.ndarray
    factors: tuple[Factor, ...]


def read_spec(
    spec: Mapping[str, Any], leaves: Sequence[Leaf], sizes: Mapping[str, int]
) -> tuple[Leaf, ...]:
    """Leaves with what a spec says of their axes, those with sums in pieces."""
    paths = [leaf.path for leaf in leaves]
    unknown = [path for path in spec if path not in paths]
    if unknown:
        raise ValueError(
            f"The spec names {unknown}, which the weights do not have. "
            f"Their leaves: {paths}."
        )
    missing = [path for path in paths if path not in spec]
    if missing:
        raise ValueError(
            f"The spec leaves out {missing}. Give every leaf one entry for each axis, "
            "None where nothing may move it."
        )
    axes = [axis for leaf in leaves for axis in _entries(leaf, spec[leaf.path])]
    known = _solve_sizes(axes, sizes)
    return tuple(_described(leaf, spec[leaf.path], known) for leaf in leaves)


def _entries(leaf: Leaf, entries: Any) -> Iterator[tuple[str, int, Any]]:
    """The axes of a leaf with their lengths and entries."""
    shape, specs = leaf.shape, [entries]
    if isinstance(entries, Stacked):
        if not shape or len(entries.specs) != shape[0]:
            raise ValueError(
                f"The spec of leaf {leaf.path!r} stacks {len(entries.specs)} members, "
                f"but the leaf has shape {shape}: give one for each index of its first "
                "axis."
            )
        shape, specs = shape[1:], list(entries.specs)
    for one in specs:
        if isinstance(one, str) or len(one) != len(shape):
            raise ValueError(
                f"The spec of leaf {leaf.path!r} is {entries!r}, but the leaf has "
                f"shape {leaf.shape}: give a sequence of {len(shape)} entries."
            )
        for length, entry in zip(shape, one, strict=True):
            yield leaf.path, length, entry


def _solve_sizes(
    axes: Sequence[tuple[str, int, Any]], sizes: Mapping[str, int]
) -> dict[str, int]:
    """The size of every name: as given, of a whole axis, or what is left of one."""
    known, origin = dict(sizes), dict.fromkeys(sizes, "in `sizes`")
    compound = []
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
            compound.append((path, length, entry))
    while compound:
        undecided = []
        for path, length, entry in compound:
            unknown = {name for name in _names(entry) if name not in known}
            size = _only_solution(entry, unknown, length, known)
            if size is not None:
                known[next(iter(unknown))] = size
            elif unknown:
                undecided.append((path, length, entry))
        if len(undecided) == len(compound):
            path, length, entry = undecided[0]
            raise ValueError(
                f"The spec of leaf {path!r} splits an axis of length {length} into "
                f"{_parts(entry)}, which leaves the sizes open. Say them: "
                "`sizes={name: n}`."
            )
        compound = undecided
    return known


def _only_solution(
    entry: Any, unknown: set[str], length: int, known: Mapping[str, int]
) -> int | None:
    """The size of the one unknown name, in which a length is linear."""
    if len(unknown) != 1:
        return None
    (name,) = unknown
    none, one, two = (_length(entry, {**known, name: n}) for n in (0, 1, 2))
    if two - one != one - none:
        return None
    return (length - none) // max(one - none, 1)


def _parts(entry: Any) -> tuple[Any, ...]:
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str | int | Sum) else tuple(entry)


def _names(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    parts = entry.terms if isinstance(entry, Sum) else entry
    if isinstance(parts, int) or parts is None:
        return []
    return [name for part in parts for name in _names(part)]


def _length(entry: Any, known: Mapping[str, int]) -> int:
    if isinstance(entry, str):
        return known[entry]
    if isinstance(entry, int):
        return entry
    if isinstance(entry, Sum):
        return sum(_length(term, known) for term in entry.terms)
    return math.prod(_length(part, known) for part in entry)


def _terms(entry: Any, length: int, known: Mapping[str, int]) -> list[_Term]:
    """The stretches of an axis."""
    if entry is None:
        return [_Term(np.arange(length), (Factor(length),))]
    if isinstance(entry, str | int):
        name = entry if isinstance(entry, str) else None
        size = _length(entry, known)
        return [_Term(np.arange(size), (Factor(size, name),))]
    if isinstance(entry, Sum):
        found, start = [], 0
        for term in entry.terms:
            size = _length(term, known)
            found += [
                one._replace(positions=start + one.positions)
                for one in _terms(term, size, known)
            ]
            start += size
        return found
    found = [_Term(np.arange(1), ())]
    for part in entry:
        size = _length(part, known)
        found = [
            _Term(
                (before.positions[:, None] * size + after.positions).ravel(),
                (*before.factors, *after.factors),
            )
            for before in found
            for after in _terms(part, size, known)
        ]
    return found


def _described(leaf: Leaf, entries: Any, known: Mapping[str, int]) -> Leaf:
    if isinstance(entries, Stacked):
        pieces = []
        for i, one in enumerate(entries.specs):
            first = _Term(np.arange(i, i + 1), (Factor(1),))
            pieces += _combined(leaf, [[first], *_axes(leaf, 1, one, known)])
        return dataclasses.replace(leaf, pieces=tuple(pieces))
    axes = _axes(leaf, 0, entries, known)
    if all(len(terms) == 1 for terms in axes):
        return dataclasses.replace(leaf, axes=tuple(t[0].factors for t in axes))
    return dataclasses.replace(leaf, pieces=tuple(_combined(leaf, axes)))


def _axes(
    leaf: Leaf, first: int, entries: Sequence[Any], known: Mapping[str, int]
) -> list[list[_Term]]:
    found = []
    for length, entry in zip(leaf.shape[first:], entries, strict=True):
        if entry is not None and _length(entry, known) != length:
            sizes = " x ".join(str(_length(part, known)) for part in _parts(entry))
            raise ValueError(
                f"The spec of leaf {leaf.path!r} splits an axis of length {length} "
                f"into {_parts(entry)}, that is {sizes}."
            )
        found.append(_terms(entry, length, known))
    return found


def _combined(leaf: Leaf, axes: Sequence[Sequence[_Term]]) -> list[Leaf]:
    return [
        make_piece(
            leaf,
            [tuple(term.positions.tolist()) for term in chosen],
            [term.factors for term in chosen],
        )
        for chosen in itertools.product(*axes)
    ]
