"""Soft permutations: doubly stochastic, differentiable, and exact in the limit."""

import functools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax.test_util import check_grads
from scipy.optimize import linear_sum_assignment

import wsl
from tests.helpers import examples
from tests.wsl.helpers import (
    act_on_tree,
    chain_spec,
    draw_element,
    draw_weights,
    make_space,
)
from wsl import matching, WeightSpace
from wsl.testing import group_elements, weight_spaces, weights


_KEY = jax.random.key(0)
# Every call with new shapes compiles once, not once an operation.
_sinkhorn = jax.jit(matching.sinkhorn, static_argnames="num_iterations")
_soft_permute = jax.jit(matching.soft_permute, static_argnums=0)


def test_two_by_two_in_closed_form():
    # [[p, 1 - p], [1 - p, p]], p the logistic function of half the surplus of the
    # diagonal.
    @jax.jit
    def value_and_gradient(scores, temperature):
        def first(scores):
            matrix = matching.sinkhorn(scores, temperature, num_iterations=100)
            return matrix[0, 0], matrix

        gradient, matrix = jax.grad(first, has_aux=True)(scores)
        return matrix, gradient

    scores = jnp.array([[1.0, 0.25], [-0.5, 0.75]])
    surplus = 1.0 + 0.75 - 0.25 + 0.5
    for temperature in (0.5, 1.0, 3.0):
        p = 1 / (1 + np.exp(-surplus / (2 * temperature)))
        matrix, gradient = value_and_gradient(scores, temperature)
        np.testing.assert_allclose(matrix, [[p, 1 - p], [1 - p, p]], atol=1e-5)
        # The gradient of p: p (1 - p) / 2T, with the signs of the surplus.
        slope = p * (1 - p) / (2 * temperature)
        expected = slope * np.array([[1.0, -1.0], [-1.0, 1.0]])
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_doubly_stochastic(dtype):
    drawn = np.random.default_rng(0).standard_normal((3, 2, 6, 6))
    scores = jnp.asarray(drawn, dtype)
    matrices = _sinkhorn(scores, 0.5, num_iterations=50)
    assert matrices.dtype == dtype and matrices.shape == scores.shape
    sums = np.asarray(matrices, np.float32)
    tolerance = 20 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(sums.sum(-1), 1, atol=tolerance)
    np.testing.assert_allclose(sums.sum(-2), 1, atol=tolerance)
    assert sums.min() >= 0
    # Control: one iteration leaves the rows' sums off.
    once = np.asarray(_sinkhorn(scores, 0.5, 1), np.float32)
    assert np.abs(once.sum(-1) - 1).max() > 0.1


def test_low_temperatures_give_the_best_assignment():
    scores = np.random.default_rng(0).standard_normal((5, 8, 8))
    matrices = _sinkhorn(jnp.asarray(scores, jnp.float32), 0.005, num_iterations=2000)
    for one, matrix in zip(scores, matrices, strict=True):
        _, columns = linear_sum_assignment(one, maximize=True)
        np.testing.assert_allclose(matrix, np.eye(8)[columns], atol=0.05)
    # Scores that would overflow, were they not kept as logarithms.
    large = _sinkhorn(1e4 * jnp.eye(3), 0.1, 10)
    np.testing.assert_array_equal(large, np.eye(3))
    # At high ones all assignments are alike.
    np.testing.assert_allclose(_sinkhorn(jnp.eye(3), 1e4, 10), 1 / 3, atol=1e-4)


def test_transformations_and_gradients():
    scores = jax.random.normal(_KEY, (4, 3, 3))
    plain = _sinkhorn(scores, 0.7)
    batched = jax.jit(jax.vmap(lambda s: _sinkhorn(s, 0.7)))(scores)
    np.testing.assert_allclose(batched, plain, atol=1e-6)
    weights = jax.random.normal(jax.random.key(1), (3, 3))

    @jax.jit
    def value(scores, temperature):
        matrix = matching.sinkhorn(scores, temperature)
        return jnp.sum(jnp.sin(matrix) * weights)

    check_grads(value, (scores[0], jnp.asarray(0.7)), 1, ["rev"], atol=1e-2, rtol=1e-2)


