"""A first assignment from what tells units apart, wherever the others lie."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsl.matching._assign import assign
from wsl.matching._problem import gram, Pair, Permutations, Problem, Term


def informed_start(
    problem: Problem, order: Sequence[str] | None = None
) -> Permutations:
    """Assigns one family of groups after the other, outward from what is fixed.

    Units are compared by their weights to and from everything whose order is known:
    inputs, outputs and groups that are already assigned. Weights to and from the
    others are compared sorted, which no permutation of those changes; of a recurrent
    leaf, the diagonal is compared as well. Next comes the family with the most weights
    that need no sorting.

    An exact copy of weights without two equal units is thus recovered at once where
    each group can be told apart in its turn.

    Args:
        problem: The weights.
        order: The families in the order to take them; by default as above.

    Returns:
        Permutations of all groups.
    """
    element, known = problem.identity(), []
    waiting = list(problem.families)
    while waiting:
        features = {root: _features(problem, root, element, known) for root in waiting}
        if order is None:
            root = max(waiting, key=lambda root: sum(f.told for f in features[root]))
        else:
            root = next(root for root in order if root in waiting)
        terms = [feature.term() for feature in features[root]]
        _, found = assign(root, problem.sizes, problem.children, terms)
        element |= found
        known += problem.families[root]
        waiting.remove(root)
    return element


class _Feature(NamedTuple):
    """Numbers of each unit that the order of unknown units does not change.

    Attributes:
        chain: Names of the nested groups that the units belong to.
        a: The units of `a`, `(*sizes, numbers)`.
        b: The units of `b`.
        told: How many of the numbers differ between units and needed no sorting.
    """

    chain: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray
    told: int

    def term(self) -> Term:
        """Inner products: among permutations the largest are the least distances."""
        return self.chain, gram(self.a, self.b, list(range(len(self.chain))))


def _features(
    problem: Problem, root: str, element: Permutations, known: Sequence[str]
) -> list[_Feature]:
    family, features = problem.families[root], []
    for pair in problem.touched(family):
        b = pair.permuted(element, known)
        for chain in pair.chains(family):
            names = tuple(pair.groups[slot] for slot in chain)
            unknown = [
                slot
                for slot, group in enumerate(pair.groups)
                if group not in known and slot not in chain
            ]
            features.append(_feature(names, pair.a, b, chain, unknown))
            twin = _twin(pair, chain)
            if twin is not None:
                # The diagonal becomes the last axis.
                a_, b_ = (
                    np.diagonal(x, axis1=chain[0], axis2=twin) for x in (pair.a, b)
                )
                rest = [s - (s > chain[0]) - (s > twin) for s in unknown if s != twin]
                features.append(_feature(names, a_, b_, [a_.ndim - 1], rest))
    return features


def _twin(pair: Pair, chain: Sequence[int]) -> int | None:
    """Another slot of the same plain group."""
    if len(chain) > 1:
        return None
    (slot,) = chain
    later = range(slot + 1, len(pair.groups))
    return next((s for s in later if pair.groups[s] == pair.groups[slot]), None)


def _feature(
    names: tuple[str, ...],
    a: np.ndarray,
    b: np.ndarray,
    chain: Sequence[int],
    unknown: Sequence[int],
) -> _Feature:
    sizes = [a.shape[d] for d in chain]
    count = math.prod(a.shape[d] for d in unknown)
    known = [d for d in range(a.ndim) if d not in chain and d not in unknown]
    order = (*chain, *known, *unknown)
    a, b = (np.sort(x.transpose(order).reshape((*sizes, -1, count))) for x in (a, b))
    told = 0
    if count == 1:
        spread = a.reshape(math.prod(sizes), -1).std(axis=0)
        told = int(np.sum(spread > 1e-6 * np.abs(a).max(initial=0.0)))
    return _Feature(names, a.reshape((*sizes, -1)), b.reshape((*sizes, -1)), told)
