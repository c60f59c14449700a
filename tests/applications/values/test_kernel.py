"""The Gaussian process against its formulas in NumPy, and against leaving one out."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from applications.values import fit_kernel, KernelValue
from wsl.encoders import Flat


_ENCODER = Flat(wsl.WeightSpace.from_spec({"w": jnp.zeros(3)}))
_POINTS = np.asarray(jr.normal(jr.key(0), (12, 3)), np.float64)
_TARGETS = np.sin(2 * _POINTS[:, 0]) + 0.1 * _POINTS[:, 1]
_NEW = {"w": jnp.array([0.3, -0.2, 0.5])}


def _gram(a, b, length):
    return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * length**2))


def _fit(points=_POINTS, targets=_TARGETS, where=None, **options):
    where = np.ones(len(points), bool) if where is None else where
    given = {"scale": 1.0, "noise": 0.5} | options
    spread = given.pop("spread", 1.5)
    points, targets = (jnp.asarray(x, jnp.float32) for x in (points, targets))
    where, spread = jnp.asarray(where), jnp.asarray(spread)
    return fit_kernel(_ENCODER, points, targets, where, spread, **given)


def test_posterior_by_its_formulas():
    value, _ = _fit()
    gram = _gram(_POINTS, _POINTS, 1.5) + 0.5 * np.eye(12)
    across = _gram(np.asarray(_NEW["w"])[None], _POINTS, 1.5)[0]
    mean = across @ np.linalg.solve(gram, _TARGETS)
    variance = 1 - across @ np.linalg.solve(gram, across)
    np.testing.assert_allclose(value(_NEW), mean, rtol=1e-4)
    np.testing.assert_allclose(value.deviation(_NEW), np.sqrt(variance), rtol=1e-4)


def test_far_away_it_knows_nothing():
    value, _ = _fit()
    far = {"w": jnp.full(3, 50.0)}
    np.testing.assert_allclose(value(far), 0, atol=1e-6)
    np.testing.assert_allclose(value.deviation(far), 1, rtol=1e-6)
    empty = KernelValue.empty(_ENCODER, 4)
    assert empty(_NEW) == 0 and np.isclose(empty.deviation(_NEW), 1, atol=0.01)


def test_places_that_hold_nothing_do_not_count():
    there = np.arange(20) < 12
    filled = np.concatenate([_POINTS, np.zeros((8, 3))])
    targets = np.concatenate([_TARGETS, np.full(8, 100.0)])
    partly, error = _fit(filled, targets, there)
    whole, expected = _fit()
    np.testing.assert_allclose(partly(_NEW), whole(_NEW), rtol=1e-5)
    np.testing.assert_allclose(partly.deviation(_NEW), whole.deviation(_NEW), rtol=1e-5)
    np.testing.assert_allclose(error, expected, rtol=1e-4)
    # Negative control: they would matter.
    assert abs(_fit(filled, targets)[0](_NEW) - whole(_NEW)) > 0.1


def test_error_is_that_of_leaving_one_out():
    _, error = _fit()
    left_out = [
        _fit(where=np.arange(12) != i)[0]({"w": jnp.asarray(point, jnp.float32)})
        for i, point in enumerate(_POINTS)
    ]
    expected = np.mean((np.asarray(left_out) - _TARGETS) ** 2)
    np.testing.assert_allclose(error, expected, rtol=1e-3)


@pytest.mark.parametrize("noisy", [False, True])
def test_scale_and_noise_are_those_with_the_least_error(noisy):
    targets = np.asarray(jr.normal(jr.key(1), (12,))) if noisy else _TARGETS
    value, error = _fit(targets=targets, scale=None, noise=None)
    errors = {
        (scale, noise): _fit(targets=targets, scale=scale, noise=noise)[1].item()
        for scale in (0.5, 1.0, 2.0)
        for noise in (0.1, 0.5, 2.0)
    }
    best = min(errors, key=lambda choice: errors[choice])
    np.testing.assert_allclose(error, errors[best], rtol=1e-5)
    np.testing.assert_allclose([value.length / 1.5, value.noise], best, rtol=1e-6)
    # What is noise is told from what is not.
    assert (best[1] > 0.1) == noisy


def test_gradients_are_finite_at_a_point_that_it_knows():
    value, _ = _fit()
    at = jnp.asarray(_POINTS[0], jnp.float32)
    for function in (value, value.deviation):
        slope = jax.grad(lambda w, function=function: function({"w": w}))(at)
        assert np.isfinite(slope).all()
