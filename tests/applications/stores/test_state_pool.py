"""Observed states: which are kept, and which are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.rollout import Visits
from applications.stores import Archive, StatePool


def _visits(number, there):
    observation = jnp.full((2, 2, 3), float(number))
    return Visits(observation, jnp.asarray(there, bool).reshape(2, 2))


def test_only_what_was_seen_is_drawn():
    pool = StatePool.empty(4, 3, 3)
    np.testing.assert_array_equal(pool.sample(2, key=jax.random.key(0)), 0)
    pool = pool.add(_visits(1, [1, 0, 0, 0])).add(_visits(2, [1, 1, 1, 0]))
    drawn = np.asarray(pool.sample(4000, key=jax.random.key(0)))[:, 0]
    assert set(drawn) == {1, 2}
    # One of four; five standard deviations of a share are below 0.04.
    assert abs(np.mean(drawn == 1) - 0.25) < 0.04
    # The fourth batch takes the place of the first.
    pool = pool.add(_visits(3, [0] * 4)).add(_visits(4, [0, 1, 0, 0]))
    assert set(np.asarray(pool.sample(400, key=jax.random.key(1)))[:, 0]) == {2, 4}


@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_a_large_archive_draws_one_of_each_part(count, monkeypatch):
    """Above some size it does not shuffle; draws have the same law in what matters."""
    monkeypatch.setattr("applications.stores._archive._SHUFFLED", 0)
    archive = Archive.empty(jnp.zeros(2), 4)
    for first in (1, 3, 5):
        archive = archive.add(jnp.array([first, first + 1], jnp.float32))
    keys = jax.random.split(jax.random.key(0), 3000)
    drawn = np.asarray(jax.vmap(lambda key: archive.sample(count, key=key))(keys))
    assert set(drawn.ravel()) == {1, 2, 3, 4, 5, 6}
    distinct = [len(set(row)) for row in drawn[:200]]
    assert set(distinct) == {min(count, 6)}
    # Five standard deviations of a share are below 0.035.
    shares = np.bincount(drawn[:, 0].astype(int), minlength=7)[1:] / 3000
    np.testing.assert_allclose(shares, 1 / 6, atol=0.035)
