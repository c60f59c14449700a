"""What MuJoCo tasks share: their definition, which knows no engine.

A definition says what is observed, rewarded and ended, as functions of a few physics
arrays. It never steps anything, so that any engine can run it.
"""

import abc
from typing import TYPE_CHECKING, TypeAlias

import equinox as eqx
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._facts import TaskFacts
from applications.envs._spaces import Continuous


# The engine in C keeps its state in NumPy's arrays, which JAX takes as its own.
if TYPE_CHECKING:
    AnyArray: TypeAlias = Array
else:
    AnyArray = Array | np.ndarray


class Physics(eqx.Module):
    """All that an episode carries from one control step to the next.

    Attributes:
        qpos: Generalised positions, in MuJoCo's order (m, rad, unit quaternions).
        qvel: Generalised velocities (m/s, rad/s). Of a free joint the linear part is
            in the world frame and the angular part in the body frame.
        ctrl: The control applied during the last step; 0 after a reset.
        qacc_warmstart: Where the constraint solver starts from: the accelerations of
            the last simulation step; 0 after a reset. A solver that is stopped early
            gives other results from another start, so this is part of the state.
        derived: The arrays that the definition asks for in `derived`, by MuJoCo's
            names. As in MuJoCo they are one simulation step (with RK4, a stage of one)
            behind `qpos` and `qvel`, and of the start itself after a reset.
    """

    qpos: Float[AnyArray, "*batch positions"]
    qvel: Float[AnyArray, "*batch velocities"]
    ctrl: Float[AnyArray, "*batch controls"]
    qacc_warmstart: Float[AnyArray, "*batch velocities"]
    derived: dict[str, Float[AnyArray, "..."]] = eqx.field(default_factory=dict)


class AbstractMujocoDefinition(eqx.Module):
    """A task on a MuJoCo model, without an engine.

    Every function is for one episode and pure. None but `model` touches MuJoCo.

    Attributes:
        observation_size: Length of an observation.
        action_space: The box that actions lie in.
        horizon: The time limit, in control steps.
        frame_skip: Simulation steps in one control step.
        derived: Names of arrays of `mjData`, beside the state, that the task reads.
        facts: What is known of the task beside that: nothing, unless a definition says
            so in a class variable of its own.
    """

    # Not annotated: a dataclass would put it before all fields of those that say more.
    facts = TaskFacts()
    observation_size: eqx.AbstractVar[int]
    action_space: eqx.AbstractVar[Continuous]
    horizon: eqx.AbstractVar[int]
    frame_skip: eqx.AbstractVar[int]
    derived: eqx.AbstractVar[tuple[str, ...]]

    @abc.abstractmethod
    def model(self) -> mujoco.MjModel:
        """Compiles the MuJoCo model, a new one on every call."""

    @abc.abstractmethod
    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " positions"], Float[Array, " velocities"]]:
        """Draws the positions and velocities of a start state."""

    @abc.abstractmethod
    def observe(self, physics: Physics) -> Float[Array, " observation"]:
        """What the policy sees."""

    @abc.abstractmethod
    def control(self, action: Float[Array, " action"]) -> Float[Array, " controls"]:
        """The actuator controls an action stands for."""

    @abc.abstractmethod
    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " action"]
    ) -> Float[Array, ""]:
        """The reward of the control step from `before` to `after`."""

    @abc.abstractmethod
    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the task ends in this state, which a step has just reached."""
