"""`ResidualEdit`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    broken_by_most,
    draw_features,
    MOVED,
    SMALL,
    SPACES,
    uneven,
)
from wsl.nn import Pointwise, ResidualEdit, WeightSpaceAttention


def test_by_hand():
    weights = {"a": jnp.array([[1.0], [-2.0]]), "b": jnp.array([3.0])}
    edit = ResidualEdit(Pointwise(jnp.square))
    np.testing.assert_allclose(edit.gamma, 0.01)
    edited = call(edit, weights)
    np.testing.assert_allclose(edited["a"], [[1.01], [-1.96]], rtol=1e-6)
    np.testing.assert_allclose(edited["b"], [3.09], rtol=1e-6)
    # The step's size is learned: its gradient is the sum of the squares.
    gradient = eqx.filter_grad(lambda e: sum(x.sum() for x in e(weights).values()))
    np.testing.assert_allclose(call(gradient, edit).gamma, 14, rtol=1e-6)


def test_one_for_each_leaf():
    space = SPACES["mlp"]
    edit = ResidualEdit(Pointwise(jnp.ones_like), 0.5, per_leaf=space)
    assert edit.gamma.shape == (len(space.leaves),)
    edit = eqx.tree_at(lambda e: e.gamma, edit, array(np.arange(6)))
    zeros = jax.tree.map(lambda x: array(np.zeros(x.shape)), draw_features(space, 1, 0))
    edited = call(edit, zeros)
    found = [float(np.max(x)) for x in jax.tree.leaves(edited)]
    assert found == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["recurrent", "nested"])
def test_commutes(name):
    space = SPACES[name]
    channels = uneven(space)
    layer = WeightSpaceAttention(space, channels, 1, key=jr.key(0))
    edit = ResidualEdit(layer, 1.0, per_leaf=space)
    assert_commutes(edit, space, draw_features(space, channels, 0))
    wrong = ResidualEdit(Pointwise(lambda x: jnp.cumsum(x, 0)), 1.0)
    assert broken_by_most(wrong, space, draw_features(space, 1, 0)) > MOVED


def test_health():
    assert_healthy(ResidualEdit(Pointwise(jnp.sin)), SMALL, 2)


def test_keys_reach_the_layer():
    def layer(features, *, key):
        return jax.tree.map(lambda x: jr.normal(key, x.shape), features)

    edit, zeros = ResidualEdit(layer, 1.0), {"a": jnp.zeros(3)}
    drawn = call(edit, zeros, key=jr.key(4))["a"]
    np.testing.assert_array_equal(drawn, jr.normal(jr.key(4), (3,)))


def test_shapes_must_be_kept():
    # Channels of another number would broadcast.
    edit = ResidualEdit(Pointwise(lambda x: jnp.tile(x, 2)))
    with pytest.raises(ValueError, match="must keep the shapes"):
        edit({"a": jnp.ones((3, 1))})
