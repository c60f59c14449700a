"""Where a linear map acts on a piece of a leaf, and what it does there."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class LinearPlace(NamedTuple):
    """A factor of one piece that a group of linear maps acts on.

    Attributes:
        piece: Number of the piece, among `WeightSpace.pieces`.
        path: Its path.
        dimension: Position of the factor among all factors of the piece.
        blocks: Those of the factors for each of whose indices there is a map of its
            own.
        inverted: Whether the transposed inverse acts here, and not the map itself.
    """

    piece: int
    path: str
    dimension: int
    blocks: tuple[int, ...]
    inverted: bool = False


def act_at(
    place: LinearPlace,
    array: Float[Array, "*shape"],
    sizes: Sequence[int],
    maps: Float[Array, "*blocks n n"],
) -> Float[Array, "*shape"]:
    """Maps a piece along one factor.

    Args:
        place: Where.
        array: The piece.
        sizes: Sizes of its factors.
        maps: A matrix for each block, of which the rows are new indices.

    Returns:
        The piece.
    """
    if place.inverted:
        maps = jnp.swapaxes(jnp.linalg.inv(maps), -1, -2)
    matrix = _as_matrix(place, array, sizes)
    transposed = jnp.swapaxes(maps, -1, -2).astype(array.dtype)
    mapped = jnp.matmul(matrix, transposed, precision="highest")
    return _from_matrix(place, mapped, array.shape, sizes)


def stacked(
    places: Sequence[LinearPlace], arrays: Sequence[Any], sizes: Sequence[Sequence[int]]
) -> Float[Array, "*blocks rows n"]:
    """What a group acts on, as one matrix for each block, whose columns are mapped.

    Args:
        places: Some of the group's places.
        arrays: All pieces.
        sizes: Sizes of the factors of each.

    Returns:
        The rows of all places, one after the other.
    """
    parts = [_as_matrix(at, arrays[at.piece], sizes[at.piece]) for at in places]
    return jnp.concatenate(parts, axis=-2)


def _order(place: LinearPlace, count: int) -> list[int]:
    others = [d for d in range(count) if d not in (*place.blocks, place.dimension)]
    return [*place.blocks, *others, place.dimension]


def _as_matrix(
    place: LinearPlace, array: Float[Array, "*shape"], sizes: Sequence[int]
) -> Float[Array, "*blocks rows n"]:
    factors = jnp.asarray(array).reshape(sizes).transpose(_order(place, len(sizes)))
    blocks = factors.shape[: len(place.blocks)]
    return factors.reshape(*blocks, -1, sizes[place.dimension])


def _from_matrix(
    place: LinearPlace,
    matrix: Float[Array, "*blocks rows n"],
    shape: tuple[int, ...],
    sizes: Sequence[int],
) -> Float[Array, "*shape"]:
    order = _order(place, len(sizes))
    factors = matrix.reshape([sizes[d] for d in order])
    back = sorted(range(len(order)), key=order.__getitem__)
    assert math.prod(shape) == factors.size
    return factors.transpose(back).reshape(shape)
