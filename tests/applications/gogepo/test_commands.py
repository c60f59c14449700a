"""What can be commanded, and how it is measured."""

import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make
from applications.envs.native import Physics
from applications.gogepo._commands import make_commands
from applications.policies import RunningStatistics
from applications.rollout import Episode
from applications.settings import UserError


def _commands(kind, env="cartpole", **options):
    given = {"low": None, "high": None, "drive": None} | options
    return make_commands(kind, env, make(env, physics="mujoco"), **given)


def _sizes(model):
    return model.nq, model.nv, model.nu


def _episodes():
    """Two policies with two episodes each, in a task with 4 numbers to see."""
    mean = jnp.arange(16.0).reshape(2, 2, 4)
    return Episode(
        jnp.array([[1.0, 2.0], [3.0, 4.0]]),
        jnp.array([[10, 20], [30, 40]]),
        jnp.ones((2, 2), bool),
        jnp.zeros((2, 2, 4)),
        RunningStatistics(jnp.ones((2, 2)), mean, jnp.zeros((2, 2, 4))),
        jnp.zeros((2, 2), bool),
    )


def test_ranges():
    commands = _commands("return")
    assert (commands.low, commands.high, commands.drive) == ((0.0,), (500.0,), 25.0)
    commands = _commands("return-length", high=100.0, drive=3.0)
    assert commands.names == ("return", "length") and commands.size == 2
    assert (commands.low, commands.high) == ((0.0, 0.0), (100.0, 500.0))
    assert commands.drive == 3.0
    assert _commands("return", "swimmer").low == (-100.0,)


def test_measures():
    episodes = _episodes()
    returns = _commands("return").measure(episodes)
    np.testing.assert_array_equal(returns[..., 0], [[1, 2], [3, 4]])
    both = _commands("return-length").measure(episodes)
    np.testing.assert_array_equal(both[1, 0], [3, 30])
    # The cart's velocity is the second number that cartpole shows.
    speed = _commands("speed").measure(episodes)
    np.testing.assert_array_equal(speed[..., 0], [[1, 5], [9, 13]])


@pytest.mark.parametrize("env", ["half_cheetah", "hopper", "swimmer", "walker2d"])
def test_speed_is_that_along_x(env):
    task = make(env, physics="mujoco")
    commands = _commands("speed", env)
    qpos, qvel, ctrl = (jnp.zeros(size) for size in _sizes(task.model))
    physics = Physics(qpos, qvel.at[0].set(0.25), ctrl, qvel)
    seen = task.definition.observe(physics)
    assert commands.speed_at is not None and seen[commands.speed_at] == 0.25
    assert np.count_nonzero(seen) == 1


def test_what_cannot_be_commanded():
    with pytest.raises(UserError, match="speed is not for lqr"):
        _commands("speed", "lqr")
    with pytest.raises(UserError, match="--low 600.0 must be below --high 500.0"):
        _commands("return", low=600.0)
