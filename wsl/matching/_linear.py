"""One network among all that linear maps make of it, and the nearest to another."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wsl._linear import (
    LinearElement,
    LinearGroup,
    LinearPlace,
    LinearSymmetry,
    pieces_at,
    stacked,
)
from wsl.matching._linear_maps import canonical_maps, nearest_maps, Side


Weights = TypeVar("Weights")
# Below, in units of the distance before, a round of matching has come to its end.
_DONE = 1e-6


def canonical_weights(symmetry: LinearSymmetry, weights: Weights) -> Weights:
    """The weights of the same function that no element of a symmetry changes.

    By one group after the other, orthogonal ones first:

    - orthogonal: the axes are the principal ones of all that is mapped, those with the
      largest moments first, and the entry that is largest in magnitude of each is
      positive. Leaves that other groups change are left out, if there are others.
    - invertible: the factors of the product are its
      [canonical ones][wsl.matching.canonical_factors].
    - rotary: both sides of a frequency are equally large, and the largest entry of the
      first side is real and positive.

    Unique where moments and singular values differ. What permutations are left, of
    heads for instance, [`match_weights`][wsl.match_weights] finds.

    Args:
        symmetry: The symmetry.
        weights: Weights of its space, or a model.

    Returns:
        The weights in their canonical form.

    Raises:
        ValueError: If the weights are not of the space, or an invertible group is
            larger than what is mapped on either side.
    """
    for group in _in_order(symmetry):
        maps = canonical_maps(group.kind, *sides(symmetry, weights, group))
        weights = symmetry.act(weights, {group.name: maps})
    return weights


def invariants(
    symmetry: LinearSymmetry, weights: PyTree
) -> dict[str, Float[Array, "*blocks n"]]:
    """Numbers of each group's weights that none of its elements changes.

    Args:
        symmetry: The symmetry.
        weights: Weights of its space, or a model.

    Returns:
        For each block of each group: of an invertible one the singular values of the
        product of both sides, of an orthogonal one those of what is mapped (by no other
        group, where there is such a leaf), and of a rotary one the product of the norms
        of both sides, once.

    Raises:
        ValueError: If the weights are not of the space.
    """
    found = {}
    for group in symmetry.groups:
        left, right = sides(symmetry, weights, group)
        if group.kind == "orthogonal":
            found[group.name] = jnp.linalg.svd(left, compute_uv=False)
        elif group.kind == "invertible":
            cores = [jnp.linalg.qr(side, mode="r") for side in (left, right)]
            product = cores[0] @ jnp.swapaxes(cores[1], -1, -2)
            values = jnp.linalg.svd(product, compute_uv=False)
            found[group.name] = values[..., : group.shape[-1]]
        else:
            norms = [jnp.linalg.norm(side, axis=(-1, -2)) for side in (left, right)]
            found[group.name] = (norms[0] * norms[1])[..., None]
    return found


class LinearMatch(eqx.Module, Generic[Weights]):
    """How [`match_linear`][wsl.matching.match_linear] aligned networks.

    Attributes:
        element: What was done to `b`, for each group.
        aligned: `b` after it.
        distance: Euclidean distance from `a`, over all weights.
        distance_before: The same of `b` as given.
    """

    element: LinearElement
    aligned: Weights
    distance: Float[Array, ""]
    distance_before: Float[Array, ""]


def match_linear(
    symmetry: LinearSymmetry, a: Weights, b: Weights, *, rounds: int = 20
) -> LinearMatch[Weights]:
    """Aligns a network to another by linear maps that leave its function alone.

    One group after the other: an orthogonal one by Procrustes' problem (Schönemann
    1966); an invertible one by the G that minimises
    ‖L_a - L_b Gᵀ‖² + ‖R_a - R_b G⁻¹‖², L being what G acts on and R what its inverse
    does, by Gauss and Newton's steps, each a Sylvester equation; a rotary one by the
    complex number that does so, whose size is looked for. For two gauges of one
    network, and groups that do not meet in a leaf, this is exact. Where groups meet it
    goes round until nothing changes. No network gets further away.

    Permutations of heads and of units are other groups: align by
    [`match_weights`][wsl.match_weights] first, or after, or in turns.

    Args:
        symmetry: The symmetry.
        a: Weights to align to.
        b: Weights to align.
        rounds: How often to go over all groups, at most.

    Returns:
        The element, the aligned weights and distances.

    Raises:
        ValueError: If weights are not of the space, they differ in the symmetry's
            constant leaves, or `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"Go over the groups once or more; got rounds={rounds}.")
    check_constants(symmetry, a, b)
    before = distance(symmetry, a, b)
    # What no other group changes may say more of an orthogonal one, or less.
    narrow = any(free_places(symmetry, g) != g.places for g in symmetry.groups)
    found = [LinearMatch(symmetry.identity(), b, before, before)]
    for free in (True, False) if narrow else (False,):
        found.append(_in_turns(symmetry, a, b, rounds, free))
    return min(found, key=lambda match: float(match.distance))


def _in_turns(
    symmetry: LinearSymmetry, a: Any, b: Any, rounds: int, free: bool
) -> LinearMatch[Any]:
    """One group after the other; at first, if asked to, by what no other changes."""
    before = now = distance(symmetry, a, b)
    element, aligned = symmetry.identity(), b
    for turn in range(rounds):
        first = free and turn == 0
        for group in _in_order(symmetry):
            places = free_places(symmetry, group) if first else group.places
            ours, theirs = (sides(symmetry, w, group, places) for w in (a, aligned))
            maps = nearest_maps(group.kind, ours, theirs)
            aligned = symmetry.act(aligned, {group.name: maps})
            element[group.name] = maps @ element[group.name]
        last, now = now, distance(symmetry, a, aligned)
        if not first and (len(symmetry.groups) < 2 or last - now <= _DONE * before):
            break
    return LinearMatch(element, aligned, now, before)


def check_constants(symmetry: LinearSymmetry, a: PyTree, b: PyTree) -> None:
    """Sees to it that a symmetry is that of both networks.

    Args:
        symmetry: The symmetry.
        a: Weights, or a model.
        b: Weights, or a model.

    Raises:
        ValueError: If they differ in a leaf that the symmetry takes as constant, or
            weights are not of the space.
    """
    space = symmetry.space
    ours, theirs = (space.cut(space.weight_leaves(w)) for w in (a, b))
    other = [
        space.pieces[i].path
        for i in sorted(pieces_at(space, symmetry.constant))
        if not bool(jnp.array_equal(ours[i], theirs[i]))
    ]
    if other:
        raise ValueError(
            f"The networks differ in {other}, which the symmetry takes as constant: "
            "its maps would change a function. Fold the gains of both first "
            "(`fold_gains`)."
        )


# What a group has on its two sides.


def _in_order(symmetry: LinearSymmetry) -> list[LinearGroup]:
    return sorted(symmetry.groups, key=lambda group: group.kind != "orthogonal")


def free_places(
    symmetry: LinearSymmetry, group: LinearGroup
) -> tuple[LinearPlace, ...]:
    """Where an orthogonal group acts and no other does, if there is such a place."""
    if group.kind != "orthogonal":
        return group.places
    taken = {
        place.piece
        for other in symmetry.groups
        if other is not group
        for place in other.places
    }
    free = tuple(place for place in group.places if place.piece not in taken)
    return free or group.places


def sides(
    symmetry: LinearSymmetry,
    weights: PyTree,
    group: LinearGroup,
    places: Sequence[LinearPlace] | None = None,
) -> tuple[Side, Side]:
    """What the maps act on, and what their inverses act on, in 32 bits or more.

    Args:
        symmetry: The symmetry.
        weights: Weights, or a model.
        group: One of its groups.
        places: Where to look; the free places unless given.

    Returns:
        A matrix for each block of each side, whose columns are mapped.
    """
    if places is None:
        places = free_places(symmetry, group)
    space = symmetry.space
    pieces = [
        jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
        for x in space.cut(space.weight_leaves(weights))
    ]
    sizes = [piece.layout.sizes for piece in space.pieces]
    empty = jnp.zeros((*group.shape[:-2], 0, group.shape[-1]))
    left, right = (
        [place for place in places if place.inverted is inverted]
        for inverted in (False, True)
    )
    return (
        stacked(left, pieces, sizes) if left else empty,
        stacked(right, pieces, sizes) if right else empty,
    )


def distance(symmetry: LinearSymmetry, a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Euclidean distance of two networks of a symmetry's space, over all leaves."""
    leaves = zip(*(symmetry.space.weight_leaves(w) for w in (a, b)), strict=True)
    return jnp.sqrt(sum(jnp.sum(jnp.square(x - y)) for x, y in leaves))
