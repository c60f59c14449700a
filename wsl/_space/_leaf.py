"""One leaf of a weight space."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from wsl._space._axes import Factor, Slot
from wsl._space._layout import Layout


Positions: TypeAlias = range | tuple[int, ...]
"""Which indices of an axis, in order."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of the weights, and what its axes are.

    An axis that is a sum of index sets (units side by side with inputs, the layers of a
    stack) cuts the leaf into pieces. A piece is described as a leaf is, and its axes
    are products; those of the leaf itself then have no names.

    Attributes:
        path: Where it is in the weights, as written by `jax.tree_util.keystr`.
        shape: Its shape.
        dtype: Name of its dtype.
        axes: For each axis, the factors of which it is the row-major product.
        slots: Those of the factors that a group acts on. A space fills them in.
        pieces: Of a leaf with sums, its pieces; none of others.
        index: Of a piece, which indices of each axis of its leaf it holds.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[tuple[Factor, ...], ...]
    slots: tuple[Slot, ...] = ()
    pieces: tuple["Leaf", ...] = ()
    index: tuple[Positions, ...] = ()

    def cut(self, array: Any) -> list[Any]:
        """The arrays of the pieces; further axes stay.

        Args:
            array: An array of the leaf's shape, which may have more axes, last.

        Returns:
            One array for each piece; the array itself where there are none.
        """
        return [_take(array, piece.index) for piece in self.pieces] or [array]

    def join(self, arrays: Sequence[Any]) -> Any:
        """Undoes [`cut`][wsl.Leaf.cut].

        Args:
            arrays: An array for each piece, which may have more axes, last.

        Returns:
            The leaf.
        """
        if not self.pieces:
            return arrays[0]
        return _join(arrays, [piece.index for piece in self.pieces], self.shape)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The factors of all axes, in order."""
        return tuple(factor for factors in self.axes for factor in factors)

    @functools.cached_property
    def layout(self) -> Layout:
        """How layers look at its features: what may move first."""
        sizes = tuple(factor.size for factor in self.factors)
        return Layout(self.slots, sizes, self.shape)


def is_weight(leaf: Any) -> bool:
    """Whether a leaf is an array of real floating-point numbers, or stands for one.

    NumPy arrays count, as they do for `equinox.is_inexact_array`.
    """
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def read(weights: PyTree) -> tuple[tuple[Leaf, ...], Any]:
    """The leaves of weights, whose axes nothing moves, and the tree's structure.

    Raises:
        ValueError: If a leaf is not of a floating dtype.
    """
    with_paths, treedef = jtu.tree_flatten_with_path(eqx.filter(weights, _is_array))
    leaves = []
    for path, array in with_paths:
        if not is_weight(array):
            raise ValueError(
                f"Leaf {jtu.keystr(path)!r} has dtype {array.dtype}; weights are real "
                "floating-point arrays. Take the others out first, for instance with "
                "`eqx.filter(model, eqx.is_inexact_array)`."
            )
        shape, dtype = tuple(array.shape), np.dtype(array.dtype).name
        axes = tuple((Factor(length),) for length in shape)
        leaves.append(Leaf(jtu.keystr(path), shape, dtype, axes))
    return tuple(leaves), treedef


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)


def make_piece(leaf: Leaf, index: Sequence[Positions], axes: Any) -> Leaf:
    """A piece of a leaf, named by where it is."""
    index = tuple(_as_range(positions) for positions in index)
    shown = [_show(p, n) for p, n in zip(index, leaf.shape, strict=True)]
    while shown and shown[-1] == ":":
        shown.pop()
    path = f"{leaf.path}[{', '.join(shown)}]"
    shape = tuple(map(len, index))
    return Leaf(path, shape, leaf.dtype, tuple(axes), index=index)


def _as_range(positions: Positions) -> Positions:
    if len(positions) and len(positions) == positions[-1] - positions[0] + 1:
        whole = range(positions[0], positions[-1] + 1)
        return whole if tuple(whole) == tuple(positions) else tuple(positions)
    return tuple(positions)


def _show(positions: Positions, length: int) -> str:
    """Positions as NumPy would write them, as far as it could."""
    runs = []
    for at in positions:
        if runs and runs[-1][1] == at:
            runs[-1][1] = at + 1
        else:
            runs.append([at, at + 1])
    texts = []
    for start, stop in runs[:4]:
        first, last = start or "", "" if stop == length else stop
        texts.append(str(start) if stop - start == 1 < length else f"{first}:{last}")
    return "+".join([*texts, *["..."] * (len(runs) > 4)])


def _take(array: Any, index: Sequence[Positions]) -> Any:
    xp: Any = np if isinstance(array, np.ndarray) else jnp
    slices = tuple(
        slice(p.start, p.stop) if isinstance(p, range) else slice(None) for p in index
    )
    array = array[slices]
    for axis, positions in enumerate(index):
        if not isinstance(positions, range):
            array = xp.take(array, np.asarray(positions, np.int32), axis=axis)
    return array


def _join(
    arrays: Sequence[Any], indices: Sequence[Sequence[Positions]], shape: tuple
) -> Any:
    more = arrays[0].shape[len(shape) :]
    if all(isinstance(array, np.ndarray) for array in arrays):
        joined = np.zeros((*shape, *more), arrays[0].dtype)
        for array, index in zip(arrays, indices, strict=True):
            joined[np.ix_(*index)] = array
        return joined
    joined = jnp.zeros((*shape, *more), arrays[0].dtype)
    for array, index in zip(arrays, indices, strict=True):
        if all(isinstance(positions, range) for positions in index):
            start = [positions[0] for positions in index] + [0] * len(more)
            joined = jax.lax.dynamic_update_slice(joined, array, start)
        else:
            joined = joined.at[np.ix_(*index)].set(array)
    return joined
