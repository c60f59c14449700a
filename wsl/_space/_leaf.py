"""One leaf of a weight space."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from wsl._space._axes import Factor, Slot
from wsl._space._layout import Layout


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of the weights, and what its axes are.

    Attributes:
        path: Where it is in the weights, as written by `jax.tree_util.keystr`.
        shape: Its shape.
        dtype: Name of its dtype.
        axes: For each axis, the factors of which it is the row-major product.
        slots: Those of the factors that a group acts on. A space fills them in.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    axes: tuple[tuple[Factor, ...], ...]
    slots: tuple[Slot, ...] = ()

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
