"""Unrolls of a task so small that every step can be worked out by hand."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import AbstractTask, Continuous
from applications.rollout import JAXEngine
from applications.rollout.transitions import episode_key


# All of them; tests see one unless they ask for more.
_DEVICES = tuple(jax.devices())


class _Walk(AbstractTask):
    """A point on a line: x becomes x + action, the reward is the new x.

    An episode ends once x reaches 3. With x at exactly 2.5 the reward is not a number.
    """

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-9.0,), (9.0,))
    horizon: int = eqx.field(static=True, default=4)
    random_start: bool = eqx.field(static=True, default=False)

    def reset(self, *, key):
        return jr.uniform(key, minval=-1.0) if self.random_start else jnp.zeros(())

    def observe(self, state):
        return state[None]

    def step(self, state, action):
        x = state + action[0]
        return x, jnp.where(x == 2.5, jnp.nan, x), x >= 3


class _Constant(eqx.Module):
    """A policy that ignores what it sees."""

    output: jax.Array

    def __call__(self, observation, *, key):
        return self.output


_MOVES = jnp.array([[1.0], [0.5], [2.5], [-1.0]])


@functools.cache
def _compiled(task, steps, devices):
    return JAXEngine(task, devices=devices).compile_unroll(_Constant, steps=steps)


def _unroll(task, *, steps, calls=1, rows=None, devices=None, seed=0, environments=4):
    unroll = _compiled(task, steps, devices)
    state = unroll.init(environments, key=jr.key(seed))
    found = []
    for call in range(calls):
        own = jnp.arange(environments) % 4 if rows is None else jnp.asarray(rows[call])
        unrolled, state = unroll(_MOVES, own, state)
        found.append(unrolled)
    return found, state


@pytest.fixture(scope="module")
def eight():
    """Eight steps of every move in one call."""
    (unrolled,), state = _unroll(_Walk(), steps=8)
    return unrolled, state


def test_steps_by_hand(eight):
    unrolled, _ = eight
    steps = unrolled.transitions
    np.testing.assert_array_equal(
        steps.observation[..., 0],
        np.array(
            [
                [0, 1, 2, 0, 1, 2, 0, 1],  # 3 is the end
                [0, 0.5, 1, 1.5, 0, 0.5, 1, 1.5],  # time is up
                [0, 0, 0, 0, 0, 0, 0, 0],  # breaks at once
                [0, -1, -2, -3, 0, -1, -2, -3],
            ]
        ).T,
    )
    # What a step reached, not what follows it.
    np.testing.assert_array_equal(
        steps.next_observation[..., 0],
        steps.observation[..., 0] + _MOVES[:, 0][None],
    )
    reward = np.where(steps.valid, steps.next_observation[..., 0], 0)
    np.testing.assert_array_equal(steps.reward, reward)
    np.testing.assert_array_equal(
        steps.action[..., 0], np.broadcast_to(_MOVES[:, 0], (8, 4))
    )
    np.testing.assert_array_equal(
        steps.terminated.T, [[0, 0, 1, 0, 0, 1, 0, 0], *np.zeros((3, 8))]
    )
    time_is_up = [0, 0, 0, 1, 0, 0, 0, 1]
    np.testing.assert_array_equal(
        steps.truncated.T, [np.zeros(8), time_is_up, np.zeros(8), time_is_up]
    )
    np.testing.assert_array_equal(
        steps.valid, np.broadcast_to([True, True, False, True], (8, 4))
    )
    np.testing.assert_array_equal(steps.policy, np.broadcast_to(np.arange(4), (8, 4)))


def test_finished_episodes_by_hand(eight):
    unrolled, state = eight
    finished = unrolled.finished
    ends = [
        [0, 0, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 1],
        np.ones(8),
        [0, 0, 0, 1, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(finished.ended.T, ends)
    # 1 + 2 + 3; 0.5 + 1 + 1.5 + 2; nothing; -1 - 2 - 3 - 4.
    totals = np.array([[6], [5], [0], [-10]]) * ends
    np.testing.assert_array_equal(finished.total_reward.T, totals)
    lengths = np.array([[3], [4], [1], [4]]) * ends
    np.testing.assert_array_equal(finished.length.T, lengths)
    assert finished.valid[:, [0, 1, 3]].sum() == 6 and not finished.valid[:, 2].any()
    np.testing.assert_array_equal(finished.terminated.T, [ends[0], *np.zeros((3, 8))])
    np.testing.assert_array_equal(state.episode, [2, 2, 8, 2])
    # One environment saw 0, 1, 2, 0, 1, 2, 0, 1; of what breaks nothing counts.
    np.testing.assert_array_equal(unrolled.observations.count, [8, 8, 0, 8])
    np.testing.assert_allclose(unrolled.observations.mean[0], [7 / 8], rtol=1e-6)


def test_what_a_broken_episode_saw_counts_for_nothing():
    # 0, 1.25 and then 2.5, which breaks, twice; then 0 in an episode that goes on.
    unroll = _compiled(_Walk(), 5, None)
    moves = jnp.array([[1.25], [0.5]])
    unrolled, _ = unroll(moves, jnp.arange(2), unroll.init(2, key=jr.key(0)))
    valid = unrolled.transitions.valid
    np.testing.assert_array_equal(valid.T, [[0, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    seen = unrolled.observations
    np.testing.assert_array_equal(seen.count, [1, 5])
    # 0, 0.5, 1, 1.5 of an episode that ended, and 0 of the next.
    np.testing.assert_allclose(seen.mean[:, 0], [0, 0.6], rtol=1e-6)
    np.testing.assert_allclose(seen.squares[:, 0], [0, 1.7], rtol=1e-6)


def test_two_calls_are_one_of_double_length(eight):
    whole, state = eight
    # In the middle of episodes.
    halves, after = _unroll(_Walk(), steps=4, calls=2)
    for name in ("transitions", "finished"):
        joined = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), *(getattr(x, name) for x in halves)
        )
        assert eqx.tree_equal(joined, getattr(whole, name))
    assert eqx.tree_equal(after.task, state.task)
    # Control: the second half is not the first.
    assert not eqx.tree_equal(halves[0].finished, halves[1].finished)


def test_rows_may_change_between_calls():
    calls, _ = _unroll(_Walk(), steps=2, calls=2, rows=[[0, 3], [1, 0]], environments=2)
    # 1, 2 and then 2.5, which breaks; from 0 again. -1, -2 and then -1, 0.
    second = calls[1].transitions
    np.testing.assert_array_equal(second.observation[..., 0], [[2, -2], [0, -1]])
    np.testing.assert_array_equal(second.reward, [[0, -1], [0.5, 0]])
    np.testing.assert_array_equal(second.valid, [[False, True], [True, True]])
    np.testing.assert_array_equal(second.policy, [[1, 0], [1, 0]])
    # Returns run over both calls: -1 - 2 - 1 + 0, time is up.
    np.testing.assert_array_equal(calls[1].finished.total_reward, [[3, 0], [0, -4]])


def test_starts_depend_on_environment_and_episode_alone():
    task = _Walk(horizon=2, random_start=True)
    (unrolled,), _ = _unroll(task, steps=6, environments=6)
    starts = np.asarray(unrolled.transitions.observation)[::2, :, 0]
    key = jr.key(0)
    for episode in range(3):
        for environment in (1, 3, 5):  # neither ends early
            own_key = episode_key(key, jnp.int32(environment), jnp.int32(episode))
            expected = task.reset(key=own_key)
            if environment != 1 or episode == 0:
                assert starts[episode, environment] == expected
    assert len(np.unique(starts)) == starts.size
    # Control: another key, other starts.
    (other,), _ = _unroll(task, steps=6, environments=6, seed=1)
    assert not np.intersect1d(other.transitions.observation[0], starts).size


def test_devices_make_no_difference():
    task = _Walk(random_start=True)
    (alone,), state = _unroll(task, steps=6, environments=5)
    devices = _DEVICES[:2]
    assert len(devices) == 2
    (shared,), after = _unroll(task, steps=6, environments=5, devices=devices)
    # Environments stay on both; what happened is handed back once.
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(after.task)} == {2}
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(shared)} == {1}
    for ours, theirs in zip(
        jax.tree.leaves((shared, after.task, after.episode)),
        jax.tree.leaves((alone, state.task, state.episode)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_transitions_are_kept_only_if_asked_for():
    unroll = JAXEngine(_Walk()).compile_unroll(_Constant, steps=3, record=False)
    unrolled, _ = unroll(_MOVES, jnp.arange(4), unroll.init(4, key=jr.key(0)))
    assert unrolled.transitions is None
    np.testing.assert_array_equal(unrolled.finished.total_reward[2], [6, 0, 0, 0])


def test_numbers_are_positive():
    engine = JAXEngine(_Walk())
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        engine.compile_unroll(_Constant, steps=0)
    with pytest.raises(ValueError, match="environments is 0"):
        engine.compile_unroll(_Constant, steps=1).init(0, key=jr.key(0))
