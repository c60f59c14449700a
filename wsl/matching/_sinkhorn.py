"""Soft permutations: doubly stochastic matrices, which gradients can move."""

import string
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from scipy.optimize import linear_sum_assignment

from wsl._space import check_space, enclosing, GroupElement, Leaf, WeightSpace


SoftElement: TypeAlias = dict[str, Float[Array, "..."]]
"""Doubly stochastic matrices for each group of a space, by the group's name: an array
of shape `(n, n)`, or for a nested group, with one for every block, of shape
`(*blocks, n, n)`."""


def sinkhorn(
    scores: Float[Array, "..."],
    temperature: float | Float[Array, ""] = 1.0,
    num_iterations: int = 20,
) -> Float[Array, "..."]:
    """Turns scores into doubly stochastic matrices, in the log domain.

    Rows and columns of `exp(scores / temperature)` are divided by their sums in turn
    (Sinkhorn & Knopp 1967; as an operator on scores, Mena et al. 2018, eq. 1). As the
    temperature goes to zero the result goes to the permutation matrix that is best for
    the scores, for which more iterations are needed. Columns come last: their sums are
    exact, those of rows only nearly so.

    Args:
        scores: What it is worth to match row to column, `(*batch, n, n)`.
        temperature: How soft the assignment is, in units of the scores.
        num_iterations: How often to normalise rows and columns.

    Returns:
        The matrices, `(*batch, n, n)`, in the dtype of the scores.

    Raises:
        ValueError: If the matrices are not square, or `num_iterations` is not positive.
    """
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2] or num_iterations < 1:
        raise ValueError(
            "Needs square matrices and one iteration or more; got shape "
            f"{scores.shape} and num_iterations={num_iterations}."
        )

    def normalise(logs: Array, _: None) -> tuple[Array, None]:
        logs = logs - jax.nn.logsumexp(logs, axis=-1, keepdims=True)
        return logs - jax.nn.logsumexp(logs, axis=-2, keepdims=True), None

    logs = scores / jnp.asarray(temperature, scores.dtype)
    logs, _ = jax.lax.scan(normalise, logs, length=num_iterations)
    return jnp.exp(logs)


def one_hot(space: WeightSpace, element: GroupElement) -> SoftElement:
    """A group element as permutation matrices.

    Args:
        space: The space.
        element: A permutation for each group.

    Returns:
        Matrices with which [`soft_permute`][wsl.matching.soft_permute] does what
        `permute` does with the element.
    """
    return {
        group: jax.nn.one_hot(element[group], shape[-1], dtype=jnp.float32)
        for group, shape in space.element_shapes().items()
    }


def harden(space: WeightSpace, soft_element: SoftElement) -> GroupElement:
    """The permutations nearest to soft ones, by linear assignment.

    Runs on the host, and can't be compiled.

    Args:
        space: The space.
        soft_element: Matrices for each group; scores will do as well.

    Returns:
        The element of which the matrices, or scores, are the largest in sum.

    Raises:
        ValueError: If a group is missing or has matrices of another shape.
    """
    _check(space, soft_element)
    element = {}
    for group, shape in space.element_shapes().items():
        matrices = np.asarray(soft_element[group]).astype(float)
        found = np.empty(shape, np.int32)
        for block in np.ndindex(*shape[:-1]):
            found[block] = linear_sum_assignment(matrices[block], maximize=True)[1]
        element[group] = jnp.asarray(found)
    return element


def soft_permute(
    space: WeightSpace, weights: PyTree, soft_element: SoftElement
) -> PyTree:
    """Acts on weights with doubly stochastic matrices in place of permutations.

    Along every axis of group `g`, entry `i` of the result is the mean of the weights'
    entries `j`, weighted by `soft_element[g][i, j]`. For a group nested in another, `g`
    in `h`: entry `(i, j)` is the mean of entries `(k, l)`, weighted by
    `soft_element[h][i, k] * soft_element[g][i, j, l]`. With permutation matrices it is
    [`permute`][wsl.WeightSpace.permute]. Differentiable in both arguments.

    Args:
        space: The space.
        weights: Weights of the space; a whole model is returned as a model.
        soft_element: Matrices for each group.

    Returns:
        The mixed weights, of the same structure as given.

    Raises:
        ValueError: If the weights are not of the space, or a group is missing or has
            matrices of another shape.
    """
    _check(space, soft_element)
    arrays = space.cut(list(map(jnp.asarray, space.weight_leaves(weights))))
    mixed = [
        _mix(leaf, array, soft_element)
        for leaf, array in zip(space.pieces, arrays, strict=True)
    ]
    return eqx.combine(space.join_features(mixed), weights)


