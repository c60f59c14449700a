"""What every registered task must do, and what `make` says when it cannot."""

import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import AbstractTask, make, names


# Others are tested against Gymnasium; MJX takes long to compile each.
_IN_JAX = ("ant", "cartpole", "inverted_pendulum", "lqr", "mountain_car_continuous")


def test_names():
    assert names() == (
        "ant",
        "ant_servo",
        "ant_v5",
        "cartpole",
        "half_cheetah",
        "hopper",
        "inverted_double_pendulum",
        "inverted_pendulum",
        "lqr",
        "mountain_car_continuous",
        "reacher",
        "swimmer",
        "walker2d",
    )
    assert set(_IN_JAX) < set(names())


def test_unknown_task():
    with pytest.raises(ValueError) as caught:
        make("x")
    assert str(caught.value) == (
        f"Unknown task 'x'. Known tasks: {', '.join(names())}."
    )


@pytest.mark.parametrize("name", names())
def test_every_task_steps_on_the_c_engine(name):
    task = make(name, physics="mujoco")
    state = task.reset(key=jax.random.key(0))
    for _ in range(3):
        action = task.action_space.select(jnp.zeros(task.action_space.output_size))
        state, reward, terminated = task.step(state, action)
        assert task.observe(state).shape == (task.observation_size,)
        assert reward.shape == terminated.shape == ()


@pytest.mark.parametrize("name", _IN_JAX)
def test_tasks_step_under_jit_and_compile_once(name):
    task = make(name, physics="mjx")
    assert isinstance(task, AbstractTask)
    assert make(name, horizon=None).horizon == task.horizon
    assert make(name, horizon=7).horizon == 7
    with pytest.raises(ValueError, match="at least 1"):
        make(name, horizon=0)

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def reset(task, key):
        return task.reset(key=key)

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def step(task, state, output):
        action = task.action_space.select(output)
        after, reward, terminated = task.step(state, action)
        return after, task.observe(after), reward, terminated

    state = reset(task, jax.random.key(0))
    output = jnp.zeros(task.action_space.output_size)
    compiled = []
    cache: Any = step
    # The second call steps an equal task from the first call's own result.
    for stepped in (task, make(name, physics="mjx")):
        before = state
        state, observation, reward, terminated = step(stepped, before, output)
        compiled.append(cache._cached._cache_size())
        assert observation.shape == (task.observation_size,)
        assert task.observe(before).shape == (task.observation_size,)
        assert reward.shape == terminated.shape == ()
        assert terminated.dtype == bool
        for array in (*jax.tree.leaves(state), observation, reward):
            assert array.dtype == jnp.float32
            assert np.all(np.isfinite(array))
    # One trace may still be compiled twice, where the placement of inputs changes.
    assert compiled[0] == compiled[1]


def test_cartpole_needs_no_mujoco():
    program = (
        "import sys\n"
        "from applications.envs import make\n"
        "make('cartpole')\n"
        "assert 'mujoco' not in sys.modules\n"
        "make('inverted_pendulum')\n"
        "assert 'mujoco' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
