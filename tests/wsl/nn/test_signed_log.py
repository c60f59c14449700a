"""Signed logarithms of features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.helpers import array
from wsl.nn import SignedLog


def test_by_hand():
    features = {"w": jnp.array([[0.0, 1.0], [-3.0, 1500.0]])}
    expected = [[0, np.log(2)], [-np.log(4), np.log(1501)]]
    np.testing.assert_allclose(SignedLog()(features)["w"], expected, rtol=1e-6)
    expected = [[0, np.log(3)], [-np.log(7), np.log(3001)]]
    np.testing.assert_allclose(SignedLog(0.5)(features)["w"], expected, rtol=1e-6)


def test_odd_and_of_the_dtype_given():
    x = array(np.random.default_rng(0).standard_normal(100), jnp.bfloat16)
    log = SignedLog(0.1)
    np.testing.assert_array_equal(log(-x), -log(x))
    assert log(x).dtype == jnp.bfloat16


def test_the_slope_is_right_at_zero_too():
    # d/dx log(1 + |x| / s) sign(x) = 1 / (s + |x|).
    x = jnp.array([-3.0, -0.5, -0.0, 0.0, 2.0])
    found = jax.vmap(jax.grad(SignedLog(0.25)))(x)
    np.testing.assert_allclose(found, 1 / (0.25 + np.abs(x)), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scale_is_positive(scale):
    with pytest.raises(ValueError, match="`scale` must be positive; got"):
        SignedLog(scale)
