"""What tasks know of themselves."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import (
    AbstractEnvironment,
    Discrete,
    make,
    names,
    Signal,
    TaskFacts,
)
from applications.envs.mujoco import Physics


@pytest.mark.parametrize("name", names())
def test_every_task_has_facts(name):
    task = make(name, physics="mujoco")
    assert task.facts.return_range is not None
    for signal in task.facts.signals:
        assert 0 <= signal.index < task.observation_size
    # As static data they must be hashable.
    hash(task.facts)


# Seven numbers place a free body, upright here; in planar robots x is the first.
@pytest.mark.parametrize(
    "name",
    ["ant", "ant_servo", "ant_v5", "half_cheetah", "hopper", "swimmer", "walker2d"],
)
def test_speed_is_that_along_x(name):
    task = make(name, physics="mujoco")
    qpos = jnp.zeros(task.model.nq)
    qpos = qpos.at[3].set(1.0) if name.startswith("ant") else qpos
    qvel = jnp.zeros(task.model.nv)
    observe = eqx.filter_jit(task.definition.observe)
    derived = {"cfrc_ext": jnp.zeros((14, 6)), "xpos": jnp.zeros((14, 3))}

    def seen(speed):
        moving = qvel.at[0].set(speed)
        physics = Physics(qpos, moving, jnp.zeros(task.model.nu), qvel, derived)
        return np.asarray(observe(physics))

    (signal,) = task.facts.signals
    (at,) = np.flatnonzero(seen(0.25) - seen(0.0))
    assert signal.name == "speed" and signal.index == at
    assert seen(0.25)[at] == 0.25


def test_signals_are_found_by_name():
    facts = TaskFacts((0.0, 1.0), (Signal("height", 2, 0.0, 3.0),))
    assert facts.signal("height") == Signal("height", 2, 0.0, 3.0)
    assert facts.signal("speed") is None


def test_a_task_need_not_know_any():
    class Task(AbstractEnvironment):
        observation_size: int = 1
        action_space: Discrete = Discrete(2)
        horizon: int = 5

    assert Task().facts == TaskFacts(None, ())


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="return_range"):
        TaskFacts((1.0, 0.0))
    with pytest.raises(ValueError, match="low below high"):
        Signal("speed", 0, 1.0, 1.0)
    with pytest.raises(ValueError, match="index from 0"):
        Signal("speed", -1, 0.0, 1.0)
