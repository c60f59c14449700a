"""`Pointwise`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    broken_by_most,
    draw_features,
    MOVED,
    SMALL,
    SPACES,
)
from wsl.nn import Pointwise


@pytest.mark.parametrize("name", ["factored", "nested"])
def test_commutes(name):
    space = SPACES[name]
    assert_commutes(Pointwise(jnp.tanh), space, draw_features(space, 2, 0))


def test_every_leaf():
    space = SPACES["mlp"]
    features = draw_features(space, 2, 0)
    result = Pointwise(jax.nn.relu)(features, key=jax.random.key(0))
    for x, y in zip(jax.tree.leaves(features), jax.tree.leaves(result), strict=True):
        np.testing.assert_array_equal(np.maximum(x, 0), y)
    assert_healthy(Pointwise(jnp.tanh), SMALL, 2)


def test_control():
    # A cumulative sum is no function of each entry.
    space = SPACES["mlp"]
    layer = Pointwise(lambda x: jnp.cumsum(x, axis=0))
    assert broken_by_most(layer, space, draw_features(space, 2, 0)) > MOVED
