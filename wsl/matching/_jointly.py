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
from wsl.matching._linear import canonical_weights, distance, match_linear


Weights = TypeVar("Weights")
# In units of the distance before, what a round must change for another to follow.
_DONE = 1e-4


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
    mapped, one round is exact.

    Without inputs all is found by weights, until a round brings nothing. With inputs,
    streams are turned, and heads and units permuted, by what they answer on them, which
    is the better guide for networks that were trained apart; the rest has no answers
    of its own, and is found by weights.

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
        ValueError: If weights are not of the space or not finite, the space is not that
            of the function, or `rounds` is not positive.
    """
    if rounds < 1:
        raise ValueError(f"Go over permutations and maps once or more; got {rounds=}.")
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
            left = tuple(g for g in symmetry.groups if g.kind != "orthogonal")
            maps = dataclasses.replace(symmetry, groups=left)
        settled = maps if canonical else dataclasses.replace(symmetry, groups=())
        ours, theirs = (canonical_weights(settled, w) for w in (self.a, b))
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

    def _turn_streams(self, b: Any) -> LinearElement:
        """Each stream, so that its arrays are nearest to those of `a` (Procrustes)."""
        symmetry = self.symmetry
        arrays = recorded(symmetry.space, self.a, self.inputs, self.fn)
        ours, theirs = (answers_of(arrays, weights) for weights in (self.a, b))
        # An array belongs to a stream if it turns with it: squares do not.
        element = symmetry.sample(key=jr.key(0))
        moved = {}
        for group in symmetry.groups:
            if group.kind != "orthogonal":
                continue
            maps = {group.name: element[group.name]}
            seen = answers_of(arrays, symmetry.act(self.a, maps))
            total = np.zeros(group.shape[-2:])
            for axes, x, y, z in zip(arrays.axes, ours, theirs, seen, strict=True):
                names = [factor.name for axis in axes for factor in axis]
                if names.count(group.name) != 1:
                    continue
                sizes = [factor.size for axis in axes for factor in axis]
                x, y, z = (
                    np.moveaxis(array.reshape(sizes), names.index(group.name), -1)
                    for array in (x, y, z)
                )
                turned = x @ np.asarray(element[group.name], float).T
                if np.linalg.norm(turned - z) > 1e-3 * np.linalg.norm(z):
                    continue
                x, y = (array.reshape(-1, array.shape[-1]) for array in (x, y))
                scale = np.linalg.norm(x) * np.linalg.norm(y)
                total += y.T @ x / (scale or 1.0)
            u, _, vt = np.linalg.svd(total)
            moved[group.name] = jnp.asarray((u @ vt).T, jnp.float32)
        return moved
