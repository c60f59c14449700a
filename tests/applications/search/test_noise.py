"""Perturbations of weights: their law, their units, and how wide they are."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.policies import FlatView, MLPPolicy, RunningStatistics
from applications.rollout import Episode
from applications.search import (
    adapt_noise_factor,
    draw_noise,
    noise_deviation,
    noise_units,
)


@pytest.mark.parametrize("law", ["uniform", "gaussian"])
def test_noise_of_a_row_does_not_depend_on_the_others(law):
    few = draw_noise(law, 3, 50, key=jr.key(0))
    many = draw_noise(law, 8, 50, key=jr.key(0))
    np.testing.assert_array_equal(few, many[:3])
    assert len(np.unique(many)) == many.size
    assert (np.abs(many) <= 1).all() == (law == "uniform")


def test_deviation_of_the_noise():
    # The variance of a uniform number on [-1, 1] is 1/3.
    np.testing.assert_allclose(noise_deviation("uniform") ** 2, 1 / 3)
    assert noise_deviation("gaussian") == 1


def test_units_of_the_noise():
    policy = MLPPolicy(make("lqr"), (), key=jr.key(0))
    policy = FlatView(policy).to_policy(jnp.array([3.0, 4.0]))
    units = lambda shape: np.ravel(
        [leaf.ravel() for leaf in jax.tree.leaves(noise_units(policy, shape))]
    )
    np.testing.assert_array_equal(units("common"), [1, 1])
    # Mean square 1: 3 and 4, divided by the root of 25 / 2.
    expected = np.array([3, 4]) / np.sqrt(12.5)
    np.testing.assert_allclose(units("weight"), expected, rtol=1e-6)
    np.testing.assert_allclose(units("array"), expected, rtol=1e-6)
    zero = jax.tree.map(jnp.zeros_like, policy)
    np.testing.assert_array_equal(noise_units(zero, "weight").layers[0].bias, [1])


@pytest.mark.parametrize(
    "own, better",
    # Of candidates with returns 0 to 3, and one that broke.
    [(1.5, 0.5), (2.5, 0.25), (5.0, 0.0), (-1.0, 1.0)],
)
def test_noise_widens_while_more_than_a_fifth_do_better(own, better):
    tried = _episodes([0.0, 1.0, 2.0, 3.0, 99.0], [True] * 4 + [False])
    watched = _episodes([own])
    factor = adapt_noise_factor(jnp.asarray(2.0), tried, watched)
    np.testing.assert_allclose(factor, 2 * np.exp(0.2 * (better - 0.2)), rtol=1e-5)
    # It stays where all are alike, and within bounds.
    alike = _episodes([1.0] * 5), _episodes([1.0])
    assert adapt_noise_factor(jnp.asarray(2.0), *alike) == 2
    assert adapt_noise_factor(jnp.asarray(1e9), tried, watched) == 10


def _episodes(returns, valid=None) -> Episode:
    returns = jnp.asarray(returns)[:, None]
    there = jnp.ones(len(returns), bool) if valid is None else jnp.asarray(valid)
    count = jnp.ones_like(returns)
    one = jnp.ones((*returns.shape, 1))
    statistics = RunningStatistics(count, one, one)
    length = jnp.ones(returns.shape, jnp.int32)
    there = there[:, None]
    return Episode(returns, length, there, one, statistics, ~there)
