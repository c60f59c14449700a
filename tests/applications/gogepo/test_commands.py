"""What can be commanded, and how it is measured."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import AbstractEnvironment, Discrete, make
from applications.gogepo._commands import make_commands
from applications.policies import RunningStatistics
from applications.rollout import Episode
from applications.settings import UserError


def _commands(kind, env="cartpole", **options):
    given: dict[str, Any] = {"low": None, "high": None, "drive": None} | options
    return make_commands(kind, make(env, physics="mujoco"), **given)


class _Unknown(AbstractEnvironment):
    """A task of which nothing is known."""

    observation_size: int = 1
    action_space: Discrete = Discrete(2)
    horizon: int = 5


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


def test_what_cannot_be_commanded():
    with pytest.raises(UserError, match="speed is not for this task"):
        _commands("speed", "lqr")
    with pytest.raises(UserError, match="--low 600.0 must be below --high 500.0"):
        _commands("return", low=600.0)
    with pytest.raises(UserError, match="give --low and --high"):
        make_commands("return", _Unknown(), low=1.0, high=None, drive=None)


def test_a_task_without_facts_can_be_told_its_range():
    commands = make_commands("return", _Unknown(), low=1.0, high=3.0, drive=None)
    assert (commands.low, commands.high, commands.drive) == ((1.0,), (3.0,), 0.1)
    assert _commands("return", "ant_v5").high == (3000.0,)


def test_speed_and_return():
    commands = _commands("speed-return", "swimmer")
    assert commands.names == ("speed", "return") and commands.size == 2
    assert (commands.low, commands.high) == ((-0.2, -100.0), (0.4, 365.0))
    # In the order of the names: another order would be another command.
    both = _commands("speed-return").measure(_episodes())
    np.testing.assert_array_equal(both[1], [[9, 3], [13, 4]])
    with pytest.raises(UserError, match="speed-return is not for this task"):
        _commands("speed-return", "lqr")
