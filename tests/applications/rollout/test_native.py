"""Populations on the C engine, against a loop over one episode at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make
from applications.envs.native import NativeTask
from applications.policies import FlatView, MLPPolicy, RunningStatistics
from applications.rollout import evaluate, RolloutOptions
from applications.rollout.native import NativeEngine, NativeRollout
from applications.rollout.native._blocks import block_size
from applications.rollout.transitions import episode_key


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
    run = NativeRollout(task, view.to_policy, RolloutOptions(episodes=2))
    found = run(population, key=key)
    assert found.total_reward.shape == (3, 2) and found.valid.all()
    for i, weights in enumerate(population):
        for j, one in enumerate(jax.random.split(jax.random.fold_in(key, i), 2)):
            total, length = _by_hand(task, view.to_policy(weights), one)
            np.testing.assert_allclose(found.total_reward[i, j], total, rtol=1e-3)
            assert found.length[i, j] == length
            start = task.observe(task.reset(key=one))
            np.testing.assert_allclose(found.start[i, j], start, atol=1e-6)
    # Control: other policies, other returns.
    other = run(population[::-1], key=key)
    assert np.abs(other.total_reward[0] - found.total_reward[0]).max() > 1e-2
    lengths = {int(length) for length in found.length.ravel()}
    assert lengths == {horizon} if name == "reacher" else len(lengths) > 1


@pytest.mark.nightly
def test_threads_and_neighbours_make_no_difference():
    task = _task("hopper", horizon=200)
    view, population = _population(task, 70)
    key = jax.random.key(0)

    alone = NativeRollout(task, view.to_policy, RolloutOptions(chunk=20), threads=1)
    whole = alone(population, key=key)
    several = NativeRollout(task, view.to_policy, RolloutOptions(chunk=20), threads=3)
    threaded = several(population, key=key)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, threaded))
    # Lengths so different that blocks shrink on the way.
    assert whole.length.min() < 20 and whole.length.max() > 2 * whole.length.min()
    # Another size of blocks: XLA may round otherwise, which contacts magnify.
    smaller = NativeRollout(task, view.to_policy, RolloutOptions(chunk=7), threads=1)
    other = smaller(population, key=key)
    same = np.isclose(other.total_reward, whole.total_reward, rtol=1e-3)
    assert same.mean() > 0.7
    # The neighbours of a policy may be any; the first ones have the same starts.
    changed = alone(population.at[1:20].set(0.1), key=key)
    same = np.isclose(changed.total_reward, whole.total_reward, rtol=1e-3)[:, 0]
    assert same[20:].all() and not same[1:20].any()


def test_threads_have_equally_many_episodes():
    # No more than 512 in a block: 2 threads, 2 rounds. Asked for 8 of 18: 8, 8, 2.
    sizes = [block_size(18, 2), block_size(1100, 2), block_size(18, 2, 8)]
    assert sizes == [9, 275, 8]
    # No thread has nothing to do, even if larger blocks were asked for.
    assert block_size(18, 2, 16) == 9


def _steps_by_hand(task, policy, key, environment, steps):
    """Observation, reward, next observation, terminated, truncated of each step."""
    act = eqx.filter_jit(policy)
    found, episode, length = [], 0, 0
    reset = lambda: task.reset(
        key=episode_key(key, jnp.int32(environment), jnp.int32(episode))
    )
    state = reset()
    for _ in range(steps):
        seen = task.observe(state)
        state, reward, terminated = task.step(state, act(seen))
        length += 1
        truncated = length == task.horizon and not terminated
        after = task.observe(state)
        found.append((seen, reward, after, bool(terminated), truncated))
        if terminated or truncated:
            episode, length = episode + 1, 0
            state = reset()
    return [np.stack(x) for x in zip(*found, strict=True)]


# With what MuJoCo derives, and without.
@pytest.mark.parametrize("name", ["inverted_pendulum", "reacher"])
def test_an_unroll_equals_a_loop(name):
    task = _task(name, horizon=6)
    view, population = _population(task, 2, scale=4.0)
    rows, key = np.array([0, 1, 1]), jax.random.key(3)
    engine = NativeEngine(task, threads=2)
    # Two calls: where environments stand is carried on.
    unroll = engine.compile_unroll(view.to_policy, steps=5)
    calls, state, unrolled = [], unroll.init(3, key=key), None
    for _ in range(2):
        unrolled, state = unroll(population, rows, state)
        calls.append((unrolled.transitions, unrolled.finished))
    steps, finished = jax.tree.map(lambda *x: np.concatenate(x), *calls)
    for i, row in enumerate(rows):
        policy = view.to_policy(population[row])
        seen, reward, after, terminated, truncated = _steps_by_hand(
            task, policy, key, i, 10
        )
        np.testing.assert_allclose(steps.observation[:, i], seen, atol=1e-4)
        np.testing.assert_allclose(steps.reward[:, i], reward, rtol=1e-4)
        np.testing.assert_allclose(steps.next_observation[:, i], after, atol=1e-4)
        np.testing.assert_array_equal(steps.terminated[:, i], terminated)
        np.testing.assert_array_equal(steps.truncated[:, i], truncated)
        ended = terminated | truncated
        np.testing.assert_array_equal(finished.ended[:, i], ended)
        total, first = reward[: ended.argmax() + 1].sum(), ended.argmax()
        np.testing.assert_allclose(finished.total_reward[first, i], total, rtol=1e-4)
        # Statistics are of the last call.
        assert unrolled is not None
        mean = unrolled.observations.mean[i]
        np.testing.assert_allclose(mean, seen[5:].mean(0), atol=1e-4)
    # Both kinds of end are there; a reacher never terminates.
    assert steps.truncated.any() and steps.terminated.any() == (name != "reacher")
    # Control: an environment has starts of its own, with the same policy.
    assert not np.allclose(steps.observation[0, 1], steps.observation[0, 2])


def test_what_is_not_finite_ends_an_unrolls_episode():
    task = _task("inverted_pendulum", horizon=50)
    view, population = _population(task, 2)
    unroll = NativeEngine(task, threads=1).compile_unroll(view.to_policy, steps=2)
    state = unroll.init(2, key=jax.random.key(0))
    spoilt, state = unroll(population.at[1].set(jnp.nan), np.arange(2), state)
    steps = spoilt.transitions
    np.testing.assert_array_equal(steps.valid, [[True, False], [True, False]])
    assert not steps.terminated.any() and not steps.truncated.any()
    np.testing.assert_array_equal(spoilt.finished.ended, [[False, True]] * 2)
    assert jax.tree.all(jax.tree.map(lambda x: np.isfinite(x).all(), steps))
    assert np.unique(steps.observation[:, 1, 0]).size == 2
    # With sound weights the environment goes on.
    sound, _ = unroll(population, np.arange(2), state)
    assert sound.transitions.valid.all()


def test_what_is_not_finite_ends_its_own_episode():
    task = _task("half_cheetah", horizon=12)
    view, population = _population(task, 5)
    key = jax.random.key(0)
    run = NativeRollout(task, view.to_policy, RolloutOptions(chunk=5), threads=1)
    sound = run(population, key=key)
    others = np.array([0, 1, 3, 4])
    kept = jax.tree.map(lambda leaf: leaf[others], sound.observations)
    for bad in (jnp.nan, jnp.inf):
        spoilt = run(population.at[2].set(bad), key=key)
        np.testing.assert_array_equal(spoilt.valid[:, 0], [1, 1, 0, 1, 1])
        assert spoilt.length[2, 0] == 1 and spoilt.total_reward[2, 0] == 0
        np.testing.assert_array_equal(
            spoilt.total_reward[others], sound.total_reward[others]
        )
        # Nothing of it is in the statistics of all, and all of the others is.
        empty = RunningStatistics.empty(task.observation_size)
        joined = empty.join(spoilt.observations)
        assert eqx.tree_equal(joined, empty.join(kept))
        assert not eqx.tree_equal(joined, empty.join(sound.observations))  # control


def test_evaluate():
    task = _task("inverted_pendulum", horizon=30)
    policy = MLPPolicy(task, (4,), key=jax.random.key(1))
    episodes = evaluate(task, policy, 7, key=jax.random.key(0))
    assert episodes.length.shape == (7,) and episodes.start.shape == (7, 4)
    assert len(np.unique(episodes.start[:, 0])) == 7
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 7)
    assert [_by_hand(task, policy, key)[1] for key in keys] == episodes.length.tolist()


def test_numbers_are_positive():
    task = _task("swimmer")
    view, _ = _population(task, 1)
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        NativeRollout(task, view.to_policy, threads=0)
    with pytest.raises(ValueError, match="episodes is 0; it must be at least 1"):
        RolloutOptions(episodes=0)
    with pytest.raises(ValueError, match="chunk is 0; it must be at least 1"):
        RolloutOptions(chunk=0)
    with pytest.raises(ValueError, match="visits is -1; it must be at least 0"):
        RolloutOptions(visits=-1)
