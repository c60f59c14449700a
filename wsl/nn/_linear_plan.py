"""What an equivariant linear layer knows before it sees a number.

The coefficients of a mix are one matrix, in blocks: a row of blocks for each input leaf
and pattern, a column for each output leaf and pattern.
"""

import collections
import functools
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from wsl._space import WeightSpace
from wsl.nn._basis import Basis, find_basis, Pattern


BasisName: TypeAlias = Literal["full", "near-neighbour", "layer-tied"]

# The part of an output's variance that comes from the same entry of the input. Pooled
# means have a second moment that may be as small as 1/n of an entry's, or as large: the
# smaller their part, the less the variance depends on which.
_OWN_SHARE = 0.9


class LeafPattern(NamedTuple):
    """A leaf and a pattern of it: one row or column of blocks.

    Attributes:
        leaf: The leaf.
        merged: Which of its slots are equal.
        kept: The slots of each index that is kept, in the order of the mix's form.
        width: Fixed indices times channels.
        fixed: Fixed indices.
    """

    leaf: int
    merged: frozenset[frozenset[int]]
    kept: tuple[frozenset[int], ...]
    width: int
    fixed: int


class Tying(NamedTuple):
    """Which blocks of a mix have the same coefficients.

    Attributes:
        kinds: For each block, its place among the coefficients of its shape.
        scales: What they are multiplied by: one over the number of leaves that reach
            the same output by the same coefficients.
    """

    kinds: np.ndarray
    scales: np.ndarray


class Plan(NamedTuple):
    """Everything static about a layer.

    Attributes:
        basis: The terms.
        rows: For each mix, its rows of blocks.
        columns: For each mix, its columns of blocks.
        deviations: For each mix, the standard deviation of the first coefficients in
            each block, up to the gain.
        tyings: For each mix, which blocks are tied; empty for a layer that ties none.
        tied_shapes: Shapes of the tied coefficients: how many, rows, columns.
        tied_deviations: Their standard deviations.
        num_constants: How many constants may be added, over all leaves and diagonals.
    """

    basis: Basis
    rows: tuple[tuple[LeafPattern, ...], ...]
    columns: tuple[tuple[LeafPattern, ...], ...]
    deviations: tuple[np.ndarray, ...]
    tyings: tuple[Tying, ...]
    tied_shapes: tuple[tuple[int, int, int], ...]
    tied_deviations: tuple[np.ndarray, ...]
    num_constants: int


@functools.lru_cache(maxsize=256)
def make_plan(
    space: WeightSpace,
    name: BasisName,
    in_channels: tuple[int, ...],
    out_channels: tuple[int, ...],
) -> Plan:
    """Plans a layer; the same one again for the same arguments."""
    basis = find_basis(space, near=name == "near-neighbour")
    rows = tuple(_leaf_patterns(basis, mix.inputs, in_channels) for mix in basis.mixes)
    columns = tuple(
        _leaf_patterns(basis, mix.outputs, out_channels) for mix in basis.mixes
    )
    constants = sum(
        pattern.width
        for pattern in _leaf_patterns(basis, basis.constants, out_channels)
    )
    if name == "layer-tied":
        kinds = _kinds(space, rows, columns)
    else:
        kinds = [
            [[(m, r, c) for c in range(len(columns[m]))] for r in range(len(rows[m]))]
            for m in range(len(rows))
        ]
    deviations = _deviations(rows, columns, kinds, len(space.pieces))
    tyings, shapes, tied_deviations = (), (), ()
    if name == "layer-tied":
        tyings, shapes, tied_deviations = _tie(rows, columns, kinds, deviations)
    return Plan(
        basis, rows, columns, deviations, tyings, shapes, tied_deviations, constants
    )


def _leaf_patterns(
    basis: Basis, patterns: Sequence[tuple[int, Pattern]], channels: Sequence[int]
) -> tuple[LeafPattern, ...]:
    """Rows or columns of blocks, in the order in which they lie side by side."""
    found = []
    for s, pattern in patterns:
        signature = basis.signatures[s]
        for leaf, order in zip(signature.leaves, signature.orders, strict=True):
            blocks = [frozenset(order[i] for i in block) for block in pattern.blocks]
            kept = tuple(blocks[b] for b in pattern.kept)
            fixed = basis.layouts[leaf].fixed
            width = fixed * channels[leaf]
            found.append(LeafPattern(leaf, frozenset(blocks), kept, width, fixed))
    return tuple(found)


def _is_own(row: LeafPattern, column: LeafPattern) -> bool:
    """Whether a term reads the very entry of the leaf that it writes."""
    if row.leaf != column.leaf:
        return False
    every = len(row.merged) == len(row.kept) and all(len(b) == 1 for b in row.merged)
    return every and row == column._replace(width=row.width)


