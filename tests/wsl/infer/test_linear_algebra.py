"""Transforms, decompositions and linear systems: their batch axes stay free."""

import jax.numpy as jnp
import jax.scipy as jsp
import pytest

from tests.wsl.infer.helpers import check, draw, numbers
from wsl import infer_weight_space


def test_matrices_and_transforms_leave_batch_axes_alone():
    def mixed(w, x):  # FNet: tokens are mixed, features are not.
        h = jnp.tanh(x @ w["in"])
        return jnp.fft.fft(h, axis=0).real @ w["out"]

    weights = draw({"in": numbers(3, 4), "out": numbers(4, 2)})
    spec = {"['in']": (None, "h"), "['out']": ("h", None)}
    check(mixed, weights, [numbers(5, 3)], spec)

    def factored(w, x):
        h = jnp.einsum("uij,jk->uik", w["in"], x) + 3.0 * jnp.eye(2)[None]
        roots = jnp.linalg.cholesky(h @ h.swapaxes(1, 2))
        return (jnp.tanh(roots) * w["out"][:, None, None]).sum(0)

    weights = draw({"in": numbers(4, 2, 2), "out": numbers(4)})
    spec = {"['in']": ("h", None, None), "['out']": ("h",)}
    check(factored, weights, [numbers(2, 2)], spec)
    # Control: along the axes themselves nothing moves.
    mixes = lambda w, x: jnp.fft.fft(jnp.tanh(w["in"].T @ x)).real @ w["out"]
    weights = {"in": numbers(3, 4), "out": numbers(4, 2)}
    assert infer_weight_space(mixes, weights, numbers(3)).groups == {}


def _systems(w, x):
    return jnp.einsum("uij,jk->uik", w["in"], x) + 3.0 * jnp.eye(2)[None]


def _positive(w, x):
    h = _systems(w, x)
    return h @ h.swapaxes(1, 2)


_OF_EACH = {
    "solve": lambda w, x: jnp.linalg.solve(_systems(w, x), jnp.ones((4, 2, 1))),
    "inverse": lambda w, x: jnp.linalg.inv(_systems(w, x)),
    "qr": lambda w, x: jnp.abs(jnp.linalg.qr(_systems(w, x))[1]),
    "cholesky": lambda w, x: jsp.linalg.cho_solve(
        (jnp.linalg.cholesky(_positive(w, x)), True), jnp.ones((4, 2, 1))
    ),
    "eigenvalues": lambda w, x: jnp.log(jnp.linalg.eigh(_positive(w, x))[0])[..., None],
}


@pytest.mark.parametrize("name", _OF_EACH)
def test_systems_side_by_side_are_a_group(name):
    def fn(w, x):
        found = _OF_EACH[name](w, x)
        return (jnp.tanh(found) * w["out"][:, None, None]).sum(0)

    weights = draw({"in": numbers(4, 2, 2), "out": numbers(4)})
    spec = {"['in']": ("h", None, None), "['out']": ("h",)}
    check(fn, weights, [numbers(2, 2)], spec)


def _matrix(x):
    return x @ x.T + 3.0 * jnp.eye(3)


def test_right_hand_sides_are_a_group():
    def fn(w, x):
        return jnp.linalg.solve(_matrix(x), jnp.tanh(x @ w["in"])) @ w["out"]

    weights = draw({"in": numbers(3, 5), "out": numbers(5, 2)})
    spec = {"['in']": (None, "h"), "['out']": ("h", None)}
    check(fn, weights, [numbers(3, 3)], spec)


def test_unknowns_are_not_a_group():
    # Each unknown depends on where its equation stands in the matrix.
    def fn(w, x):
        return jnp.linalg.solve(_matrix(x), jnp.tanh(w["in"] @ x[0])) @ w["out"]

    weights = {"in": numbers(3, 3), "out": numbers(3, 2)}
    space = infer_weight_space(fn, weights, numbers(3, 3))
    assert space.groups == {} and space.unknown_primitives == ()