def _mix(leaf: Leaf, array: Array, soft_element: SoftElement) -> Array:
    factors = array.reshape(leaf.layout.sizes)
    letters = string.ascii_letters[: factors.ndim]
    chains = [enclosing(slot, leaf.slots) for slot in leaf.slots]
    for *above, slot in sorted(chains, key=len):
        blocks = "".join(letters[s.dimension] for s in above)
        old = letters[slot.dimension]
        new = letters.replace(old, "Z")
        matrix = soft_element[slot.group].astype(array.dtype)
        factors = jnp.einsum(f"{blocks}Z{old},{letters}->{new}", matrix, factors)
    return factors.reshape(array.shape)


def _check(space: WeightSpace, soft_element: Mapping[str, Array]) -> None:
    for group, shape in space.element_shapes().items():
        if group not in soft_element:
            raise ValueError(
                f"The soft element lacks matrices for {group!r}; it has "
                f"{sorted(soft_element)}."
            )
        expected = (*shape, shape[-1])
        if soft_element[group].shape != expected:
            raise ValueError(
                f"The matrices for {group!r} have shape {soft_element[group].shape}; "
                f"expected {expected}."
            )


class SoftMatch(NamedTuple):
    """How [`soft_match`][wsl.matching.soft_match] aligned `b` to `a`.

    Attributes:
        soft_element: Doubly stochastic matrices for each group;
            [`harden`][wsl.matching.harden] makes permutations of them.
        losses: Squared distance of `a` and `b` mixed by them, divided by the squared
            norm of `a`, before each step.
    """

    soft_element: SoftElement
    losses: Float[Array, " steps"]


def soft_match(
    space: WeightSpace,
    a: PyTree,
    b: PyTree,
    *,
    key: PRNGKeyArray,
    temperature: float | Float[Array, ""] = 0.1,
    num_steps: int = 200,
    learning_rate: float = 0.1,
    num_iterations: int = 20,
) -> SoftMatch:
    """Aligns `b` to `a` by gradient descent on soft permutations.

    Minimises the squared distance of `a` and `soft_permute(space, b, P)` over scores X,
    with P = [`sinkhorn`][wsl.matching.sinkhorn](X / temperature) for every group at
    once, by Adam (Kingma & Ba 2015). Pure JAX: it can be compiled, vectorised over
    pairs of weights, and differentiated. Where only the element counts,
    [`match_weights`][wsl.match_weights] is exact for each group and finds better ones.

    The same two parts make any other loss of the aligned weights, for instance that of
    the network half-way between the two.

    Source: Guerrero Peña et al. 2023 (re-basin via implicit Sinkhorn differentiation),
    L2 distance; here gradients go through the iterations.

    Args:
        space: The space of both.
        a: Weights to align to.
        b: Weights to align.
        key: Source of randomness, for the first scores.
        temperature: Temperature of the Sinkhorn operator.
        num_steps: How many steps to take.
        learning_rate: Step size of Adam.
        num_iterations: How often the operator normalises rows and columns.

    Returns:
        The soft permutations and the losses.

    Raises:
        ValueError: If weights are not of the space.
    """
    check_space(space)
    target = space.flatten(a)
    # Scores and their gradients need more digits than 16-bit weights have.
    dtype = jnp.float32 if jnp.finfo(target.dtype).bits <= 16 else target.dtype
    target = target.astype(dtype)
    norm = jnp.maximum(jnp.sum(target**2), jnp.finfo(dtype).tiny)

    def soften(scores: SoftElement) -> SoftElement:
        return {
            group: sinkhorn(score, temperature, num_iterations)
            for group, score in scores.items()
        }

    def loss(scores: SoftElement) -> Float[Array, ""]:
        mixed = space.flatten(soft_permute(space, b, soften(scores))).astype(dtype)
        return jnp.sum((mixed - target) ** 2) / norm

    shapes = space.element_shapes()
    keys = jr.split(key, max(len(shapes), 1))
    # Small against the temperature: all permutations are about as likely.
    scores = {
        group: 0.01 * jr.normal(subkey, (*shape, shape[-1]), dtype)
        for subkey, (group, shape) in zip(keys, shapes.items(), strict=False)
    }
    zeros = jax.tree.map(jnp.zeros_like, scores)

    def step(carry: tuple, count: Array) -> tuple[tuple, Array]:
        scores, mean, square = carry
        value, gradient = jax.value_and_grad(loss)(scores)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradient)
        rate = learning_rate * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        scores = jax.tree.map(
            lambda x, m, s: x - rate * m / (jnp.sqrt(s) + 1e-8), scores, mean, square
        )
        return (scores, mean, square), value

    counts = jnp.arange(1, num_steps + 1, dtype=dtype)
    (scores, _, _), losses = jax.lax.scan(step, (scores, zeros, zeros), counts)
    return SoftMatch(soften(scores), losses)
