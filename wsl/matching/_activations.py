"""Alignment by what units answer on data."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wsl._infer import Activations, record
from wsl._space import check_space, find_slots, permute_leaves, WeightSpace
from wsl.matching._assign import assign
from wsl.matching._descent import Match
from wsl.matching._problem import finite_arrays, fold_pair, make_problem, Pair, Term


Weights = TypeVar("Weights")


def match_activations(
    space: WeightSpace,
    a: PyTree,
    b: Weights,
    *inputs: PyTree,
    fn: Any = None,
) -> Match[Weights]:
    """Aligns `b` to `a` by what their units answer on the same data.

    Every array in the course of the function that depends on the data and has an axis
    of a group is compared: before and after an activation, along a residual stream,
    queries and keys. Each unit of `a` is matched to the one of `b` whose answers are
    correlated with its own the most, in the mean over these arrays, by one linear
    assignment for each group (hierarchical where groups are nested). A pair counts as
    much as its units answer, each relative to all units of its network: where not all
    can have their like, the strong ones come first. Groups do not depend on one
    another, so that there is nothing to descend and nothing to restart; but there must
    be data, and units that never answer are told apart by nothing.

    Where networks were trained on the same data, this often finds better places for
    averages than [`match_weights`][wsl.match_weights], whose distance is then larger.

    Sources: Li et al. 2016 (convergent learning), correlations of activations;
    Ainsworth et al. 2023 (Git Re-Basin), activation matching, by products of answers.
    Correlations times the sum of deviations lie between: strong units count more, and a
    copy whose ReLU units are scaled is still found, as the sum of all deviations is the
    same for every permutation.

    Args:
        space: The space of both, as [`infer_weight_space`][wsl.infer_weight_space]
            finds it for the function and these inputs.
        a: Weights, or a model, to align to.
        b: Weights, or a model, to align.
        *inputs: Data: what the function takes beside its weights, a batch of it.
        fn: The function, with the weights as its first input; unless given, the models
            are called: `jax.vmap(model)(batch)` takes
            `fn=lambda model, batch: jax.vmap(model)(batch)`.

    Returns:
        The element, the aligned weights, and their distance over all leaves.

    Raises:
        ValueError: If the space is not that of the function, or an answer or a weight
            is not finite.
    """
    check_space(space)
    seen = recorded(space, a, inputs, fn)
    arrays = finite_arrays(space, a, "a"), finite_arrays(space, b, "b")
    answers = [answers_of(seen, weights) for weights in (a, b)]
    problem = make_problem(space, *arrays)
    pairs = _pairs(space, seen.axes, answers)
    element: dict[str, np.ndarray] = dict(problem.identity())
    for root, family in problem.families.items():
        terms: list[Term] = []
        for pair in pairs:
            chains = pair.chains(family)
            # Of arrays with units on two axes each would depend on the other.
            if len(chains) == 1 and set(pair.groups) <= set(family):
                names = tuple(pair.groups[slot] for slot in chains[0])
                terms.append((names, _similarities(pair, chains[0])))
        if terms:
            _, found = assign(root, problem.sizes, problem.children, terms)
            element |= found
    moved = permute_leaves(space.pieces, arrays[1], element)
    chosen = {group: jnp.asarray(element[group], jnp.int32) for group in space.groups}
    distance = _distance(arrays[0], moved)
    return Match(
        chosen,
        space.permute(b, chosen),
        distance,
        _distance(arrays[0], arrays[1]),
        (distance,),
    )


def recorded(
    space: WeightSpace, weights: PyTree, inputs: Sequence[PyTree], fn: Any
) -> Activations:
    """What to look at while networks of a space run on data.

    Args:
        space: The space.
        weights: Weights of it, or a model.
        inputs: The data.
        fn: The function, with the weights as its first input; if None, the models are
            called.

    Returns:
        The arrays, and how to get them.

    Raises:
        ValueError: If the space is not that of the function and the data.
    """
    seen = record(fn if fn is not None else _call, (weights, *inputs))
    if seen.space != space:
        raise ValueError(
            "The space is not the one that `infer_weight_space(fn, weights, *inputs)` "
            "finds for this function and these inputs, whose arrays are looked at.\n"
            f"Given:\n{space}\nFound:\n{seen.space}"
        )
    return seen


def answers_of(seen: Activations, weights: PyTree) -> list[np.ndarray]:
    """The arrays of one network, in double precision.

    Args:
        seen: What to look at.
        weights: The network's weights, or the model.

    Returns:
        An array for each of `seen.axes`.
    """
    pieces = seen.cut(seen.space.weight_leaves(weights))
    return [np.asarray(x, float) for x in seen.run(pieces, seen.given)]


def _call(model: Any, *inputs: Any) -> Any:
    return model(*inputs)


def _distance(a: Any, b: Any) -> float:
    return float(np.sqrt(sum(((x - y) ** 2).sum() for x, y in zip(a, b, strict=True))))


def _pairs(space: WeightSpace, axes: Any, answers: Any) -> list[Pair]:
    pairs = []
    nested = dict(space.nested)
    for described, x, y in zip(axes, *answers, strict=True):
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("Not all answers of the networks on the data are finite.")
        try:
            slots = find_slots("an activation", described, space.fixed, nested)
        except ValueError:
            continue  # Units without their block.
        sizes = [factor.size for axis in described for factor in axis]
        pairs.append(fold_pair(x, y, slots, sizes))
    return pairs


def _similarities(pair: Pair, chain: list[int]) -> np.ndarray:
    """Of all units of `a` and all of `b`: correlations times the sum of deviations.

    Over everything else; deviations are relative to the root mean square of all.
    """
    sizes = [pair.a.shape[d] for d in chain]
    rows, deviations = [], []
    for array in (pair.a, pair.b):
        units = np.moveaxis(array, chain, range(len(chain)))
        units = units.reshape(int(np.prod(sizes)), -1)
        units = units - units.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(units, axis=1)
        whole = np.linalg.norm(norms) or 1.0
        rows.append(units / np.where(norms > 1e-6 * whole, norms, 1.0)[:, None])
        deviations.append(norms / whole)
    together = deviations[0][:, None] + deviations[1][None]
    return (rows[0] @ rows[1].T * together).reshape((*sizes, *sizes))
