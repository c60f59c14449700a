"""Alignment of two sets of weights up to the permutations of their space."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl._space import (
    check_space,
    GroupElement,
    numpy_generator,
    permute_leaves,
    WeightSpace,
)
from wsl.matching._assign import assign, quadratic
from wsl.matching._problem import (
    finite_arrays,
    make_problem,
    Permutations,
    Problem,
)
from wsl.matching._start import informed_start


Weights = TypeVar("Weights")


@dataclasses.dataclass(frozen=True)
class Match(Generic[Weights]):
    """How [`match_weights`][wsl.match_weights] aligned `b` to `a`.

    Attributes:
        element: The group element that brings `b` close to `a`:
            `space.permute(b, element)`.
        aligned: The weights `b` moved by it.
        distance: Euclidean distance of `a` and the aligned weights, over all leaves.
        distance_before: Euclidean distance of `a` and `b` as given.
        distances: What each start came to, in the order they were tried. Starts are
            left out once the weights agree to rounding.
    """

    element: GroupElement
    aligned: Weights
    distance: float
    distance_before: float
    distances: tuple[float, ...]


def match_weights(
    space: WeightSpace,
    a: PyTree,
    b: Weights,
    *,
    key: PRNGKeyArray,
    num_restarts: int = 4,
    informed: bool = True,
    initial: GroupElement | None = None,
    max_sweeps: int = 100,
    leaf_weights: Mapping[str, float] | None = None,
) -> Match[Weights]:
    """Aligns `b` to `a`: the group element that brings it closest.

    Minimises the Euclidean distance of `a` and `space.permute(b, element)`, which is to
    maximise their inner product, by coordinate descent: one group after another, in
    random order, gets the permutation that is best given all others, until none can
    improve. For one group that is a linear assignment problem, solved exactly; for
    groups with others nested in them (heads and their units) an exact hierarchical one:
    each pair of blocks, then the blocks. Where a leaf has a group on several axes, as
    recurrent weights do, it is a quadratic one, for which the linearised problem is
    solved repeatedly with a line search; a step that does not improve is never taken.

    Coordinate descent from a random start ends in poor local optima, above all where
    one group is on many leaves (a residual stream). The first start therefore comes
    from comparing units by what no permutation of the others can change, outward from
    the inputs and outputs; the second is the identity, which suits weights with a
    common past. Only then come random ones, every other of which takes the groups of
    the first start in random order. The closest result is kept.

    Runs on the host, in double precision; it can't be compiled.
    [`soft_match`][wsl.matching.soft_match] can.

    Sources: Ainsworth et al. 2023 (Git Re-Basin, weight matching); Vogelstein et al.
    2015 (quadratic assignment).

    Args:
        space: The space of both.
        a: Weights to align to.
        b: Weights to align.
        key: Source of randomness.
        num_restarts: How many random starts, besides the informed ones.
        informed: Whether to begin with the two starts that are not random.
        initial: One more start, tried first: an element for `b`.
        max_sweeps: How often to go over all groups at most, from each start.
        leaf_weights: By path, what a leaf's squared distance is multiplied by; 1 for
            those that are not named, 0 leaves one out. Running means and variances of a
            batch norm are on another scale than weights, and best left out.

    Returns:
        The element, the aligned weights and their distance, in which leaves count as
        `leaf_weights` says.

    Raises:
        ValueError: If weights are not of the space or not finite, `initial` lacks a
            group, there is no start, or `leaf_weights` names leaves that there are not
            or has negative numbers.

    Examples:
        >>> import jax, wsl
        >>> a = {"w": jax.numpy.array([3.0, 1.0, 2.0])}
        >>> b = {"w": jax.numpy.array([1.0, 2.0, 3.0])}
        >>> space = wsl.WeightSpace.from_spec(a, {"['w']": ("g",)})
        >>> match = wsl.match_weights(space, a, b, key=jax.random.key(0))
        >>> match.element["g"].tolist(), match.distance
        ([2, 0, 1], 0.0)
    """
    check_space(space)
    if num_restarts + informed + (initial is not None) < 1 or num_restarts < 0:
        raise ValueError(
            f"No start: num_restarts={num_restarts}, informed={informed}, no `initial`."
        )
    if initial is not None:
        space.inverse(initial)  # Says which group is missing.
    scales = _scales(space, leaf_weights or {})
    arrays = [
        # A number times an array without axes is no array.
        [np.asarray(scale * x) for scale, x in zip(scales, pieces, strict=True)]
        for pieces in (finite_arrays(space, a, "a"), finite_arrays(space, b, "b"))
    ]
    problem = make_problem(space, *arrays)
    flat_a, flat_b = map(_flat, arrays)
    total = float(flat_a @ flat_a + flat_b @ flat_b)
    aligned_before = float(flat_a @ flat_b)
    still = aligned_before - problem.value(problem.identity())

    def distance(value: float) -> float:
        return float(np.sqrt(max(total - 2 * (value + still), 0.0)))

    random = numpy_generator(key)
    best, best_value, distances = problem.identity(), -np.inf, []
    for start in _starts(problem, random, num_restarts, informed, initial):
        element = _descend(problem, start, random, max_sweeps)
        value = problem.value(element)
        distances.append(distance(value))
        if value > best_value:
            best, best_value = element, value
        # Below this the difference of squares is rounding.
        if total - 2 * (best_value + still) <= 1e-12 * total:
            break
    element = {group: jnp.asarray(best[group], jnp.int32) for group in space.groups}
    gap = flat_a - _flat(permute_leaves(space.pieces, arrays[1], best))
    return Match(
        element,
        space.permute(b, element),
        float(np.linalg.norm(gap)),
        float(np.linalg.norm(flat_a - flat_b)),
        tuple(distances),
    )


def _scales(space: WeightSpace, leaf_weights: Mapping[str, float]) -> list[float]:
    """For each piece what its numbers are multiplied by."""
    paths = [leaf.path for leaf in space.leaves]
    unknown = [path for path in leaf_weights if path not in paths]
    wrong = {p: w for p, w in leaf_weights.items() if not 0 <= w < float("inf")}
    if unknown or wrong:
        raise ValueError(
            "`leaf_weights` has for paths of leaves a number that is not negative. "
            f"Unknown: {unknown}; wrong: {wrong}. Leaves: {paths}."
        )
    return [
        float(np.sqrt(leaf_weights.get(leaf.path, 1.0)))
        for leaf in space.leaves
        for _ in leaf.pieces or (leaf,)
    ]


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(array.ravel() for array in arrays)])


def _starts(
    problem: Problem,
    random: np.random.Generator,
    num_restarts: int,
    informed: bool,
    initial: GroupElement | None,
) -> Iterator[Permutations]:
    if initial is not None:
        yield {group: np.asarray(moved) for group, moved in initial.items()}
    if informed:
        yield informed_start(problem)
        yield problem.identity()
    for i in range(num_restarts):
        if informed and i % 2 == 0:
            order = [str(root) for root in random.permutation(list(problem.families))]
            yield informed_start(problem, order)
        else:
            yield problem.sample(random)


def _descend(
    problem: Problem,
    element: Permutations,
    random: np.random.Generator,
    max_sweeps: int,
) -> Permutations:
    """Coordinate descent, until no family of groups can be improved alone."""
    roots = list(problem.families)
    for _ in range(max_sweeps):
        improved = False
        for i in random.permutation(len(roots)):
            better = _improve(problem, roots[i], element)
            if better is not None:
                element, improved = better, True
        if not improved:
            break
    return element


def _improve(problem: Problem, root: str, element: Permutations) -> Permutations | None:
    """A better element that differs only in one family, or None."""
    family = problem.families[root]
    terms = problem.terms(root, element)
    _, moves = assign(root, problem.sizes, problem.children, terms)
    candidates = [moves]
    if problem.is_repeated(root) and len(family) == 1:
        candidates += [{root: p} for p in quadratic(problem, root, element)]
    elements = [problem.compose(element, moves, family) for moves in candidates]
    values = [problem.value(candidate, family) for candidate in elements]
    before = problem.value(element, family)
    best = int(np.argmax(values))
    # Relative to the size of the terms, so that rounding can't make it go on forever.
    scale = sum(np.abs(worth).max() for _, worth in terms)
    return elements[best] if values[best] > before + 1e-10 * scale else None
