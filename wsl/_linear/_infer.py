"""Which linear maps leave a function alone, found and checked on real numbers.

A group of linear maps of an index set has the permutations of that set as a part. So it
is looked for where a space has such a group: first whether rotations leave the function
alone, then on which leaves the map and on which its inverse has to act. That is linear
algebra: with f_j the change of the outputs when leaf j alone is stretched a little, the
signs s_j of all leaves have to give Σ s_j f_j = 0.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._linear._places import act_at, LinearPlace
from wsl._linear._symmetry import LinearGroup, LinearSymmetry, places_of
from wsl._space import check_space, numpy_generator, WeightSpace
from wsl._verify import Check


# How much more than a permutation of the same numbers a product with a matrix rounds.
ROOM = 16.0
# Below, in units of the largest, a change says nothing.
_UNREAD = 1e-3
# How small a singular value, in units of the largest, and how even a null vector may be
# for signs to be tried. The verdict is that of random elements.
_NULL, _EVEN = 0.03, 0.5
# How many stretches are tried, at most: outputs must be more than leaves.
_STRETCHES = 64
# Of how many places that hardly matter both signs are tried.
_UNSURE = 4
# A symmetry holds for all weights. Where they are small, what follows is nearly linear,
# and a softmax all but even: more than the symmetry would pass.
_SCALES = (1.0, 4.0)


def infer_linear_symmetry(
    space: WeightSpace,
    fn: Callable[..., Any],
    *inputs: PyTree,
    key: PRNGKeyArray,
    num_samples: int = 2,
    noise: float = 0.1,
    constant: Collection[str] = (),
) -> LinearSymmetry:
    """Finds the linear maps of index sets that leave a model's function alone.

    Each group of the space is tried: first whether rotations of its index set leave the
    outputs alone, and then whether all invertible maps do, and on which leaves it is
    their inverse that has to act. Pairs of indices that rotary embeddings turn are
    tried too. All that is returned has been checked on random
    elements, one group at a time and all at once, by what rounding explains, on the
    weights and on weights four times as large.

    What it cannot find: groups that are no more than a part of such maps, as those of a
    stream with a norm that takes off the mean; maps of index sets that the space has
    fixed, but for rotary pairs. A norm with a gain for each unit hides the rotations of
    its stream: [`fold_gains`][wsl.fold_gains] makes the gains 1, and `constant` says
    that they stay so.

    Args:
        space: The space, for instance from
            [`infer_weight_space`][wsl.infer_weight_space].
        fn: A model with weights of this space, or a function of such weights, as
            [`verify_symmetry`][wsl.verify_symmetry] takes it.
        *inputs: What the model is called with; for a function, the weights and then
            its other inputs, if any.
        key: Source of randomness.
        num_samples: How many elements to draw for each check.
        noise: Relative size of noise on the weights, so that nothing holds by accident,
            as of biases that are zero.
        constant: Paths of leaves, or of their pieces, that are to stay as they are. No
            map acts on them, and what is found is a symmetry of networks that have the
            same there.

    Returns:
        The symmetry; without groups where there are none.

    Raises:
        ValueError: If `num_samples` is not positive, or `noise` negative, or the
            weights are not of this space or in bfloat16, `constant` has a path that is
            not in it, or groups that hold one by one do not hold together.

    Examples:
        >>> import jax, wsl
        >>> weights = {"b": jax.numpy.ones((3, 2)), "a": jax.numpy.ones((2, 4))}
        >>> fn = lambda w, x: jax.numpy.tanh(w["b"] @ (w["a"] @ x))
        >>> x = jax.numpy.ones(4)
        >>> space = wsl.infer_weight_space(fn, weights, x)
        >>> key = jax.random.key(0)
        >>> print(wsl.infer_linear_symmetry(space, fn, weights, x, key=key))
        group  kind        size  acts on  its inverse on
        g0     invertible  2     ['a']    ['b']
    """
    search = Search.make(space, fn, inputs, num_samples, noise, key, constant)
    found = [
        group
        for name, size in space.groups.items()
        if size > 1 and (group := search.linear(name)) is not None
    ]
    found += [
        group
        for candidate in _rotary_candidates(space, search.kept)
        if (group := search.signed(candidate)) is not None
    ]
    together = LinearSymmetry(space, tuple(found), tuple(constant))
    if found and not search.holds(together):
        names = [group.name for group in found]
        raise ValueError(
            f"Each of {names} leaves the function alone, all together do not. Is it "
            "a function of its inputs alone?"
        )
    return together


def pieces_at(space: WeightSpace, paths: Collection[str]) -> frozenset[int]:
    """Numbers of the pieces at some paths.

    Args:
        space: The space.
        paths: Of leaves, with all of their pieces, or of pieces.

    Returns:
        Positions among `WeightSpace.pieces`.

    Raises:
        ValueError: If nothing of the space is at a path.
    """
    owners = [leaf.path for leaf in space.leaves for _ in leaf.pieces or (leaf,)]
    names = [{owner, at.path} for owner, at in zip(owners, space.pieces, strict=True)]
    unknown = sorted(set(paths).difference(*names))
    if unknown:
        raise ValueError(f"No leaf of the space is at {unknown}. Its leaves:\n{space}")
    return frozenset(i for i, own in enumerate(names) if own & set(paths))


@dataclasses.dataclass(frozen=True)
class Search:
    """Tries linear maps on a function and its weights, as they are and larger.

    Attributes:
        space: The space.
        checks: The function and weights of each size.
        num_samples: How many elements are drawn for each check.
        key: Source of randomness.
        kept: Numbers of the pieces that stay as they are.
    """

    space: WeightSpace
    checks: Sequence[Check]
    num_samples: int
    key: PRNGKeyArray
    kept: Collection[int] = ()

    @classmethod
    def make(
        cls,
        space: WeightSpace,
        fn: Callable[..., Any],
        inputs: Sequence[PyTree],
        num_samples: int,
        noise: float,
        key: PRNGKeyArray,
        constant: Collection[str] = (),
    ) -> "Search":
        """Prepares a search.

        Args:
            space: The space.
            fn: As of `infer_linear_symmetry`.
            inputs: What follows.
            num_samples: How many elements to draw for each check.
            noise: Relative size of noise on the weights.
            key: Source of randomness.
            constant: Paths of leaves, or of pieces, that stay as they are.

        Returns:
            The search.

        Raises:
            ValueError: As of `infer_linear_symmetry`.
        """
        if num_samples < 1 or noise < 0:
            raise ValueError(
                "Draw one sample or more, with noise of 0 or more; got "
                f"num_samples={num_samples}, noise={noise}."
            )
        check_space(space)
        coarse = [leaf.path for leaf in space.leaves if str(leaf.dtype) == "bfloat16"]
        if coarse:
            raise ValueError(
                f"{coarse[0]!r} is in bfloat16, which has too few digits to see what "
                "linear maps change. Cast the weights to float32 first."
            )
        kept, random = pieces_at(space, constant), numpy_generator(key)
        checks = [
            Check.make(
                space, fn, inputs, num_samples, noise, random, scale=scale, kept=kept
            )
            for scale in _SCALES
        ]
        return cls(space, checks, num_samples, key, kept)

    def linear(self, name: str) -> LinearGroup | None:
        """The largest kind of linear maps of a group's index set that holds."""
        group = self.turning(name)
        if group is None:
            return None
        return self.signed(dataclasses.replace(group, kind="invertible")) or group

    def turning(self, name: str) -> LinearGroup | None:
        """The rotations of a group's index set, if they hold."""
        shape = self.space.element_shapes()[name]
        places = [x for x in places_of(self.space, name) if x.piece not in self.kept]
        group = LinearGroup(name, "orthogonal", (*shape, shape[-1]), tuple(places))
        if not (places and self.holds(LinearSymmetry(self.space, (group,)))):
            return None
        return group

    def signed(self, group: LinearGroup) -> LinearGroup | None:
        """The group with the map at some places and its inverse at others, if any."""
        for signs in self._signs(group):
            places = tuple(
                place._replace(inverted=sign < 0)
                for place, sign in zip(group.places, signs, strict=True)
            )
            found = dataclasses.replace(group, places=places)
            if self.holds(LinearSymmetry(self.space, (found,))):
                return found
        return None

    def holds(self, symmetry: LinearSymmetry) -> bool:
        """Whether random elements leave the function alone."""
        room = ROOM * math.sqrt(len(symmetry.groups))
        for i in range(self.num_samples):
            element = symmetry.sample(key=jr.fold_in(self.key, i))
            for check in self.checks:
                pieces = symmetry.act_on_pieces(check.leaves, element)
                if not check.change([np.asarray(x) for x in pieces]) <= room:
                    return False
        return True

    def _signs(self, group: LinearGroup) -> Iterator[list[int]]:
        """On which places the map may act (1), and on which its inverse (-1).

        Small weights show it through rounding, large ones through curvature.
        """
        for check in self.checks:
            count, rows = len(group.places), []
            for i in range(_STRETCHES):
                rows.append(_changes(check, group, jr.fold_in(self.key, i)))
                if sum(map(len, rows)) >= 8 * count:
                    break
            changes = np.concatenate(rows)
            sizes = np.linalg.norm(changes, axis=0)
            read = sizes > _UNREAD * max(sizes.max(initial=0.0), 1e-30)
            signs = np.ones(count, int)
            if read.sum() > 1:
                # The null vector of the changes, if they have one.
                squares, vectors = np.linalg.eigh(changes[:, read].T @ changes[:, read])
                vector = vectors[:, 0] / np.abs(vectors[:, 0]).max()
                if squares[0] > _NULL**2 * squares[-1] or np.abs(vector).min() < _EVEN:
                    continue
                signs[read] = np.sign(vector) * np.sign(vector[0])
            # What the function hardly depends on, as biases of keys, shows no sign.
            unsure = np.flatnonzero(~read)[:_UNSURE]
            for tried in itertools.product((1, -1), repeat=len(unsure)):
                signs[unsure] = tried
                yield signs.tolist()


