"""Assignment: exact for a group and what is nested in it, quadratic by Frank-Wolfe."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from wsl.matching._problem import gram, Permutations, Problem, Term


def assign(
    group: str,
    sizes: Mapping[str, int],
    children: Mapping[str, Sequence[str]],
    terms: Sequence[Term],
) -> tuple[float, Permutations]:
    """The best permutation of a group and of what is nested in it.

    Hierarchical: for every pair of blocks the best assignment of what lies in them,
    then the best assignment of blocks, whose score these are.

    Args:
        group: The group.
        sizes: Sizes of the groups.
        children: The groups nested directly in each.
        terms: What it is worth to match, for chains that begin with the group.

    Returns:
        What the assignment is worth, and the permutations.
    """
    n = sizes[group]
    scores = np.zeros((n, n))
    for chain, worth in terms:
        if len(chain) == 1:
            scores = scores + worth
    inner: dict[tuple[int, int], Permutations] = {}
    for child in children[group]:
        below = [
            (chain[1:], np.moveaxis(worth, len(chain), 1))
            for chain, worth in terms
            if child in chain[1:2]
        ]
        for i, j in np.ndindex(n, n):
            inside = [(chain, worth[i, j]) for chain, worth in below]
            score, permutations = assign(child, sizes, children, inside)
            scores[i, j] += score
            inner.setdefault((i, j), {}).update(permutations)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    chosen = [inner.get((i, j), {}) for i, j in zip(rows, columns, strict=True)]
    found = {name: np.stack([c[name] for c in chosen]) for name in chosen[0]}
    return float(scores[rows, columns].sum()), {group: columns, **found}


def quadratic(
    problem: Problem, group: str, element: Permutations, iterations: int = 30
) -> Iterator[np.ndarray]:
    """Permutations of a group that some leaf has on several axes, W → P W Pᵀ.

    The objective is a polynomial in P. Over doubly stochastic P it is followed by
    linear assignments with an exact line search, from where it is and from half-way to
    the barycentre, and the end is brought to the nearest permutation (Vogelstein et al.
    2015, fast approximate quadratic programming, "FAQ"; here with linear terms, and
    leaves with the group on more than two axes).

    Args:
        problem: The weights.
        group: A group without nested ones.
        element: Where the other groups are, and this one.
        iterations: How many assignments at most, from each start.

    Yields:
        Candidates, relative to `element`.
    """
    n = problem.sizes[group]
    pairs = [
        (
            pair.a,
            pair.permuted(element),
            [slot for slot, name in enumerate(pair.groups) if name == group],
        )
        for pair in problem.touched([group])
    ]
    degree = max(len(slots) for _, _, slots in pairs)
    points = np.linspace(0, 1, degree + 1)

    def value(matrix: np.ndarray) -> float:
        return float(sum(np.vdot(a, _mix(b, slots, matrix)) for a, b, slots in pairs))

    def gradient(matrix: np.ndarray) -> np.ndarray:
        total = np.zeros((n, n))
        for a, b, slots in pairs:
            for slot in slots:
                others = [other for other in slots if other != slot]
                total += gram(a, _mix(b, others, matrix), [slot])
        return total

    for share in (0.0, 0.5):
        matrix = (1 - share) * np.eye(n) + share / n
        for _ in range(iterations):
            _, columns = linear_sum_assignment(gradient(matrix), maximize=True)
            step = np.eye(n)[columns] - matrix
            values = [value(matrix + t * step) for t in points]
            length = _argmax(np.polynomial.Polynomial.fit(points, values, degree))
            if length < 1e-6:
                break
            matrix = matrix + length * step
        yield linear_sum_assignment(matrix, maximize=True)[1]


def _mix(array: np.ndarray, slots: Sequence[int], matrix: np.ndarray) -> np.ndarray:
    for slot in slots:
        array = np.moveaxis(np.tensordot(matrix, array, (1, slot)), 0, slot)
    return array


def _argmax(polynomial: np.polynomial.Polynomial) -> float:
    """Where on [0, 1] a polynomial is largest."""
    roots = polynomial.deriv().roots()
    inside = [float(r.real) for r in roots if abs(r.imag) < 1e-9 and 0 < r.real < 1]
    return max([0.0, 1.0, *inside], key=lambda t: float(polynomial(t)))
