"""Vector environments, against unrolls, Gymnasium and episodes worked out by hand."""

from typing import Any, ClassVar

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from applications.envs import AbstractTask, Continuous, Discrete, make
from applications.rollout import engine_for
from applications.rollout.vector import to_vector
from tests.helpers import nightly


class _Walk(AbstractTask):
    """A point on a line, from 0: x becomes x + action, the reward is the new x.

    An episode ends once x reaches 3. With x at exactly 2.5 the reward is not a number.
    """

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-9.0,), (9.0,))
    horizon: int = eqx.field(static=True, default=4)

    def reset(self, *, key):
        return jnp.zeros(())

    def observe(self, state):
        return state[None]

    def step(self, state, action):
        x = state + action[0]
        return x, jnp.where(x == 2.5, jnp.nan, x), x >= 3


def test_episodes_by_hand():
    env = to_vector(_Walk(), 3)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env = RecordEpisodeStatistics(env)
    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(first, np.zeros((3, 1)))
    # The first one walks to 3, the second breaks at 2.5, the third runs out of time.
    moves = np.array([[1.5], [1.25], [0.5]])
    seen, rewards, terminated, truncated, infos = env.step(moves)
    np.testing.assert_array_equal(seen, moves)
    np.testing.assert_array_equal(rewards, [1.5, 1.25, 0.5])
    assert not (terminated | truncated).any() and infos == {}
    seen, rewards, terminated, truncated, infos = env.step(moves)
    # New episodes have begun in the first two; what was reached is beside.
    np.testing.assert_array_equal(seen, [[0.0], [0.0], [1.0]])
    np.testing.assert_array_equal(rewards, [3.0, 0.0, 1.0])
    np.testing.assert_array_equal(terminated, [True, False, False])
    np.testing.assert_array_equal(truncated, [False, True, False])
    # Where it broke, what was seen before stands for what was reached.
    last = infos["final_obs"]
    assert last[0] == [3.0] and last[1] == [1.25] and last[2] is None
    np.testing.assert_array_equal(infos["_final_obs"], [True, True, False])
    np.testing.assert_array_equal(infos["episode"]["r"], [4.5, 1.25, 0.0])
    env.step(moves)
    seen, _, terminated, truncated, infos = env.step(moves)
    np.testing.assert_array_equal(terminated, [True, False, False])
    np.testing.assert_array_equal(truncated, [False, True, True])
    assert infos["final_obs"][2] == [2.0] and seen[2] == [0.0]
    np.testing.assert_array_equal(infos["episode"]["l"], [2, 2, 4])


class _Given(eqx.Module):
    """A policy that does what its weights say."""

    output: jax.Array

    def __call__(self, observation, *, key):
        return self.output


_SLOW = ("mountain_car_continuous", "ant_v5")


@pytest.mark.parametrize(
    "name",
    nightly(["hopper", "mountain_car_continuous", "ant_v5"], _SLOW),
)
def test_steps_are_those_of_unrolls(name):
    task = make(name, physics="mujoco", horizon=7)
    size, steps = 3, 16
    env = to_vector(task, size)
    seen, _ = env.reset(seed=4)
    env.action_space.seed(0)
    unroll = engine_for(task).compile_unroll(_Given, steps=1)
    generator, _ = seeding.np_random(4)
    state = unroll.init(size, key=jr.key(int(generator.integers(2**32))))
    ends = 0
    for _ in range(steps):
        actions = env.action_space.sample()
        before = seen
        seen, rewards, terminated, truncated, infos = env.step(actions)
        unrolled, state = unroll(jnp.asarray(actions), np.arange(size), state)
        theirs = jax.tree.map(lambda leaf: np.asarray(leaf[0]), unrolled.transitions)
        np.testing.assert_allclose(before, theirs.observation, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(rewards, theirs.reward, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(terminated, theirs.terminated)
        np.testing.assert_array_equal(truncated & ~terminated, theirs.truncated)
        ended = terminated | truncated
        ends += ended.sum()
        after = seen.copy()
        for i in np.flatnonzero(ended):
            # Control: the new episode begins elsewhere.
            assert not np.allclose(seen[i], infos["final_obs"][i], atol=1e-4)
            after[i] = infos["final_obs"][i]
        np.testing.assert_allclose(after, theirs.next_observation, rtol=1e-4, atol=1e-4)
    assert ends >= 2 * size


def test_gymnasiums_own_environments():
    env = to_vector(make("gymnasium:CartPole-v1", horizon=5), 2)
    seen, _ = env.reset(seed=1)
    with gymnasium.make("CartPole-v1") as own:
        own.reset(seed=0)
        start: Any = own.unwrapped
        start.state = seen[0].astype(np.float64)
        for i in range(5):
            seen, _, terminated, truncated, infos = env.step(np.array([i % 2, 1]))
            expected, *_ = own.step(i % 2)
            found = infos["final_obs"][0] if i == 4 else seen[0]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            assert not terminated.any() and truncated.all() == (i == 4)
    env.close()


def test_seeds_and_actions():
    task = make("cartpole")
    assert isinstance(task.action_space, Discrete)
    env = to_vector(task, 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, int))
    first, _ = env.reset(seed=3)
    other, _ = env.reset()
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other) and not np.allclose(first[0], first[1])
    for wrong in (np.zeros(3, int), np.array([0, 2]), np.zeros(2)):
        with pytest.raises(gymnasium.error.InvalidAction):
            env.step(wrong)
    env.step(np.array([0, 1]))
    with pytest.raises(ValueError, match="num_envs is 0"):
        to_vector(task, 0)