def _changes(check: Check, group: LinearGroup, key: PRNGKeyArray) -> np.ndarray:
    drawn = jr.normal(key, group.shape)
    stretch = drawn + jnp.swapaxes(drawn, -1, -2)
    if group.kind == "rotary":
        # Whether turns hold is seen when signs are tried; what is left is a factor.
        stretch = stretch[..., :1, :1] * jnp.broadcast_to(jnp.eye(2), group.shape)
    return changes(check, group.places, stretch)


def changes(
    check: Check, places: Sequence[LinearPlace], stretch: Float[Array, "*blocks n n"]
) -> np.ndarray:
    """Changes of all outputs, a column for each place that is stretched alone.

    Args:
        check: The function and its weights.
        places: The places.
        stretch: A symmetric matrix for each block: maps are 1 and a little of it.

    Returns:
        One row for each number that the function returns.
    """
    return np.stack([_slope(check, at, stretch) for at in places], axis=1)


def _slope(check: Check, place: LinearPlace, stretch: Any) -> np.ndarray:
    """By central differences, which need no more of the function than a call."""
    step = 1e-2 / float(jnp.max(jnp.abs(jnp.linalg.eigvalsh(stretch))))
    eye = jnp.broadcast_to(jnp.eye(stretch.shape[-1]), stretch.shape)
    sizes = check.space.pieces[place.piece].layout.sizes
    ends = []
    for sign in (1, -1):
        leaves = list(check.leaves)
        array = jnp.asarray(leaves[place.piece])
        maps = eye + sign * step * stretch
        leaves[place.piece] = np.asarray(act_at(place, array, sizes, maps))
        outputs = check.run(leaves)
        ends.append(np.concatenate([x.ravel().astype(float) for x in outputs]))
    # Infinities that stay, as those of a mask, do not change.
    return np.nan_to_num((ends[0] - ends[1]) / (2 * step), posinf=0.0, neginf=0.0)


