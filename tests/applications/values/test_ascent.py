"""Trusted steps on functions whose steps are worked out."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from applications.values import trust_step


_SLOPE = jnp.array([3.0, 4.0, 0.0])
_WEIGHTS = jnp.array([1.0, 2.0, 3.0])
# What the policy does changes ten times as fast along the first weight.
_METRIC = jnp.array([10.0, 1.0, 1.0])


def _step(
    direction: Any = "raw", objective=None, mask=None, radius=0.5, limit=9.0, **options
):
    return np.asarray(
        trust_step(
            objective or (lambda weights: _SLOPE @ weights),
            lambda weights: _METRIC * weights,
            _WEIGHTS,
            jnp.ones(3) if mask is None else jnp.asarray(mask),
            direction=direction,
            radius=jnp.asarray(radius),
            limit=jnp.asarray(limit),
            noise_scale=jnp.asarray(0.1),
            **options,
        )
        - _WEIGHTS
    )


def test_along_the_gradient_until_answers_have_moved_by_the_radius():
    moved = _step()
    # |(30, 4) t| = 0.5.
    np.testing.assert_allclose(
        moved, np.array([3, 4, 0]) * 0.5 / np.hypot(30, 4), atol=2e-3
    )
    # Twelve bisections of a limit of 9.
    assert 0.45 < np.linalg.norm(_METRIC * moved) <= 0.5 + 1e-6


def test_the_limit_on_weights():
    # Root mean square of the change of three weights.
    moved = _step(radius=1e6, limit=0.3)
    np.testing.assert_allclose(np.sqrt(np.mean(moved**2)), 0.3, rtol=1e-3)
    # Of those that may change: one.
    moved = _step(radius=1e6, limit=0.3, mask=[0.0, 1.0, 0.0])
    np.testing.assert_allclose(moved, [0, 0.3, 0], rtol=1e-3)


def test_the_natural_gradient_asks_what_a_weight_does():
    natural, raw = _step("natural"), _step()
    # (JᵀJ)⁻¹ g = (3 / 100, 4), but for the damping: mostly the second weight.
    assert natural[1] > 10 * natural[0] > 0
    assert raw[1] < 2 * raw[0]
    assert natural @ np.asarray(_SLOPE) > raw @ np.asarray(_SLOPE)
    assert np.linalg.norm(_METRIC * natural) <= 0.501


def test_adam_takes_equal_steps_and_stops_inside():
    moved = _step("adam", radius=1e6, limit=1e6)
    # Twenty steps of a tenth of the noise, whatever the slope.
    np.testing.assert_allclose(moved, [0.2, 0.2, 0.0], rtol=1e-3)
    moved = _step("adam")
    assert 0.39 < np.linalg.norm(_METRIC * moved) <= 0.5 + 1e-6


@pytest.mark.parametrize("direction", ["raw", "adam", "natural"])
def test_it_goes_no_further_than_the_value_is_known(direction):
    known = lambda weights: weights[0] < 1.01
    moved = _step(direction, is_known=known)
    assert 0 <= moved[0] < 0.01 < _step(direction, radius=5.0)[0]


@pytest.mark.parametrize("direction", ["raw", "adam", "natural"])
@pytest.mark.parametrize("slope", [0.0, jnp.nan])
def test_without_a_slope_it_stays(direction, slope):
    moved = _step(direction, objective=lambda weights: slope * jnp.sum(weights))
    np.testing.assert_array_equal(moved, 0)
