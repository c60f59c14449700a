"""Leaves cut into slices, and put together again."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from wsl._space import Factor, WeightSpace


class LeafSlices(NamedTuple):
    """How one leaf is cut.

    Attributes:
        path: Path of the leaf.
        kind: Leaves of one kind share the MLP that writes their slices.
        shape: Shape of the leaf.
        slice_shape: Shape of one slice.
        grid: How many slices there are along each axis. Where the slice does not divide
            an axis, the last one is cropped.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    slice_shape: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def num_slices(self) -> int:
        """How many slices the leaf has."""
        return math.prod(self.grid)

    def join(self, slices: Float[Array, "slices entries"]) -> Float[Array, "..."]:
        """The leaf, from its slices.

        Args:
            slices: The entries of each slice; slices and entries in row-major order.

        Returns:
            The leaf.
        """
        rank = len(self.shape)
        x = slices.reshape(*self.grid, *self.slice_shape)
        x = x.transpose([axis for i in range(rank) for axis in (i, rank + i)])
        x = x.reshape([n * m for n, m in zip(self.grid, self.slice_shape, strict=True)])
        return x[tuple(slice(n) for n in self.shape)]

    def cut(self, leaf: Float[Array, "..."]) -> Float[Array, "slices entries"]:
        """The slices of a leaf, what is missing filled up with zeros.

        Args:
            leaf: The leaf.

        Returns:
            The entries of each slice; slices and entries in row-major order.
        """
        rank = len(self.shape)
        padded = [n * m for n, m in zip(self.grid, self.slice_shape, strict=True)]
        x = jnp.zeros(padded, leaf.dtype).at[tuple(map(slice, self.shape))].set(leaf)
        blocks = zip(self.grid, self.slice_shape, strict=True)
        x = x.reshape([size for pair in blocks for size in pair])
        x = x.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
        return x.reshape(self.num_slices, -1)


def plan_slices(
    target: WeightSpace,
    slice_size: tuple[int, int],
    space: WeightSpace | None,
    kinds: Mapping[str, str],
) -> tuple[LeafSlices, ...]:
    """Decides how each leaf is cut, and which leaves are of one kind.

    Args:
        target: Leaves to cut.
        slice_size: Length of a slice along the first two axes.
        space: Tells axes that may move, which are cut, from those that may not, which
            stay whole; None cuts all alike.
        kinds: The kinds of some leaves, by path.

    Returns:
        The plan of each leaf.

    Raises:
        ValueError: If the space is of another target, `kinds` names leaves that there
            are not, or gives one kind to leaves with slices of different shapes.
    """
    paths = [leaf.path for leaf in target.leaves]
    unknown = [path for path in kinds if path not in paths]
    if unknown:
        raise ValueError(
            f"`kinds` names {unknown}, which the target does not have. Its leaves: "
            f"{paths}."
        )
    plans = []
    for leaf in target.leaves:
        path, shape = leaf.path, leaf.shape
        lengths = [*slice_size, *shape[2:]][: len(shape)]
        roles = [""] * len(shape)
        if space is not None:
            axes = _axes(space, path, shape)
            roles = [" + ".join(_role(space, term) for term in axis) for axis in axes]
            whole = [
                not any(f.name in space.groups for term in axis for f in term)
                for axis in axes
            ]
            lengths = [
                size if stays else n
                for size, stays, n in zip(shape, whole, lengths, strict=True)
            ]
        slice_shape = tuple(
            min(size, length) for size, length in zip(shape, lengths, strict=True)
        )
        kind = kinds.get(path) or ", ".join(
            f"{n} {role}".rstrip() for n, role in zip(slice_shape, roles, strict=True)
        )
        grid = tuple(-(-n // m) for n, m in zip(shape, slice_shape, strict=True))
        plans.append(LeafSlices(path, kind or "scalar", shape, slice_shape, grid))
    first: dict[str, LeafSlices] = {}
    for plan in plans:
        other = first.setdefault(plan.kind, plan)
        if plan.slice_shape != other.slice_shape:
            raise ValueError(
                f"Leaves {other.path!r} and {plan.path!r} are both of kind "
                f"{plan.kind!r}, but their slices have shapes {other.slice_shape} and "
                f"{plan.slice_shape}. Give them two kinds."
            )
    return tuple(plans)


def _axes(
    space: WeightSpace, path: str, shape: tuple[int, ...]
) -> list[list[tuple[Factor, ...]]]:
    """For each axis its factors, or those of the terms of a sum."""
    found = [leaf for leaf in space.leaves if (leaf.path, leaf.shape) == (path, shape)]
    if not found:
        raise ValueError(
            f"`space` has no leaf {path!r} of shape {shape}, which the target has: it "
            "must be the space of the network that `make_target` returns."
        )
    leaf = found[0]
    pieces = leaf.pieces or (leaf,)
    axes = [[piece.axes[axis] for piece in pieces] for axis in range(len(shape))]
    return [list(dict.fromkeys(terms)) for terms in axes]


def _role(space: WeightSpace, factors: tuple[Factor, ...]) -> str:
    """What an axis runs over: the same for all hidden units, by name for the rest."""
    parts = [
        "hidden" if factor.name in space.groups else factor.name or "fixed"
        for factor in factors
    ]
    return " x ".join(parts)
