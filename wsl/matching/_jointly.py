"""Alignment by permutations and linear maps together."""

import dataclasses
from typing import Any, Generic, TypeVar

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl._linear import LinearElement, LinearSymmetry
from wsl._space import GroupElement
from wsl.matching._activations import answers_of, match_activations, recorded
from wsl.matching._descent import match_weights
from wsl.matching._linear import (
    canonical_weights,
    check_constants,
    distance,
    match_linear,
    sides,
)


Weights = TypeVar("Weights")
# In units of the distance before, what a round must change for another to follow.
_DONE = 1e-4
# What weights count beside one array of answers.
_BY_WEIGHTS = 1e-3


@dataclasses.dataclass(frozen=True)
class JointMatch(Generic[Weights]):
    """How [`match_jointly`][wsl.matching.match_jointly] aligned `b` to `a`.

    Attributes:
        steps: Pairs of a permutation and maps. What was done to `b`: for each pair
            `b = symmetry.act(space.permute(b, permutation), maps)`.
        aligned: `b` after them.
        distance: Euclidean distance from `a`, over all leaves.
        distance_before: The same of `b` as given.
    """

    steps: tuple[tuple[GroupElement, LinearElement], ...]
    aligned: Weights
    distance: float
    distance_before: float


def match_jointly(
    symmetry: LinearSymmetry,
    a: Weights,
    b: Weights,
    *inputs: PyTree,
    key: PRNGKeyArray,
    fn: Any = None,
    rounds: int = 4,
) -> JointMatch[Weights]:
    """Aligns a network to another by permutations and linear maps, in turns.

    Heads and hidden units are permuted, streams turned, and what stands between queries
    and keys is mapped. To find the permutations, linear maps are taken out of the way:
    networks are compared in their
    [canonical form][wsl.matching.canonical_weights]. Then the maps follow
    ([`match_linear`][wsl.matching.match_linear]). For a copy that was permuted and
    mapped, one round is exact, if its canonical form exists and is unique.

    Without inputs all is found by weights, until a round brings nothing. With inputs,
    streams are turned, and heads and units permuted, by what they answer on them, which
    is the better guide for networks that were trained apart; the rest has no answers
    of its own, and is found by weights, and so are directions of a stream that the data
    does not reach. Then it goes on until the distance stays.

    Sources: Theus et al. (2025), "Generalized linear mode connectivity for
    transformers"; Zhang et al. (2025), "Beyond the permutation symmetry of
    transformers".

    Args:
        symmetry: The linear maps, as
            [`infer_linear_symmetry`][wsl.infer_linear_symmetry] finds them; its space
            has the permutations.
        a: Weights, or a model, to align to.
        b: Weights, or a model, to align.
        *inputs: Data, as of [`match_activations`][wsl.matching.match_activations].
        key: Source of randomness.
        fn: The function, as there.
        rounds: How often to go over permutations and maps, at most.

    Returns:
        What was done, the aligned weights and distances.

    Raises:
        ValueError: If weights are not of the space or not finite, or differ in the
            symmetry's constant leaves, the space is not that of the function, or
            `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"Go over permutations and maps once or more; got {rounds=}.")
    check_constants(symmetry, a, b)
    turns = _Turns(symmetry, a, inputs, fn)
    before = float(distance(symmetry, a, b))
    steps: list[tuple[GroupElement, LinearElement]] = []
    now, last = b, before
    for i in range(rounds):
        tried = [turns.once(now, jr.fold_in(key, i), canonical=True)]
        if not inputs:
            # Canonical forms of networks that are no copies can lead astray.
            tried.append(turns.once(now, jr.fold_in(key, i), canonical=False))
        found, moved, reached = min(tried, key=lambda one: one[2])
        if not inputs and reached > last:
            break
        steps, now = [*steps, *found], moved
        if abs(last - reached) <= _DONE * before:
            break
        last = reached
    return JointMatch(tuple(steps), now, float(distance(symmetry, a, now)), before)


@dataclasses.dataclass(frozen=True)
class _Turns:
    symmetry: LinearSymmetry
    a: Any
    inputs: tuple[PyTree, ...]
    fn: Any

    def once(
        self, b: Any, key: PRNGKeyArray, *, canonical: bool
    ) -> tuple[list[tuple[GroupElement, LinearElement]], Any, float]:
        """Streams by their answers, permutations, and maps by weights."""
        symmetry, space, steps = self.symmetry, self.symmetry.space, []
        maps = symmetry
        if self.inputs:
            turned = self._turn_streams(b)
            steps.append((space.identity(), turned))
            b = symmetry.act(b, turned)
            left = tuple(g for g in symmetry.groups if g.name not in turned)
            maps = dataclasses.replace(symmetry, groups=left)
        ours, theirs = self._settled(maps, b) if canonical else (self.a, b)
        if self.inputs:
            match = match_activations(space, ours, theirs, *self.inputs, fn=self.fn)
        else:
            match = match_weights(space, ours, theirs, key=key)
        # What linear maps can do is left to them.
        own = {group.name for group in symmetry.groups}
        unmoved = space.identity()
        permutation = {
            name: unmoved[name] if name in own else moved
            for name, moved in match.element.items()
        }
        b = space.permute(b, permutation)
        linear = match_linear(maps, self.a, b)
        steps.append((permutation, linear.element))
        return steps, linear.aligned, float(linear.distance)

    def _settled(self, maps: LinearSymmetry, b: Any) -> tuple[Any, Any]:
        """Both networks in their canonical form, or as they are where there is none."""
        ranked = tuple(
            group
            for group in maps.groups
            if group.kind != "invertible"
            or min(x.shape[-2] for x in sides(maps, b, group)) >= group.shape[-1]
        )
        maps = dataclasses.replace(maps, groups=ranked)
        settled = canonical_weights(maps, self.a), canonical_weights(maps, b)
        leaves = [x for w in settled for x in maps.space.weight_leaves(w)]
        exist = all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
        return settled if exist else (self.a, b)

    def _turn_streams(self, b: Any) -> LinearElement:
        """Each stream, so that its arrays are nearest to those of `a` (Procrustes)."""
        symmetry = self.symmetry
        arrays = recorded(symmetry.space, self.a, self.inputs, self.fn)
        ours, theirs = (answers_of(arrays, weights) for weights in (self.a, b))
        # An array belongs to a stream if it turns with it: squares do not.
        digits = max(float(jnp.finfo(x.dtype).eps) for x in symmetry.space.leaves)
        element = symmetry.sample(key=jr.key(0))
        moved = {}
        for group in symmetry.groups:
            # Of many blocks, each of its own, weights decide.
            if group.kind != "orthogonal" or len(group.shape) > 2:
                continue
            maps = {group.name: element[group.name]}
            seen = answers_of(arrays, symmetry.act(self.a, maps))
            # Where the data says nothing, the weights do.
            x, y = (sides(symmetry, w, group)[0] for w in (self.a, b))
            total = _BY_WEIGHTS * _product(np.asarray(x, float), np.asarray(y, float))
            for axes, x, y, z in zip(arrays.axes, ours, theirs, seen, strict=True):
                names = [factor.name for axis in axes for factor in axis]
                if names.count(group.name) != 1:
                    continue
                sizes = [factor.size for axis in axes for factor in axis]
                x, y, z = (
                    np.moveaxis(array.reshape(sizes), names.index(group.name), -1)
                    for array in (x, y, z)
                )
                off = x @ np.asarray(element[group.name], float).T - z
                if np.linalg.norm(off) <= (1e-3 + 8 * digits) * np.linalg.norm(z):
                    total += _product(x, y)
            u, _, vt = np.linalg.svd(total)
            moved[group.name] = jnp.asarray((u @ vt).T, element[group.name].dtype)
        return moved


def _product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of rows, summed, in units of both norms."""
    x, y = (array.reshape(-1, array.shape[-1]) for array in (x, y))
    scale = np.linalg.norm(x) * np.linalg.norm(y)
    return y.T @ x / (scale or 1.0)
