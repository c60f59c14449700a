"""Which linear maps of index sets leave a function alone, and how they act."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._linear._places import act_at, LinearPlace
from wsl._space import columns, enclosing, WeightSpace


LinearKind: TypeAlias = Literal["invertible", "orthogonal", "rotary"]
# Groups have matrices of other sizes: the axes have no names that all would share.
LinearElement: TypeAlias = dict[str, Float[Array, "..."]]
"""By the group's name, a matrix for each block: shape `(*blocks, n, n)`."""

Weights = TypeVar("Weights")


@dataclasses.dataclass(frozen=True)
class LinearGroup:
    """The linear maps of one index set.

    Attributes:
        name: Its name: that of the permutation group that is a part of it, or of the
            index set whose pairs it turns.
        kind: `"invertible"`, all of GL(n); `"orthogonal"`, rotations and reflections,
            O(n); `"rotary"`, multiples of rotations of a pair, which are all that
            commutes with rotary embeddings.
        shape: Shape of its elements, `(*blocks, n, n)`.
        places: Where it acts.
    """

    name: str
    kind: LinearKind
    shape: tuple[int, ...]
    places: tuple[LinearPlace, ...]


@dataclasses.dataclass(frozen=True)
class LinearSymmetry:
    """Linear maps of index sets that leave a network's function alone.

    Permutations are a part of what can be done to hidden units wherever nothing but
    products meets them. Queries and keys of a head meet in `q · k` alone, so that any
    invertible `G` may act on the queries and its transposed inverse on the keys; the
    same is true of values and the matrix after them, of the two factors of a low-rank
    matrix, and of a layer without an activation:

        W₁ <- G W₁,   b₁ <- G b₁,   W₂ <- W₂ G⁻¹.

    A stream whose norm is its root mean square may be rotated, along all that reads it
    and writes to it. With rotary embeddings the queries and keys of a head keep
    one rotation and one factor for each frequency.

    [`infer_linear_symmetry`][wsl.infer_linear_symmetry] finds these groups;
    [`from_space`][wsl.LinearSymmetry.from_space] takes them as written by hand.

    Source: Zhang et al. (2025), "Beyond the permutation symmetry of transformers";
    Theus et al. (2025), "Generalized linear mode connectivity for transformers".

    Attributes:
        space: Space of the weights.
        groups: The groups.
        constant: Paths of leaves that the function has to keep as they are: the
            symmetry holds for networks that have the same there.
    """

    space: WeightSpace
    groups: tuple[LinearGroup, ...]
    constant: tuple[str, ...] = ()

    @classmethod
    def from_space(
        cls,
        space: WeightSpace,
        kinds: Mapping[str, Literal["invertible", "orthogonal"]],
        *,
        inverted: Mapping[str, Collection[str]] | None = None,
    ) -> "LinearSymmetry":
        """States the symmetry of a network. It is taken on trust.

        Args:
            space: Space of the weights.
            kinds: The kind of each group by its name, which is one of the space's.
            inverted: For an invertible group by its name, the paths of the pieces on
                which its transposed inverse acts.

        Returns:
            The symmetry.

        Raises:
            ValueError: If the space has no such group, a kind is not one of the two, or
                a path is not of a piece that the group moves.
        """
        inverted = inverted or {}
        groups = []
        for name, kind in kinds.items():
            if name not in space.groups:
                raise ValueError(
                    f"{name!r} is not a group of the space. Groups: "
                    f"{list(space.groups)}."
                )
            if kind not in ("invertible", "orthogonal"):
                raise ValueError(
                    f'The kind of {name!r} must be "invertible" or "orthogonal"; got '
                    f"{kind!r}."
                )
            there = places_of(space, name)
            turned = set(inverted.get(name, ()))
            unknown = sorted(turned - {place.path for place in there})
            if unknown:
                raise ValueError(
                    f"`inverted` names {unknown} for {name!r}, which acts on "
                    f"{[place.path for place in there]}."
                )
            there = [at._replace(inverted=at.path in turned) for at in there]
            shape = space.element_shapes()[name]
            groups.append(LinearGroup(name, kind, (*shape, shape[-1]), tuple(there)))
        return cls(space, tuple(groups))

    def sample(self, *, key: PRNGKeyArray, largest: float = 2.0) -> LinearElement:
        """Draws an element.

        Args:
            key: Source of randomness.
            largest: Of invertible and rotary groups, the largest singular value; the
                least is its reciprocal, and logarithms are drawn uniformly.

        Returns:
            Matrices of each group.
        """
        element = {}
        for i, group in enumerate(self.groups):
            left_key, right_key, scale_key = jr.split(jr.fold_in(key, i), 3)
            *blocks, n, _ = group.shape
            bound = math.log(largest)
            logs = jr.uniform(scale_key, (*blocks, n), None, -bound, bound)
            if group.kind == "rotary":
                angle = jr.uniform(left_key, tuple(blocks), None, 0, 2 * math.pi)
                parts = jnp.cos(angle), jnp.sin(angle)
                element[group.name] = jnp.exp(logs[..., :1, None]) * turns(*parts)
                continue
            left = jr.orthogonal(left_key, n, tuple(blocks))
            if group.kind == "invertible":
                right = jr.orthogonal(right_key, n, tuple(blocks))
                left = (left * jnp.exp(logs)[..., None, :]) @ right
            element[group.name] = left
        return element

    def identity(self) -> LinearElement:
        """The element that does nothing."""
        return {
            group.name: jnp.broadcast_to(jnp.eye(group.shape[-1]), group.shape)
            for group in self.groups
        }

    def act(self, weights: Weights, element: Mapping[str, Array]) -> Weights:
        """Acts on the weights of a network.

        Args:
            weights: Weights of the space; a whole model is returned as a model.
            element: Matrices of each group; those left out do nothing.

        Returns:
            The weights, of the same structure and dtypes, of the same function.

        Raises:
            ValueError: If the weights are not of the space, or the element has a group
                that is not there or matrices of another shape.
        """
        known = {group.name: group.shape for group in self.groups}
        for name, maps in element.items():
            if known.get(name) != tuple(maps.shape):
                raise ValueError(
                    f"The element has matrices of shape {tuple(maps.shape)} for "
                    f"{name!r}; this symmetry has {known}."
                )
        pieces = self.space.cut(self.space.weight_leaves(weights))
        arrays = self.space.join(self.act_on_pieces(pieces, element))
        return eqx.combine(jax.tree.unflatten(self.space.treedef, arrays), weights)

    def act_on_pieces(
        self, pieces: Sequence[Any], element: Mapping[str, Array]
    ) -> list[Array]:
        """Acts on the arrays of the space's pieces.

        Args:
            pieces: An array for each piece.
            element: As of [`act`][wsl.LinearSymmetry.act].

        Returns:
            An array for each piece.
        """
        arrays = [jnp.asarray(piece) for piece in pieces]
        for group in self.groups:
            for place in group.places if group.name in element else ():
                sizes = self.space.pieces[place.piece].layout.sizes
                array, maps = arrays[place.piece], element[group.name]
                arrays[place.piece] = act_at(place, array, sizes, maps)
        return arrays

    def __str__(self) -> str:
        rows = [("group", "kind", "size", "acts on", "its inverse on")]
        for group in self.groups:
            *blocks, n, _ = group.shape
            size = f"{n}" + (f", for each of {math.prod(blocks)}" if blocks else "")
            on, back = (
                ", ".join(at.path for at in group.places if at.inverted is inverted)
                for inverted in (False, True)
            )
            rows.append((group.name, group.kind, size, on, back))
        return "\n".join(columns(rows) if self.groups else ["no linear maps"])


def places_of(space: WeightSpace, name: str) -> list[LinearPlace]:
    """Where a group of a space acts.

    Args:
        space: The space.
        name: The group.

    Returns:
        A place for each of its slots.
    """
    found = []
    for i, piece in enumerate(space.pieces):
        for slot in piece.slots:
            if slot.group == name:
                *above, own = (s.dimension for s in enclosing(slot, piece.slots))
                found.append(LinearPlace(i, piece.path, own, tuple(above)))
    return found


def turns(
    real: Float[Array, "*blocks"], imaginary: Float[Array, "*blocks"]
) -> Float[Array, "*blocks 2 2"]:
    """Complex numbers as matrices that multiply pairs by them."""
    rows = [jnp.stack([real, -imaginary], -1), jnp.stack([imaginary, real], -1)]
    return jnp.stack(rows, -2)
