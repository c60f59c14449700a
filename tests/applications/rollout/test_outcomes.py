"""Outcomes on every engine, by hand or from observations that were written down."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import (
    AbstractOutcome,
    AbstractTask,
    Continuous,
    make,
    OutcomeTask,
    Signal,
    TaskFacts,
    with_outcome,
)
from applications.policies import FlatView, MLPPolicy
from applications.rollout import (
    compile_rollout,
    engine_for,
    EpisodeTally,
    RolloutOptions,
)
from applications.rollout._host_engine import HostEngine
from applications.rollout.vector import to_vector


class _Glide(AbstractTask):
    """The action is the speed, and its square the reward. It ends from 3 on.

    With a speed of exactly 2.5 the reward is not a number.
    """

    observation_size: ClassVar[int] = 2
    action_space: ClassVar[Continuous] = Continuous((-9.0,), (9.0,))
    facts: ClassVar[TaskFacts] = TaskFacts(None, (Signal("speed", 1, 0.0, 1.0),), 0.5)
    horizon: int = eqx.field(static=True, default=4)

    def reset(self, *, key):
        return jnp.array([0.0, 7.0])

    def observe(self, state):
        return state

    def step(self, state, action):
        place, speed = state[0] + 0.5 * action[0], action[0]
        reward = jnp.where(speed == 2.5, jnp.nan, speed**2)
        return jnp.stack([place, speed]), reward, place >= 3


class _Line(eqx.Module):
    """A policy whose action is its first weight, and grows by the other with place."""

    weights: jax.Array

    def __call__(self, observation, *, key):
        return self.weights[:1] + self.weights[1:] * observation[:1]


# Speeds: 1 four times; 2 three times, and there; 1, 1.5, 2.25, 3.375: it ends at 4.06;
# not a number at once.
_WEIGHTS = jnp.array([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [2.5, 0.0]])
_EXPECTED = {
    "reward": [4.0, 12.0, 1 + 2.25 + 2.25**2 + 3.375**2, 0.0],
    "final-x": [2.0, 3.0, 0.5 * (1 + 1.5 + 2.25 + 3.375), 0.0],
    # The window is one step.
    "max-speed": [1.0, 2.0, 3.375, 0.0],
    # Beyond 1.9: after 4, 2 and 3 of 4 steps.
    "sparse-goal": [0.5, 0.75, 0.625, 0.0],
}


def _glide(outcome):
    goal = 1.9 if outcome == "sparse-goal" else None
    return with_outcome(_Glide(), outcome, goal=goal)


@pytest.mark.parametrize("outcome", _EXPECTED)
def test_episodes_by_hand(outcome):
    run = compile_rollout(_glide(outcome), _Line, episodes=1)
    episodes = run(_WEIGHTS, key=jr.key(0))
    np.testing.assert_allclose(
        episodes.total_reward[:, 0], _EXPECTED[outcome], rtol=1e-6
    )
    np.testing.assert_array_equal(episodes.length[:, 0], [4, 3, 4, 1])
    np.testing.assert_array_equal(episodes.valid[:, 0], [True, True, True, False])


class _Glides:
    """The same task in NumPy, one row an environment: for the engine in Python."""

    def __init__(self, task, size):
        self.place = np.zeros(size, np.float32)

    def reset(self, rows, seeds):
        self.place[rows] = 0
        return np.stack([self.place[rows], np.full(len(rows), 7.0)], 1, dtype="f4")

    def step(self, rows, actions):
        speed = actions[:, 0]
        self.place[rows] += 0.5 * speed
        seen = np.stack([self.place[rows], speed], axis=1)
        reward = np.where(speed == 2.5, np.nan, speed**2).astype(np.float32)
        ended = self.place[rows] >= 3
        return seen, reward, ended, np.zeros_like(ended)

    def close(self):
        pass


class _Seeded(_Glide):
    def seed(self, *, key):
        return jr.bits(key, dtype=jnp.uint32)


def _unroll_of(engine, steps):
    unroll = engine.compile_unroll(_Line, steps=steps)
    state = unroll.init(4, key=jr.key(0))
    return unroll(_WEIGHTS, jnp.arange(4), state)[0]


@pytest.mark.parametrize(
    "kind", ["jax", pytest.param("python", marks=pytest.mark.nightly)]
)
def test_transitions_have_it_at_the_end(kind):
    outcome = getattr(_glide("final-x"), "outcome")  # noqa: B009
    if kind == "jax":
        engine = engine_for(_glide("final-x"))
    else:
        engine = HostEngine(_Seeded(), outcome=outcome, simulations=_Glides)
        episodes = engine.compile_rollout(_Line, RolloutOptions())(
            _WEIGHTS, key=jr.key(0)
        )
        expected = _EXPECTED["final-x"]
        np.testing.assert_allclose(episodes.total_reward[:, 0], expected, rtol=1e-6)
    unrolled = _unroll_of(engine, 7)
    rewards = np.asarray(unrolled.transitions.reward)
    # Episodes of 4, 3 and 4 steps; the last one breaks at every step.
    np.testing.assert_allclose(rewards[:, 0], [0, 0, 0, 2, 0, 0, 0])
    np.testing.assert_allclose(rewards[:, 1], [0, 0, 3, 0, 0, 3, 0])
    np.testing.assert_allclose(rewards[3, 2], 4.0625)
    np.testing.assert_array_equal(rewards[:, 3], 0)
    assert not np.any(unrolled.transitions.valid[:, 3])
    np.testing.assert_allclose(unrolled.finished.total_reward[:, 1], rewards[:, 1])
    # Control: the reward is there at every step.
    whole = _unroll_of(engine_for(_Glide()), 7)
    np.testing.assert_allclose(whole.transitions.reward[:, 0], 1.0)


def test_vector_environments_have_it_at_the_end():
    environments = to_vector(_glide("final-x"), 2)
    environments.reset(seed=0)
    found = []
    for _ in range(6):
        _, rewards, ended, cut, _ = environments.step(np.array([[1.0], [2.0]], "f4"))
        found.append(np.asarray(rewards) + 100 * (ended | cut))
    np.testing.assert_allclose(np.array(found)[:, 0], [0, 0, 0, 102, 0, 0])
    np.testing.assert_allclose(np.array(found)[:, 1], [0, 0, 103, 0, 0, 103])


@functools.cache
def _cheetah(horizon):
    """Policies on the C engine, and the speeds that a loop writes down."""
    task = make("half_cheetah", physics="mujoco", horizon=horizon)
    view = FlatView(MLPPolicy(task, (), key=jr.key(0)))
    random = np.random.default_rng(0)
    population = jnp.asarray(random.standard_normal((2, view.space.size)), jnp.float32)
    speeds = []
    for i, weights in enumerate(population):
        key = jr.split(jr.fold_in(jr.key(4), i), 1)[0]
        act = eqx.filter_jit(view.to_policy(weights))
        state, seen = task.reset(key=key), []
        for _ in range(horizon):
            state, _, _ = task.step(state, act(task.observe(state)))
            seen.append(float(task.observe(state)[8]))
        speeds.append(seen)
    return task, view, population, np.array(speeds)


def _by_numpy(outcome, speeds):
    if outcome == "final-x":
        return 0.05 * speeds.sum(axis=1)
    # Half a second is ten steps.
    padded = np.concatenate([np.zeros((len(speeds), 10)), speeds], axis=1)
    means = [padded[:, i : i + 10].mean(axis=1) for i in range(speeds.shape[1] + 1)]
    return np.max(means, axis=0)


@pytest.mark.parametrize(
    "outcome", ["final-x", pytest.param("max-speed", marks=pytest.mark.nightly)]
)
def test_c_engine_against_numpy(outcome):
    task, view, population, speeds = _cheetah(15)
    run = compile_rollout(
        with_outcome(task, outcome), view.to_policy, episodes=1, visits=4
    )
    found = run(population, key=jr.key(4)).total_reward[:, 0]
    expected = _by_numpy(outcome, speeds)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # Control: of the speeds one step before, it would be another.
    shifted = np.roll(speeds, 1, axis=1) * np.r_[0.0, np.ones(14)]
    assert np.abs(found - _by_numpy(outcome, shifted)).max() > 1e-2


@pytest.mark.nightly
def test_unroll_of_the_c_engine():
    task, view, population, _ = _cheetah(15)
    unroll = engine_for(with_outcome(task, "final-x")).compile_unroll(
        view.to_policy, steps=20
    )
    unrolled, _ = unroll(population, np.arange(2), unroll.init(2, key=jr.key(1)))
    seen = np.asarray(unrolled.transitions.next_observation)[..., 8]
    expected = np.zeros((20, 2))
    expected[14] = 0.05 * seen[:15].sum(axis=0)
    np.testing.assert_allclose(unrolled.transitions.reward, expected, rtol=1e-5)
    assert np.abs(expected[14]).min() > 1e-3


class _Sum(AbstractOutcome):
    """The reward, as an outcome."""

    def start(self, observation):
        return jnp.zeros(())

    def step(self, accumulated, observation, reward):
        return accumulated + reward

    def value(self, accumulated):
        return accumulated


@pytest.mark.parametrize(
    "engine", ["jax", pytest.param("c", marks=pytest.mark.nightly)]
)
def test_the_reward_costs_nothing_and_is_the_same(engine):
    task, to_policy, population = _Glide(), _Line, _WEIGHTS
    if engine == "c":
        task, view, population, _ = _cheetah(15)
        to_policy = view.to_policy
    assert with_outcome(task, "reward") is task
    observation = jnp.zeros(2)
    plain = EpisodeTally.start(observation, 4)
    more = EpisodeTally.start(observation, 4, _Sum())
    assert len(jax.tree.leaves(plain)) == 8 and len(jax.tree.leaves(more)) == 9
    # The sum as an outcome has the same bits.
    summed = OutcomeTask(task, _Sum(), "sum")
    one, other = (
        compile_rollout(x, to_policy, episodes=1)(population, key=jr.key(0))
        for x in (task, summed)
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, one, other))


@pytest.mark.nightly
def test_an_environment_starts_anew():
    """The next episode owes nothing to the one before it."""
    unrolled = _unroll_of(engine_for(_glide("max-speed")), 8)
    ends = np.asarray(unrolled.transitions.reward)[[3, 7], 0]
    np.testing.assert_array_equal(ends, [1.0, 1.0])


def test_actions_are_rounded_on_the_way_to_the_task():
    task = _Glide(horizon=9)
    random = np.random.default_rng(0).standard_normal((3, 3))
    for levels in (None, 3):
        view = FlatView(MLPPolicy(task, (), levels=levels, key=jr.key(1)))
        unroll = engine_for(task).compile_unroll(view.to_policy, steps=4)
        weights = jnp.asarray(random, jnp.float32)
        unrolled, _ = unroll(weights, jnp.arange(3), unroll.init(3, key=jr.key(0)))
        actions = np.asarray(unrolled.transitions.action)
        assert np.isin(actions, [-9.0, 0.0, 9.0]).all() == (levels == 3)
        # The task took them: they are the speeds that it shows.
        seen = np.asarray(unrolled.transitions.next_observation)[..., 1]
        np.testing.assert_array_equal(seen, actions[..., 0])
        # What critics read keeps its slope.
        slope = jax.jacrev(functools.partial(_answer, view))(weights[0])
        assert np.abs(slope).max() > 1e-3


def _answer(view, weights):
    return view.to_policy(weights)(jnp.ones(2))