def _soften(space, seed):
    """Random matrices; that they are doubly stochastic does not matter."""
    random = np.random.default_rng(seed)
    return {
        group: jnp.asarray(random.random((*shape, shape[-1])), jnp.float32)
        for group, shape in space.element_shapes().items()
    }


@examples(10)
@given(weight_spaces(), st.data())
def test_permutation_matrices_permute(space, data):
    element = data.draw(group_elements(space))
    numbers = data.draw(weights(space))
    matrices = matching.one_hot(space, element)
    mixed = _soft_permute(space, numbers, matrices)
    expected = act_on_tree(space, numbers, element)
    assert jax.tree.structure(mixed) == space.treedef
    for x, y in zip(jax.tree.leaves(mixed), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    again = matching.harden(space, matrices)
    assert again.keys() == element.keys()
    for group in element:
        np.testing.assert_array_equal(again[group], element[group])


def test_mixing_by_hand():
    space = make_space(
        {"w": (2, 2), "n": (4, 6)},
        {"w": ("g", "g"), "n": ((2, "g"), ("h", "u"))},
        nested={"u": "h"},
        sizes={"h": 2},
    )
    matrices, numbers = _soften(space, 0), draw_weights(space, 1)
    mixed = _soft_permute(space, numbers, matrices)
    g, h, u = (np.asarray(matrices[name], float) for name in "ghu")
    np.testing.assert_allclose(mixed["w"], g @ numbers["w"] @ g.T, rtol=1e-5, atol=1e-6)
    leaf = np.asarray(numbers["n"], float).reshape(2, 2, 2, 3)
    expected = np.einsum("ab,ij,ikl,fbjl->faik", g, h, u, leaf).reshape(4, 6)
    np.testing.assert_allclose(mixed["n"], expected, rtol=1e-5, atol=1e-6)

    # Differentiable in the matrices and in the weights.
    @jax.jit
    def moved(matrices, numbers):
        return matching.soft_permute(space, numbers, matrices)

    check_grads(moved, (matrices, numbers), 1, ["rev"], atol=1e-2, rtol=1e-2)


def test_models_and_dtypes():
    model = eqx.nn.Linear(2, 3, dtype=jnp.bfloat16, key=_KEY)
    spec = {".weight": ("g", None), ".bias": ("g",)}
    space = WeightSpace.from_spec(model, spec)
    mixed = eqx.filter_jit(matching.soft_permute)(
        space, model, {"g": jnp.full((3, 3), 1 / 3)}
    )
    assert isinstance(mixed, eqx.nn.Linear) and mixed.weight.dtype == jnp.bfloat16
    mean = np.asarray(model.weight, np.float32).mean(0)
    for row in np.asarray(mixed.weight, np.float32):
        np.testing.assert_allclose(row, mean, rtol=2e-2, atol=1e-2)
    match = eqx.filter_jit(matching.soft_match)(
        space, model, model, key=_KEY, num_steps=2
    )
    assert match.losses.shape == (2,) and match.losses.dtype == jnp.float32


def _pairs(count):
    """Weights of perceptrons and permuted copies of them, stacked."""
    make = lambda: eqx.nn.MLP(3, 2, 6, 2, key=_KEY)
    space = WeightSpace.from_spec(eqx.filter_eval_shape(make), chain_spec(3))
    elements = [draw_element(space, seed) for seed in range(count)]
    # Of the order of a network's own.
    b = [
        jax.tree.map(lambda x: np.asarray(x) / 2, draw_weights(space, seed))
        for seed in range(count)
    ]
    a = [act_on_tree(space, *pair) for pair in zip(b, elements, strict=True)]
    stack = lambda trees: jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *trees)
    return space, stack(a), stack(b), stack(elements)


