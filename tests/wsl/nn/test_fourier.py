"""`GaussianFourierFeatures`."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    draw_features,
    SMALL,
    SPACES,
)
from wsl.nn import GaussianFourierFeatures


def test_against_numpy():
    layer = GaussianFourierFeatures(2, 5, key=jr.key(0))
    x = np.random.default_rng(0).standard_normal((3, 4, 2))
    result = np.asarray(call(layer, {"a": array(x)})["a"])
    assert result.shape == (3, 4, 10) == (3, 4, layer.out_channels)
    frequencies = np.asarray(layer.frequencies)
    for i, j in np.ndindex(3, 4):
        for f in range(5):
            phase = 2 * np.pi * np.dot(frequencies[f], x[i, j])
            np.testing.assert_allclose(result[i, j, f], np.cos(phase), atol=1e-4)
            np.testing.assert_allclose(result[i, j, f + 5], np.sin(phase), atol=1e-4)


def test_frequencies_have_the_scale_and_are_not_trained():
    layer = GaussianFourierFeatures(1, 10_000, key=jr.key(0))
    # Deviation 3, with one of 3 / sqrt(20,000) = 0.02.
    np.testing.assert_allclose(np.std(layer.frequencies), 3, atol=0.1)
    np.testing.assert_allclose(np.mean(layer.frequencies), 0, atol=0.1)
    small = GaussianFourierFeatures(1, 4, key=jr.key(0))
    total = eqx.filter_grad(lambda both: both[0]({"a": both[1]})["a"].sum())
    gradient, at = eqx.filter_jit(total)((small, array(np.ones((3, 1)))))
    np.testing.assert_array_equal(gradient.frequencies, 0)
    assert np.abs(at).min() > 0


@pytest.mark.parametrize("name", ["recurrent", "nested"])
def test_commutes(name):
    space = SPACES[name]
    layer = GaussianFourierFeatures(2, 3, key=jr.key(0))
    assert_commutes(layer, space, draw_features(space, 2, 0))


def test_health():
    layer = GaussianFourierFeatures(2, 3, 0.1, key=jr.key(0))
    assert_healthy(layer, SMALL, 2)


def test_errors():
    with pytest.raises(ValueError, match="positive"):
        GaussianFourierFeatures(1, 0, key=jr.key(0))
    layer = GaussianFourierFeatures(2, 3, key=jr.key(0))
    with pytest.raises(ValueError, match="2 channels"):
        layer({"a": jnp.ones((3, 1))})
