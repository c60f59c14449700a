"""Outcomes by hand, what is refused, and what settings say of them."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import (
    AbstractOutcome,
    AbstractTask,
    Continuous,
    FinalX,
    make,
    MaxSpeed,
    names,
    OutcomeTask,
    Signal,
    SparseGoal,
    TaskFacts,
    TaskSettings,
    with_outcome,
)
from applications.envs.adapters import to_brax, to_gymnasium
from applications.settings import UserError


class Longest(AbstractOutcome):
    """How many steps in a row earned something, at most."""

    def __init__(self, task):
        assert isinstance(task, AbstractTask)

    def start(self, observation):
        return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)

    def step(self, accumulated, observation, reward):
        row = jnp.where(reward > 0, accumulated[0] + 1, 0)
        return row, jnp.maximum(accumulated[1], row)

    def value(self, accumulated):
        return accumulated[1].astype(jnp.float32)


def nothing(task):
    return task


class _Bare(AbstractTask):
    """Shows a speed, but nobody knows how long a step is."""

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-1.0,), (1.0,))
    facts: ClassVar[TaskFacts] = TaskFacts(signals=(Signal("speed", 0, 0.0, 1.0),))
    horizon: int = eqx.field(static=True, default=4)

    def reset(self, *, key):
        return jnp.zeros(1)

    def observe(self, state):
        return state

    def step(self, state, action):
        return state + action, action[0], jnp.zeros((), bool)


def _worth(outcome, speeds, rewards=None):
    accumulated = outcome.start(jnp.array([9.0, 9.0]))
    for speed, reward in zip(speeds, rewards or speeds, strict=True):
        seen = jnp.array([100.0, speed])
        accumulated = outcome.step(accumulated, seen, jnp.array(reward))
    return float(outcome.value(accumulated))


def test_by_hand():
    speeds = [1.0, 2.0, 6.0, -1.0, 0.0]
    assert _worth(FinalX(1, 0.5), speeds) == 4.0
    # Pairs: 0.5, 1.5, 4, 2.5, -0.5; the window before has a place at rest.
    assert _worth(MaxSpeed(1, 2), speeds) == 4.0
    assert _worth(MaxSpeed(1, 1), speeds) == 6.0
    assert _worth(MaxSpeed(1, 4), [8.0]) == 2.0
    assert _worth(MaxSpeed(1, 2), [-3.0, -2.0]) == 0.0
    # The way: 0.5, 1.5, 4.5, 4, 4. Beyond 3 after 3 of 10 steps, beyond 4.5 never.
    assert _worth(SparseGoal(1, 0.5, 3.0, 10), speeds) == pytest.approx(0.85)
    assert _worth(SparseGoal(1, 0.5, 4.5, 10), speeds) == 0.0
    # Control: another order, another outcome, though not of the final place.
    assert _worth(FinalX(1, 0.5), speeds[::-1]) == 4.0
    assert _worth(SparseGoal(1, 0.5, 3.0, 10), speeds[::-1]) != pytest.approx(0.85)


def test_made_by_name():
    task = make("half_cheetah", physics="mujoco", outcome="final-x")
    assert isinstance(task, OutcomeTask) and task.name == "final-x"
    assert task.outcome == FinalX(8, 0.05) and task.horizon == 1000
    # The range is one of rewards.
    assert task.facts.return_range is None and task.facts.signal("speed") is not None
    hash(task.outcome)
    fast = make("hopper", physics="mujoco", outcome="max-speed")
    # Half a second in steps of 8 ms.
    assert fast.outcome == MaxSpeed(5, 62)
    goal = make("half_cheetah", physics="mujoco", outcome="sparse-goal", horizon=100)
    # A tenth of 5 m/s for 5 s.
    assert goal.outcome == SparseGoal(8, 0.05, 2.5, 100)
    own = make("cartpole", outcome=f"{__name__}:Longest")
    assert _worth(own.outcome, [1.0, 1.0, -1.0, 1.0]) == 2.0
    # Another outcome takes the place of the first.
    bare = with_outcome(own, "reward")
    assert type(bare) is type(make("cartpole"))
    again = with_outcome(own, "final-x")
    assert isinstance(again, OutcomeTask) and again.task is own.task


@pytest.mark.parametrize("name", names())
def test_the_control_step_is_that_of_the_model(name):
    task = make(name, physics="mujoco")
    step = task.facts.control_step
    assert (step is None) == (task.facts.signal("speed") is None)
    if hasattr(task, "model") and step is not None:
        model_step = task.model.opt.timestep * task.definition.frame_skip
        assert step == pytest.approx(model_step)


def test_refusals():
    for name, missing in (("reacher", "no speed"), ("lqr", "no speed")):
        with pytest.raises(ValueError, match=f"{missing}; there are reward, and") as at:
            make(name, physics="mujoco", outcome="final-x")
        assert "\n" not in str(at.value)
    with pytest.raises(ValueError, match="no control step"):
        with_outcome(_Bare(), "max-speed")
    with pytest.raises(ValueError, match="no outcome 'x'; there are reward, final-x"):
        make("cartpole", outcome="x")
    with pytest.raises(ValueError, match="A goal is of sparse-goal, and not of reward"):
        make("cartpole", goal=1.0)
    with pytest.raises(ValueError, match="made a CartPole, which is no"):
        make("cartpole", outcome=f"{__name__}:nothing")
    far = make("cartpole", outcome="final-x")
    for adapter in (to_gymnasium, to_brax):
        with pytest.raises(UserError, match="not the outcome final-x at the end"):
            adapter(far)
    with pytest.raises(ValueError, match="control_step is 0"):
        TaskFacts(control_step=0.0)


def test_settings_record_it():
    settings = TaskSettings("cartpole", outcome="sparse-goal", goal=0.5)
    assert settings.options == {
        "physics": "auto",
        "outcome": "sparse-goal",
        "goal": 0.5,
    }
    # Policies are judged by what they have learned from.
    for as_trained in (True, False):
        assert isinstance(settings.make(as_trained=as_trained), OutcomeTask)
    assert TaskSettings("cartpole").options == {"physics": "auto"}
    with pytest.raises(UserError, match="not for this task"):
        TaskSettings("lqr", outcome="final-x").make(as_trained=True)


def test_levels():
    space = Continuous((-1.0, 0.0), (1.0, 4.0), 3)
    for output, action in (
        ([0.4, 1.2], [0.0, 2.0]),
        ([0.6, 0.9], [1.0, 0.0]),
        ([-9.0, 9.0], [-1.0, 4.0]),
    ):
        np.testing.assert_array_equal(space.select(jnp.array(output)), action)
    # Flat, but for jumps.
    slope = jax.grad(lambda x: space.select(x).sum())(jnp.array([0.4, 1.2]))
    np.testing.assert_array_equal(slope, 0)
    plain = Continuous((-1.0,), (1.0,))
    assert plain.select(jnp.array([0.4])) == jnp.float32(0.4)
    with pytest.raises(ValueError, match="at least 2"):
        Continuous((-1.0,), (1.0,), 1)
