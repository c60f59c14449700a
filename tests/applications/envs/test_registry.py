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


_CLOSED_FORM = ("cartpole", "lqr", "mountain_car_continuous")
# MJX takes long to compile each.
_ON_MJX = ("ant", "inverted_pendulum")


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
    assert {*_CLOSED_FORM, *_ON_MJX} < set(names())


@pytest.mark.parametrize("name", ["x", "", ":", "gymnasium:", ":Factory"])
def test_unknown_task(name):
    with pytest.raises(ValueError) as caught:
        make(name)
    assert str(caught.value) == (
        f"Unknown task {name!r}. Known tasks: {', '.join(names())}. Others are "
        "package.module:Factory, gymnasium:ID or playground:NAME."
    )


# The others step against Gymnasium's.
@pytest.mark.parametrize("name", ["ant", "ant_servo"])
def test_ants_step_on_the_c_engine(name):
    task = make(name, physics="mujoco")
    state = task.reset(key=jax.random.key(0))
    state, reward, terminated = task.step(state, jnp.zeros(8))
    assert task.observe(state).shape == (task.observation_size,)
    assert reward.shape == terminated.shape == ()


@pytest.mark.parametrize("name", [*_CLOSED_FORM, *_ON_MJX])
def test_a_task_keeps_its_form_in_transformations(name):
    # Equinox counts the fields of an instance. One that has not all of its own may come
    # out of `jax.tree.map` as something else, which `eqx.filter_jit` refuses.
    task: Any = make(name, physics="mujoco")
    own = getattr(task, "definition", task)
    again = jax.tree.map(lambda leaf: leaf, own)
    assert jax.tree.structure(own) == jax.tree.structure(again)


@pytest.mark.parametrize(
    "name",
    [*_CLOSED_FORM, *(pytest.param(x, marks=pytest.mark.nightly) for x in _ON_MJX)],
)
def test_tasks_step_under_jit_and_compile_once(name):
    task = make(name, physics="mjx")
    assert isinstance(task, AbstractTask)
    assert make(name, horizon=None).horizon == task.horizon
    assert make(name, horizon=7).horizon == 7
    with pytest.raises(ValueError, match="at least 1"):
        make(name, horizon=0)
    for horizon in (2.5, True, "7", float("nan"), 1e30, 2**31, [7]):
        with pytest.raises(ValueError, match="it must be a whole number, of at least"):
            make(name, horizon=horizon)

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def reset(task, key):
        state = task.reset(key=key)
        return state, task.observe(state)

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def step(task, state, output):
        action = task.action_space.select(output)
        after, reward, terminated = task.step(state, action)
        return after, task.observe(after), reward, terminated

    state, observation = reset(task, jax.random.key(0))
    assert observation.shape == (task.observation_size,)
    output = jnp.zeros(task.action_space.output_size)
    compiled = []
    cache: Any = step
    # The second call steps an equal task from the first call's own result.
    for stepped in (task, make(name, physics="mjx")):
        state, observation, reward, terminated = step(stepped, state, output)
        compiled.append(cache._cached._cache_size())
        assert observation.shape == (task.observation_size,)
        assert reward.shape == terminated.shape == ()
        assert terminated.dtype == bool
        for array in (*jax.tree.leaves(state), observation, reward):
            assert array.dtype == jnp.float32
            assert np.all(np.isfinite(array))
    # One trace may still be compiled twice, where the placement of inputs changes.
    assert compiled[0] == compiled[1]


def test_options():
    cases: list[tuple[str, dict[str, Any]]]
    cases = [("swimmer", {"survival_bonus": False}), ("lqr", {"x": 1})]
    for name, options in cases:
        (option,) = options
        with pytest.raises(ValueError) as caught:
            make(name, **options)
        assert str(caught.value).startswith(f"{name} takes other options: ")
        assert repr(option) in str(caught.value) and "horizon" in str(caught.value)


def test_playground_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)
    with pytest.raises(ValueError, match="pip install playground"):
        make("playground:CartpoleBalance")
    with pytest.raises(ValueError, match="takes other options: .*integrator"):
        make("playground:CartpoleBalance", integrator="rk4")


def test_importing_is_light():
    """The package and cartpole need no library but JAX and Equinox."""
    program = (
        "import sys\n"
        "from applications.envs import make\n"
        "import applications.envs.adapters\n"
        "make('cartpole')\n"
        "assert not {'mujoco', 'gymnasium', 'brax', 'PIL'} & sys.modules.keys()\n"
        "make('inverted_pendulum', physics='mujoco')\n"
        "assert 'mujoco' in sys.modules and 'mujoco.mjx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
