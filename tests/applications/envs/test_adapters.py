"""Adapters: what goes through them is what the task itself does."""

import os
import warnings

import equinox as eqx
import gymnasium
import jax
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
    step = eqx.filter_jit(task.step)
    env = to_gymnasium(task)
    observation, _ = env.reset(seed=3)
    state = jnp.asarray(observation)
    for i in range(5):
        action = np.array([0.5], np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        state, expected, _ = step(state, jnp.asarray(action))
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


@pytest.mark.parametrize("name", ["cartpole", "inverted_pendulum"])
def test_observations_are_copies_of_the_declared_dtype(name):
    for x64 in (False, True):
        with jax.enable_x64(x64):
            env = to_gymnasium(make(name, physics="mujoco"))
            seen, _ = env.reset(seed=0)
            after, *_ = env.step(env.action_space.sample())
        for observation in (seen, after):
            assert env.observation_space.contains(observation)
            observation += 1
        assert not np.array_equal(seen, env.reset(seed=0)[0])


def test_it_refuses_what_gymnasium_refuses():
    env = to_gymnasium(make("cartpole"))
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    for bad in (7, -1, np.float32(0.9), 1.0, [0], np.array([0, 1]), "left", None):
        with pytest.raises(gymnasium.error.InvalidAction, match="integers from 0 to 1"):
            env.step(bad)
    for good in (1, np.int64(0), np.array(1), jnp.int32(1)):
        env.step(good)
    env = to_gymnasium(make("inverted_pendulum", physics="mujoco"))
    env.reset(seed=0)
    for bad in (0.5, [0.5, 0.5], [[0.5]]):
        with pytest.raises(gymnasium.error.InvalidAction, match=r"shape \(1,\)"):
            env.step(bad)
    env.step([9.0])


def test_a_forked_process_is_told(recwarn):
    env = to_gymnasium(make("cartpole"))
    env.reset(seed=0)  # JAX runs
    read, write = os.pipe()
    child = os.fork()  # of which JAX warns
    if child == 0:
        try:
            env.reset()
            said = "it went on"
        except RuntimeError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    assert 'SyncVectorEnv, or AsyncVectorEnv(..., context="spawn")' in said
    # Control: here it goes on.
    env.reset()
