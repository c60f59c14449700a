"""Averages over the last part of a run."""

import jax.numpy as jnp
import numpy as np

from applications.search import averaged


def _averages(part: float, told: np.ndarray) -> np.ndarray:
    found, average = [], jnp.zeros(told.shape[1])
    for t, row in enumerate(told):
        average = averaged(average, jnp.array(row), part=part, iteration=jnp.int32(t))
        found.append(np.asarray(average))
    return np.array(found)


def test_an_average_by_hand():
    told = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 6.0], [-4.0, 1.0]], np.float32)
    # With all of the iterations it is the plain mean.
    expected = np.cumsum(told, axis=0) / np.arange(1, 5)[:, None]
    np.testing.assert_allclose(_averages(1.0, told), expected, rtol=1e-6)
    # With half of them the newest of three counts 1 / (1 + 0.5 * 2).
    second = told[0] + (told[1] - told[0]) / 1.5
    expected = (second + told[2]) / 2
    np.testing.assert_allclose(_averages(0.5, told)[2], expected, rtol=1e-6)
    # Without an average it is the newest.
    np.testing.assert_array_equal(_averages(0.0, told), told)


def test_what_is_no_number_is_the_newest():
    before = {"weights": jnp.zeros(2), "count": jnp.int32(3)}
    now = {"weights": jnp.ones(2), "count": jnp.int32(5)}
    found = averaged(before, now, part=1.0, iteration=jnp.int32(1))
    assert int(found["count"]) == 5
    np.testing.assert_allclose(found["weights"], 0.5)
