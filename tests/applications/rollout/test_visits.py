"""Observations that rollouts hand back, and start states that policies share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.policies import FlatView, MLPPolicy
from applications.rollout import compile_rollout
from applications.rollout.visits import visit_times


def test_times_by_hand():
    # A quarter of the horizon apart; the second episode begins 0.618 of that later.
    times = visit_times(jnp.arange(2), 4, 100)
    np.testing.assert_array_equal(times[0], [0, 25, 50, 75])
    np.testing.assert_array_equal(times[1], [15, 40, 65, 90])
    # More visits than steps: one of each step, and some that never come.
    np.testing.assert_array_equal(visit_times(jnp.arange(1), 4, 3)[0], [0, 1, 2, 3])


def test_every_step_is_as_likely():
    counts = np.bincount(np.ravel(visit_times(jnp.arange(1000), 5, 100)), minlength=100)
    assert counts.sum() == 5000 and len(counts) == 100
    assert counts.min() >= 45 and counts.max() <= 55


def _rollout(name, count=5, **options):
    physics: Any = {"physics": "mujoco"} if name == "inverted_pendulum" else {}
    task = make(name, horizon=12, **physics)
    view = FlatView(MLPPolicy(task, (), key=jr.key(0)))
    # Policies that fall at different times.
    population = 3 * jr.normal(jr.key(1), (count, view.space.size))
    run = compile_rollout(task, view.to_policy, episodes=2, **options)
    return run(population, key=jr.key(2))


@pytest.mark.parametrize("task", ["cartpole", "inverted_pendulum"])
def test_all_visits_are_all_observations(task):
    """The mean over the visits is that of the statistics, which every step enters."""
    episodes = _rollout(task, visits=12)
    visits = episodes.visits
    assert visits is not None and visits.observation.shape[:3] == (5, 2, 12)
    assert (np.asarray(episodes.length) < 12).any()
    np.testing.assert_array_equal(visits.there.sum(axis=2), episodes.length)
    mean = np.mean(visits.observation, axis=2, where=visits.there[..., None])
    np.testing.assert_allclose(mean, episodes.observations.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(visits.observation[:, :, 0], episodes.start)
    # Negative control: without the start, the mean is another one.
    rest = np.mean(
        visits.observation[:, :, 1:], axis=2, where=visits.there[:, :, 1:, None]
    )
    assert np.abs(rest - episodes.observations.mean).max() > 1e-2


@pytest.mark.parametrize("task", ["cartpole", "inverted_pendulum"])
def test_visits_change_nothing_else_and_do_not_depend_on_chunks(task):
    few, chunked = _rollout(task, visits=3), _rollout(task, visits=3, chunk=2)
    assert eqx.tree_equal(few.visits, chunked.visits, rtol=1e-4, atol=1e-5)
    none = _rollout(task)
    assert none.visits is None
    np.testing.assert_array_equal(none.total_reward, few.total_reward)


@pytest.mark.parametrize("task", ["cartpole", "inverted_pendulum"])
def test_common_starts(task):
    common = np.asarray(_rollout(task, common_starts=True).start)
    np.testing.assert_array_equal(common, np.broadcast_to(common[:1], common.shape))
    assert (common[0, 0] != common[0, 1]).any()
    own = np.asarray(_rollout(task).start)
    assert all((own[0] != other).any() for other in own[1:])


def test_what_is_not_finite_is_not_handed_back():
    task = make("lqr", horizon=40)
    view = FlatView(MLPPolicy(task, (), key=jr.key(0)))
    run = compile_rollout(task, view.to_policy, episodes=1, visits=40)
    episodes = run(jnp.full((1, view.space.size), jnp.nan), key=jr.key(0))
    assert not episodes.valid.any()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(episodes.visits))
    assert episodes.visits is not None and not episodes.visits.there.any()
