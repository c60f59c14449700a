"""Adapters: what goes through them is what the task itself does."""

import warnings

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from applications.envs import make
from applications.envs.adapters import to_gymnasium


@pytest.mark.parametrize("name", ["cartpole", "mountain_car_continuous", "hopper"])
def test_gymnasium_accepts_it(name):
    env = to_gymnasium(make(name, horizon=20))
    with warnings.catch_warnings():
        # It recommends bounded observations.
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)


def test_episodes_are_the_tasks_own():
    task = make("mountain_car_continuous", horizon=5)
    env = to_gymnasium(task)
    observation, _ = env.reset(seed=3)
    state = jnp.asarray(observation)
    for i in range(5):
        action = np.array([0.5], np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        state, expected, _ = task.step(state, jnp.asarray(action))
        np.testing.assert_allclose(observation, state, rtol=1e-6)
        assert reward == pytest.approx(float(expected)) and not terminated
        assert truncated == (i == 4)
    again, _ = env.reset(seed=3)
    other, _ = env.reset()
    assert not np.array_equal(again, other)
    assert np.array_equal(again, to_gymnasium(task).reset(seed=3)[0])


def test_spaces():
    env = to_gymnasium(make("cartpole"))
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    assert env.action_space.n == 2
    env = to_gymnasium(make("inverted_pendulum"))
    assert isinstance(env.action_space, gymnasium.spaces.Box)
    np.testing.assert_array_equal(env.action_space.high, [3.0])
    assert env.observation_space.shape == (4,)
