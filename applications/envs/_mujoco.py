"""What MuJoCo tasks share: their definition, which knows no engine.

A definition says what is observed, rewarded and ended, as functions of a few physics
arrays. It never steps anything, so that any engine can run it.
"""

import abc
import importlib.resources
from typing import TYPE_CHECKING, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._task import Continuous, Integrator as Integrator


_INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "rk4": mujoco.mjtIntegrator.mjINT_RK4,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
}


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
    """

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


def gymnasium_spec(name: str, integrator: Integrator | None = None) -> mujoco.MjSpec:
    """The robot that the installed `gymnasium` package holds, to be edited.

    Args:
        name: Name of the XML file, without `.xml`.
        integrator: How to integrate; None for the file's own way.

    Returns:
        The specification.

    Raises:
        ValueError: If the integrator has another name.
    """
    if integrator is not None and integrator not in _INTEGRATORS:
        raise ValueError(
            f"There is no integrator {integrator!r}; there are {list(_INTEGRATORS)}."
        )
    assets = importlib.resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    spec = mujoco.MjSpec.from_string((assets / f"{name}.xml").read_text())
    if integrator is not None:
        spec.option.integrator = _INTEGRATORS[integrator]
    return spec


def gymnasium_model(name: str, integrator: Integrator | None = None) -> mujoco.MjModel:
    """The same, compiled as it is.

    Args:
        name: As of `gymnasium_spec`.
        integrator: As of `gymnasium_spec`.

    Returns:
        The model.
    """
    spec = gymnasium_spec(name, integrator)
    # The compiler warns of this attribute; what it asks for instead comes to the same.
    mass = spec.compiler.settotalmass
    spec.compiler.settotalmass = -1
    model = spec.compile()
    if mass > 0:
        mujoco.mj_setTotalmass(model, mass)
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def to_body_frame(
    quaternion: Float[Array, " 4"], vector: Float[Array, " 3"]
) -> Float[Array, " 3"]:
    """Expresses a world-frame vector in the frame of a body.

    Args:
        quaternion: Orientation of the body in the world, scalar part first, of unit
            length.
        vector: The vector, in the world frame.

    Returns:
        The same vector in the body frame: it is rotated by the conjugate of
        `quaternion`.
    """
    scalar, axis = quaternion[0], quaternion[1:]
    twice = 2 * jnp.cross(axis, vector)
    return vector - scalar * twice + jnp.cross(axis, twice)
