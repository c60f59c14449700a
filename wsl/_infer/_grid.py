"""Arrays in blocks: how axes are cut, and how two axes are cut alike.

An axis is the row-major product of *dimensions*; a dimension is cut into stretches, and
stands for their lengths: `((18,),)` is a plain axis, `((16, 2),)` one that was put
together from 16 and 2, `((4,), (1, 1, 1), (8,))` three things for each of four heads.
A block takes one stretch of every dimension.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import lax


Dimension: TypeAlias = tuple[int, ...]
Cuts: TypeAlias = tuple[Dimension, ...]
"""The dimensions of one axis."""

Key: TypeAlias = tuple[int, ...]
"""Which stretch of each dimension, of all axes in order."""


class Blocked(NamedTuple):
    """An array in blocks.

    Attributes:
        axes: How each axis is cut.
        blocks: The blocks by their keys, with an axis for every dimension.
        tainted: Whether it depends on the weights.
    """

    axes: tuple[Cuts, ...]
    blocks: dict[Key, Any]
    tainted: bool

    @property
    def dims(self) -> Cuts:
        """The dimensions of all axes, in order."""
        return tuple(dim for axis in self.axes for dim in axis)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(length(axis) for axis in self.axes)

    @property
    def is_cut(self) -> bool:
        """Whether there is more than one block."""
        return len(self.blocks) > 1

    def place(self, axis: int) -> int:
        """Where the dimensions of an axis begin."""
        return sum(map(len, self.axes[:axis]))

    def span(self, axis: int) -> list[int]:
        """Places of the dimensions of an axis."""
        start = self.place(axis)
        return list(range(start, start + len(self.axes[axis])))

    def replace(self, axis: int, cuts: Cuts, blocks: dict[Key, Any]) -> "Blocked":
        """The same with other dimensions for one axis."""
        axes = (*self.axes[:axis], cuts, *self.axes[axis + 1 :])
        return Blocked(axes, blocks, self.tainted)


def length(cuts: Cuts) -> int:
    """Length of an axis."""
    return math.prod(map(sum, cuts))


def whole(array: Any, tainted: bool) -> Blocked:
    """A plain array, as one block."""
    shape = jnp.shape(array)
    return Blocked(tuple(((n,),) for n in shape), {(0,) * len(shape): array}, tainted)


def keys(dims: Iterable[Dimension]) -> Iterator[Key]:
    """All blocks of some dimensions."""
    return itertools.product(*(range(len(dim)) for dim in dims))


def stops(dim: Dimension) -> list[int]:
    """Where the stretches of a dimension begin, and its length."""
    return list(itertools.accumulate(dim, initial=0))


def stretches(points: Iterable[int], size: int) -> Dimension:
    """A dimension that is cut at points."""
    inside = sorted({p for p in points if 0 < p < size})
    return tuple(b - a for a, b in itertools.pairwise([0, *inside, size]))


def factor(dim: Dimension, outer: int) -> tuple[Dimension, Dimension]:
    """A dimension as the product of two, so that each block lies in one old one."""
    size = sum(dim)
    inner = size // outer
    points = stops(dim)[1:-1]
    rows = [p // inner for p in points] + [-(-p // inner) for p in points]
    return stretches(rows, outer), stretches((p % inner for p in points), inner)


def common(first: Cuts, second: Cuts) -> Cuts | None:
    """The coarsest cuts that refine both; None where axes factor differently."""
    left, right, found = deque(first), deque(second), []
    while left and right:
        x, y = left.popleft(), right.popleft()
        m, n = sum(x), sum(y)
        if m == n:
            found.append(stretches((*stops(x), *stops(y)), m))
        elif n and m % n == 0:
            left.extendleft(reversed(factor(x, n)))
            right.appendleft(y)
        elif m and n % m == 0:
            right.extendleft(reversed(factor(y, m)))
            left.appendleft(x)
        else:
            return None
    # What is left over has length 1.
    return tuple(found)


def conform(x: Blocked, axis: int, cuts: Cuts) -> Blocked:
    """Cuts an axis finer, as `common` says."""
    for at, dim in enumerate(cuts):
        here = x.axes[axis][at]
        if sum(here) != sum(dim):
            x = _factored(x, axis, at, sum(dim))
        x = cut(x, axis, at, stops(dim))
    assert x.axes[axis] == cuts, (x.axes[axis], cuts)
    return x


def cut(x: Blocked, axis: int, at: int, points: Iterable[int]) -> Blocked:
    """Cuts one dimension of an axis at more points."""
    old = x.axes[axis][at]
    new = stretches((*stops(old), *points), sum(old))
    if new == old:
        return x
    d, starts, old_starts = x.place(axis) + at, stops(new), stops(old)
    blocks = {}
    for key in keys((*x.dims[:d], new, *x.dims[d + 1 :])):
        start, size = starts[key[d]], new[key[d]]
        home = max(i for i, begin in enumerate(old_starts[:-1]) if begin <= start)
        block = x.blocks[(*key[:d], home, *key[d + 1 :])]
        start -= old_starts[home]
        blocks[key] = lax.slice_in_dim(block, start, start + size, axis=d)
    cuts = x.axes[axis]
    return x.replace(axis, (*cuts[:at], new, *cuts[at + 1 :]), blocks)


def _factored(x: Blocked, axis: int, at: int, outer: int) -> Blocked:
    """One dimension of an axis as the product of two."""
    old = x.axes[axis][at]
    d, inner, begins = x.place(axis) + at, sum(old) // outer, stops(old)
    first, second = factor(old, outer)
    tops, lefts = stops(first), stops(second)
    blocks = {}
    for key in keys((*x.dims[:d], first, second, *x.dims[d + 1 :])):
        top, left = tops[key[d]], lefts[key[d + 1]]
        rows, width = first[key[d]], second[key[d + 1]]
        # One row may be a part of a block; several are whole rows of one.
        start = top * inner + (left if rows == 1 else 0)
        size = width if rows == 1 else rows * inner
        home = max(i for i, begin in enumerate(begins[:-1]) if begin <= start)
        block = x.blocks[(*key[:d], home, *key[d + 2 :])]
        start -= begins[home]
        block = _slice(block, start, size, d)
        full = width if rows == 1 else inner
        block = _reshape(block, (*block.shape[:d], rows, full, *block.shape[d + 1 :]))
        blocks[key] = _slice(block, 0 if rows == 1 else left, width, d + 1)
    cuts = x.axes[axis]
    return x.replace(axis, (*cuts[:at], first, second, *cuts[at + 1 :]), blocks)


def flatten(x: Blocked, axis: int) -> Blocked:
    """An axis as one dimension; blocks are joined only where they must be."""
    cuts, places = x.axes[axis], x.span(axis)
    if len(cuts) == 1:
        return x
    if any(len(dim) > 1 for dim in cuts[1:]):
        x = joined(x, axis)
        cuts = x.axes[axis]
        if len(cuts) == 1:
            return x
    inner = math.prod(map(sum, cuts[1:]))
    start, stop = places[0], places[-1] + 1
    blocks = {}
    for key, block in x.blocks.items():
        shape = (
            *block.shape[:start],
            block.shape[start] * inner,
            *block.shape[stop:],
        )
        blocks[(*key[: start + 1], *key[stop:])] = _reshape(block, shape)
    return x.replace(axis, (tuple(n * inner for n in cuts[0]),), blocks)


def joined(x: Blocked, axis: int) -> Blocked:
    """An axis as one dimension in one piece."""
    places = x.span(axis)
    for d in reversed(places):
        dim = x.dims[d]
        if len(dim) == 1:
            continue
        blocks = {}
        for key in {(*key[:d], 0, *key[d + 1 :]): None for key in x.blocks}:
            parts = [x.blocks[(*key[:d], i, *key[d + 1 :])] for i in range(len(dim))]
            blocks[key] = lax.concatenate(parts, d)
        at = d - places[0]
        cuts = x.axes[axis]
        x = x.replace(axis, (*cuts[:at], (sum(dim),), *cuts[at + 1 :]), blocks)
    return x if len(places) == 1 else flatten(x, axis)


def plain(x: Blocked) -> Any:
    """The array itself."""
    for axis in range(len(x.axes)):
        x = joined(x, axis)
    (array,) = x.blocks.values()
    return array


def tidy(x: Blocked) -> Blocked:
    """As one plain block where nothing is cut."""
    return x if x.is_cut else whole(plain(x), x.tainted)


def align(arrays: Sequence[Blocked]) -> list[Blocked]:
    """Cuts arrays of one shape alike."""
    arrays = list(arrays)
    for axis in range(len(arrays[0].axes)):
        arrays = align_axes(arrays, [axis] * len(arrays))
    return arrays


def align_axes(arrays: Sequence[Blocked], axes: Sequence[int]) -> list[Blocked]:
    """Cuts one axis of each array alike."""
    cuts: Cuts | None = arrays[0].axes[axes[0]]
    for x, axis in zip(arrays[1:], axes[1:], strict=True):
        cuts = None if cuts is None else common(cuts, x.axes[axis])
    if cuts is None:
        return [joined(x, axis) for x, axis in zip(arrays, axes, strict=True)]
    return [conform(x, axis, cuts) for x, axis in zip(arrays, axes, strict=True)]


def _slice(block: Any, start: int, size: int, d: int) -> Any:
    if size == block.shape[d]:
        return block
    return lax.slice_in_dim(block, start, start + size, axis=d)


def _reshape(block: Any, shape: Sequence[int]) -> Any:
    return block if block.shape == tuple(shape) else lax.reshape(block, shape)