def _deviations(
    rows: Sequence[Sequence[LeafPattern]],
    columns: Sequence[Sequence[LeafPattern]],
    kinds: Sequence[Sequence[Sequence[Any]]],
    num_leaves: int,
) -> tuple[np.ndarray, ...]:
    others: list[set] = [set() for _ in range(num_leaves)]
    has_own = [False] * num_leaves
    for m, (ins, outs) in enumerate(zip(rows, columns, strict=True)):
        for r, row in enumerate(ins):
            for c, column in enumerate(outs):
                if _is_own(row, column):
                    has_own[column.leaf] = True
                else:
                    others[column.leaf].add(kinds[m][r][c])
    found = []
    for ins, outs in zip(rows, columns, strict=True):
        variance = np.empty((len(ins), len(outs)))
        for r, row in enumerate(ins):
            for c, column in enumerate(outs):
                terms = len(others[column.leaf])
                own = _OWN_SHARE if terms else 1.0
                share = own if _is_own(row, column) else (1.0 - own) / terms
                variance[r, c] = share / row.width
        found.append(np.sqrt(variance))
    assert all(has_own)
    return tuple(found)


# Tying.


def _kinds(
    space: WeightSpace,
    rows: Sequence[Sequence[LeafPattern]],
    columns: Sequence[Sequence[LeafPattern]],
) -> list[list[list[Any]]]:
    """What a term does, without saying in which layer.

    Two terms are of one kind when their leaves play the same roles (their paths differ
    only in numbers), are in the same relation (the same leaf, the same numbers, the
    slots they share), and the terms match and merge the same slots.
    """
    leaves = space.pieces
    numbers = [re.findall(r"\d+", leaf.path) for leaf in leaves]
    names = [re.sub(r"\d+", "#", leaf.path) for leaf in leaves]
    structure = []
    known: dict[Any, int] = {}
    for leaf in leaves:
        groups = [slot.group for slot in leaf.slots]
        structure.append(
            tuple((groups.index(slot.group), slot.parent) for slot in leaf.slots)
        )

    # Each of these is the same for many pairs of patterns, of which there are hundreds
    # of thousands in deep networks.
    @functools.cache
    def relation(into: int, out_of: int) -> int:
        shared = tuple(
            (i, j)
            for i, slot in enumerate(leaves[into].slots)
            for j, other in enumerate(leaves[out_of].slots)
            if slot.group == other.group
        )
        found = into == out_of, numbers[into] == numbers[out_of], shared
        return known.setdefault(found, len(known))

    def role(pattern: LeafPattern) -> int:
        shape = structure[pattern.leaf], pattern.fixed, pattern.width
        found = names[pattern.leaf], shape, pattern.merged
        return known.setdefault(found, len(known))

    @functools.cache
    def match(kept: tuple, other: tuple) -> int:
        found = frozenset(zip(kept, other, strict=True))
        return known.setdefault(found, len(known))

    kinds = []
    for ins, outs in zip(rows, columns, strict=True):
        sources = [(role(row), row.leaf, row.kept) for row in ins]
        goals = [(role(column), column.leaf, column.kept) for column in outs]
        kinds.append(
            [
                [
                    (source, goal, relation(to, leaf), match(kept, other))
                    for goal, to, other in goals
                ]
                for source, leaf, kept in sources
            ]
        )
    return kinds


def _tie(
    rows: Sequence[Sequence[LeafPattern]],
    columns: Sequence[Sequence[LeafPattern]],
    kinds: Sequence[Sequence[Sequence[Any]]],
    deviations: Sequence[np.ndarray],
) -> tuple[tuple[Tying, ...], tuple[tuple[int, int, int], ...], tuple[np.ndarray, ...]]:
    """Gathers blocks of one kind, by their shape."""
    places: dict[tuple[int, int], dict[Any, int]] = {}
    variances: dict[tuple[int, int], list[list[float]]] = {}
    tyings = []
    for m, (ins, outs) in enumerate(zip(rows, columns, strict=True)):
        index = np.empty((len(ins), len(outs)), np.int32)
        for r, row in enumerate(ins):
            for c, column in enumerate(outs):
                shape = row.width, column.width
                known = places.setdefault(shape, {})
                place = known.setdefault(kinds[m][r][c], len(known))
                found = variances.setdefault(shape, [])
                if place == len(found):
                    found.append([])
                found[place].append(deviations[m][r, c] ** 2)
                index[r, c] = place
        scales = np.empty(index.shape)
        for c in range(len(outs)):
            names = [kinds[m][r][c] for r in range(len(ins))]
            counts = collections.Counter(names)
            scales[:, c] = [1.0 / counts[name] for name in names]
        tyings.append(Tying(index, scales))
    shapes = tuple((len(known), *shape) for shape, known in places.items())
    means = tuple(
        np.array([np.sqrt(np.mean(v)) for v in variances[shape]]) for shape in places
    )
    return tuple(tyings), shapes, means
