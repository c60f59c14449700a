"""Populations on the C engine, against a loop over one episode at a time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco.batch import Batch

from applications.envs import make
from applications.envs.native import NativeTask
from applications.policies import FlatView, MLPPolicy
from applications.rollout import evaluate, rollout
from applications.rollout.native import NativeRollout


def _task(name, **options):
    task = make(name, physics="mujoco", **options)
    assert isinstance(task, NativeTask)
    return task


def _population(task, count, *, scale=1.0, seed=0):
    view = FlatView(MLPPolicy(task, (4,), key=jax.random.key(0)))
    random = np.random.default_rng(seed)
    weights = scale * random.standard_normal((count, view.space.size))
    return view, jnp.asarray(weights, jnp.float32)


def _by_hand(task, policy, key):
    act = eqx.filter_jit(policy)
    state = task.reset(key=key)
    total, length, ended = 0.0, 0, False
    while not ended and length < task.horizon:
        action = task.action_space.select(act(task.observe(state)))
        state, reward, terminated = task.step(state, action)
        total, length, ended = total + float(reward), length + 1, bool(terminated)
    return total, length


# Contacts of four legs magnify the last bit within few steps.
@pytest.mark.parametrize(
    ("name", "horizon"), [("hopper", 60), ("reacher", 50), ("ant_v5", 10)]
)
def test_episodes_equal_a_loop(name, horizon):
    task = _task(name, horizon=horizon)
    view, population = _population(task, 3)
    key = jax.random.key(4)
    found = NativeRollout(task, view.to_policy, episodes=2)(population, key=key)
    assert found.total_reward.shape == (3, 2) and found.valid.all()
    for i, weights in enumerate(population):
        for j, one in enumerate(jax.random.split(jax.random.fold_in(key, i), 2)):
            total, length = _by_hand(task, view.to_policy(weights), one)
            np.testing.assert_allclose(found.total_reward[i, j], total, rtol=1e-3)
            assert found.length[i, j] == length
            start = task.observe(task.reset(key=one))
            np.testing.assert_allclose(found.start[i, j], start, atol=1e-6)
    # Control: other policies, other returns.
    other = NativeRollout(task, view.to_policy)(population[::-1], key=key)
    assert np.abs(other.total_reward[0] - found.total_reward[0]).max() > 1e-2
    lengths = {int(length) for length in found.length.ravel()}
    assert lengths == {horizon} if name == "reacher" else len(lengths) > 1


def test_threads_and_neighbours_make_no_difference():
    task = _task("hopper", horizon=200)
    view, population = _population(task, 70)
    key = jax.random.key(0)

    def run(weights, **options):
        return NativeRollout(task, view.to_policy, **options)(weights, key=key)

    whole = run(population, threads=1, block=20)
    threaded = run(population, threads=3, block=20)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, threaded))
    # Lengths so different that blocks shrink on the way.
    assert whole.length.min() < 20 and whole.length.max() > 2 * whole.length.min()
    # Other sizes of blocks: XLA may round otherwise, which contacts magnify.
    for block in (7, 70):
        other = run(population, threads=1, block=block)
        same = np.isclose(other.total_reward, whole.total_reward, rtol=1e-3)
        assert same.mean() > 0.7
    # The neighbours of a policy may be any; the first ones have the same starts.
    changed = run(population.at[1:20].set(0.1), threads=1, block=20)
    same = np.isclose(changed.total_reward, whole.total_reward, rtol=1e-3)[:, 0]
    assert same[20:].all() and not same[1:20].any()


def test_threads_have_equally_many_episodes(monkeypatch):
    sizes = []

    def record(model, size, threads):
        sizes.append(size)
        return Batch(model, size, threads)

    monkeypatch.setattr("applications.rollout.native.Batch", record)
    monkeypatch.setattr("applications.rollout.native._BLOCK", 8)
    task = _task("inverted_pendulum", horizon=2)
    view, population = _population(task, 18)
    key = jax.random.key(0)
    evenly = NativeRollout(task, view.to_policy, threads=2)(population, key=key)
    assert sizes == [5, 5, 5, 5]
    sizes.clear()
    asked = NativeRollout(task, view.to_policy, threads=2, block=8)
    np.testing.assert_array_equal(asked(population, key=key).length, evenly.length)
    assert sizes == [8, 8, 8]


def test_starts_are_those_of_the_other_engine():
    options: Any = {"integrator": "euler", "horizon": 5}
    native = _task("inverted_pendulum", **options)
    pure = make("inverted_pendulum", physics="mjx", **options)
    view, population = _population(native, 3)
    key = jax.random.key(2)
    mine = NativeRollout(native, view.to_policy, episodes=2)(population, key=key)
    theirs = eqx.filter_jit(rollout)(
        pure, view.to_policy, population, episodes=2, key=key
    )
    np.testing.assert_array_equal(mine.start, theirs.start)
    np.testing.assert_allclose(mine.total_reward, theirs.total_reward, rtol=1e-4)
    np.testing.assert_array_equal(mine.length, theirs.length)


def test_what_is_not_finite_ends_its_own_episode():
    task = _task("half_cheetah", horizon=12)
    view, population = _population(task, 5)
    key = jax.random.key(0)
    run = NativeRollout(task, view.to_policy, block=5, threads=1)
    sound = run(population, key=key)
    for bad in (jnp.nan, jnp.inf):
        spoilt = run(population.at[2].set(bad), key=key)
        np.testing.assert_array_equal(spoilt.valid[:, 0], [1, 1, 0, 1, 1])
        assert spoilt.length[2, 0] == 1 and spoilt.total_reward[2, 0] == 0
        others = np.array([0, 1, 3, 4])
        np.testing.assert_array_equal(
            spoilt.total_reward[others], sound.total_reward[others]
        )


def test_evaluate():
    task = _task("inverted_pendulum", horizon=30)
    policy = MLPPolicy(task, (4,), key=jax.random.key(1))
    episodes = evaluate(task, policy, 7, key=jax.random.key(0))
    assert episodes.length.shape == (7,) and episodes.start.shape == (7, 4)
    assert len(np.unique(episodes.start[:, 0])) == 7
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 7)
    assert [_by_hand(task, policy, key)[1] for key in keys] == episodes.length.tolist()


@pytest.mark.parametrize("name", ["episodes", "block", "threads"])
def test_numbers_are_positive(name):
    task = _task("swimmer")
    view, _ = _population(task, 1)
    numbers: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        NativeRollout(task, view.to_policy, **numbers)