@functools.cache
def _soft_matches(temperature):
    space, a, b, element = _pairs(4)
    return space, a, b, element, _run(space, a, b, jnp.asarray(temperature))


@eqx.filter_jit
def _run(space, a, b, temperature):
    def match(a, b):
        return matching.soft_match(
            space, a, b, key=_KEY, temperature=temperature, num_steps=150
        )

    return jax.vmap(match)(a, b)


def test_soft_match_agrees_with_the_exact_one():
    space, a, b, element, match = _soft_matches(0.1)
    assert match.losses.shape == (4, 150)
    losses = np.asarray(match.losses)
    assert (losses[:, -1] < 0.1 * losses[:, 0]).all()
    for i in range(4):
        one = lambda tree, i=i: jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf)[i]), tree
        )
        hard = matching.harden(space, one(match.soft_element))
        exact = wsl.match_weights(space, one(a), one(b), key=_KEY).element
        for group in element:
            np.testing.assert_array_equal(hard[group], one(element)[group])
            np.testing.assert_array_equal(hard[group], exact[group])
        sums = np.asarray(match.soft_element["h0"])[i].sum(0)
        np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_sharper_at_lower_temperatures():
    *_, sharp = _soft_matches(0.1)
    *_, soft = _soft_matches(20.0)
    assert np.asarray(sharp.soft_element["h1"]).max(-1).min() > 0.9
    assert np.asarray(soft.soft_element["h1"]).max(-1).max() < 0.7
    last = [np.asarray(match.losses)[:, -1] for match in (sharp, soft)]
    assert (last[0] < 0.1).all() and (last[1] > 0.1).all()


def test_a_learned_loss():
    # The loss of a network half-way between two, by gradient through both parts.
    space, a, b, _ = _pairs(1)
    a, b = (jax.tree.map(lambda leaf: np.asarray(leaf)[0], tree) for tree in (a, b))
    rest = eqx.filter_eval_shape(lambda: eqx.nn.MLP(3, 2, 6, 2, key=_KEY))
    xs = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)

    @jax.jit
    @jax.value_and_grad
    def loss(scores):
        soft = {group: matching.sinkhorn(s, 0.1) for group, s in scores.items()}
        moved = matching.soft_permute(space, b, soft)
        middle = jax.tree.map(lambda x, y: (x + y) / 2, a, moved)
        at = lambda w: jax.vmap(eqx.combine(w, rest))(xs)
        return jnp.mean((at(middle) - at(a)) ** 2)

    scores = {group: jnp.zeros((n, n)) for group, n in space.groups.items()}
    values = []
    for _ in range(100):
        value, gradient = loss(scores)
        values.append(value)
        scores = jax.tree.map(lambda s, g: s - 3.0 * g, scores, gradient)
    assert values[-1] < 0.5 * values[0]


def test_errors():
    space = WeightSpace.from_spec({"w": jnp.zeros((3, 2))}, {"['w']": ("g", "h")})
    good = {"g": jnp.eye(3), "h": jnp.eye(2)}
    numbers = {"w": jnp.ones((3, 2))}
    with pytest.raises(ValueError, match="square matrices"):
        matching.sinkhorn(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="one iteration or more"):
        matching.sinkhorn(jnp.zeros((3, 3)), num_iterations=0)
    with pytest.raises(ValueError, match="lacks matrices for 'h'"):
        matching.soft_permute(space, numbers, {"g": good["g"]})
    with pytest.raises(ValueError, match=r"have shape \(3, 3\); expected \(2, 2\)"):
        matching.harden(space, {**good, "h": jnp.eye(3)})
    with pytest.raises(ValueError, match="this space has"):
        matching.soft_permute(space, {"w": jnp.ones((2, 3))}, good)