def _rotary_candidates(
    space: WeightSpace, kept: Collection[int]
) -> Iterator[LinearGroup]:
    """Pairs of fixed indices beside an index set that several pieces share.

    Rotary embeddings tell frequencies apart, so that these are fixed, and beside each
    there are two indices, which are turned.
    """
    shared: dict[str, list[tuple[int, list[int]]]] = {}
    for i, piece in enumerate(space.pieces):
        if i in kept:
            continue
        dimension = 0
        for factors in piece.axes:
            at = list(range(dimension, dimension + len(factors)))
            dimension += len(factors)
            for factor in factors:
                if factor.name in space.fixed and len(factors) > 1:
                    shared.setdefault(str(factor.name), []).append((i, at))
    for name, where in shared.items():
        if len({i for i, _ in where}) != len(where) or len(where) < 2:
            continue
        named = [{space.pieces[i].factors[d].name: d for d in at} for i, at in where]
        # Of heads that share keys the queries have one axis more: no block of its own.
        common = set.intersection(*(set(found) for found in named)) - {None, name}
        blocks = [*sorted(map(str, common)), name]
        places = []
        for (i, at), found in zip(where, named, strict=True):
            piece = space.pieces[i]
            pairs = [
                d
                for d in at
                if piece.factors[d].size == 2
                and piece.factors[d].name not in (*blocks, *space.groups)
            ]
            if len(pairs) == 1:
                dimensions = tuple(found[block] for block in blocks)
                places.append(LinearPlace(i, piece.path, pairs[0], dimensions))
        if len(places) == len(where):
            sizes = [space.index_sets[block] for block in blocks]
            yield LinearGroup(name, "rotary", (*sizes, 2, 2), tuple(places))
