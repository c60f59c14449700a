"""`Standardize`: statistics of a data set, over orbits."""

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
    distance,
    draw_features,
    MLP,
    MOVED,
    SMALL,
    SPACES,
    uneven,
)
from wsl.nn import Pointwise, Standardize


def _zoo(space, channels, size=50):
    """Weight sets of unequal location and scale at each coordinate."""
    random = np.random.default_rng(1)
    one = draw_features(space, channels, 2)

    def draw(x):
        scale = np.exp(random.standard_normal(x.shape))
        moved = np.asarray(x) + scale * random.standard_normal((size, *x.shape))
        return array(moved, x.dtype)

    return jax.tree.map(draw, one)


def _fit(space, zoo):
    return call(Standardize.fit, space, zoo)


@pytest.mark.parametrize("name", ["mlp", "recurrent", "factored", "nested"])
def test_standardize_commutes(name):
    space = SPACES[name]
    channels = uneven(space)
    layer = _fit(space, _zoo(space, channels))
    assert_commutes(layer, space, draw_features(space, channels, 0))
    assert_commutes(layer.undo, space, draw_features(space, channels, 0))


def test_statistics_of_each_coordinate_break_the_symmetry():
    space = SPACES["mlp"]
    zoo = _zoo(space, 2)
    mean = jax.tree.map(lambda x: np.mean(x, 0), zoo)
    deviation = jax.tree.map(lambda x: np.std(x, 0), zoo)

    def layer(features):
        return jax.tree.map(lambda x, m, s: (x - m) / s, features, mean, deviation)

    assert broken_by_most(layer, space, draw_features(space, 2, 0)) > 0.1
    # So would those of one weight set, over everything but one moving axis.
    per_unit = Pointwise(lambda x: x - x.mean(-1, keepdims=True).at[0].set(0))
    assert broken_by_most(per_unit, space, draw_features(space, 2, 0)) > MOVED


def test_standardized_data_have_mean_0_and_variance_1():
    space = SPACES["mlp"]
    zoo = _zoo(space, 2)
    layer = _fit(space, zoo)
    result = jax.jit(jax.vmap(layer))(zoo)
    undone = jax.jit(jax.vmap(layer.undo))(result)
    result = jax.tree.map(np.asarray, result)
    for x, axes in [
        (result["w0"], (0, 1)),  # each input by itself
        (result["w1"], (0, 1, 2)),
        (result["w2"], (0, 2)),  # each output
        (result["b0"], (0, 1)),
        (result["b2"], 0),
    ]:
        np.testing.assert_allclose(x.mean(axes), 0, atol=1e-5)
        np.testing.assert_allclose(x.var(axes), 1, atol=1e-4)
    assert distance(undone, zoo) < 1e-5
    # Control: the hidden units of the data differ, and keep their differences.
    assert np.abs(result["w0"].mean(0)).max() > 0.1


def test_factored_statistics_by_hand():
    space = SPACES["factored"]
    zoo = _zoo(space, 2)
    layer = _fit(space, zoo)
    x = np.asarray(zoo["gates"][7], float).reshape(3, 3, 3, 2)
    data = np.asarray(zoo["gates"], float).reshape(50, 3, 3, 3, 2)
    expected = (x - data.mean((0, 2, 3))[:, None, None]) / data.std((0, 2, 3))[
        :, None, None
    ]
    result = call(layer, jax.tree.map(lambda leaf: array(leaf[7]), zoo))["gates"]
    np.testing.assert_allclose(result, expected.reshape(9, 3, 2), atol=1e-5)


def test_constants_and_gradients():
    space = SPACES["frozen"]
    # 0.1 has no exact mean in binary: rounding must not become a deviation.
    zoo = jax.tree.map(
        lambda x: array(np.full((50, *x.shape), 0.1)), draw_features(space, 1, 0)
    )
    layer = _fit(space, zoo)
    features = draw_features(space, 1, 0)
    shifted = jax.tree.map(lambda x: np.asarray(x) - np.float32(0.1), features)
    assert distance(call(layer, features), shifted) < 1e-6

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(layer):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(layer(features)))

    for x in jax.tree.leaves(gradient(layer)):
        np.testing.assert_array_equal(x, 0)


def test_standardize_health():
    space = SMALL
    assert_healthy(_fit(space, _zoo(space, 2)), space, 2)
    # Statistics of 16-bit data are wide.
    zoo = jax.tree.map(lambda x: array(x, jnp.float16), _zoo(space, 2))
    assert {x.dtype for x in _fit(space, zoo).means} == {jnp.dtype("float32")}


def test_errors():
    space = MLP
    with pytest.raises(ValueError, match="leading axis"):
        Standardize.fit(space, draw_features(space, 2, 0))
    layer = _fit(space, _zoo(space, 2))
    with pytest.raises(ValueError, match="'b0'"):
        layer(draw_features(space, 3, 0), key=jr.key(0))
