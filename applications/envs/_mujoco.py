"""What MuJoCo tasks share: the definition of a task, and MJX as one engine for it.

A definition says what is observed, rewarded and ended, as functions of a few physics
arrays. It never steps anything, so that any engine can run it.
"""

import abc
import contextlib
import importlib.resources
import io
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._task import AbstractTask, Continuous


# MJX prints that its optional Warp engine, which is not used here, is missing.
with contextlib.redirect_stdout(io.StringIO()):
    from mujoco import mjx


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
    """

    qpos: Float[Array, " positions"]
    qvel: Float[Array, " velocities"]
    ctrl: Float[Array, " controls"]
    qacc_warmstart: Float[Array, " velocities"]


class AbstractMujocoDefinition(eqx.Module):
    """A task on a MuJoCo model, without an engine.

    Every function is for one episode and pure. None but `model` touches MuJoCo.

    Attributes:
        observation_size: Length of an observation.
        action_space: The box that actions lie in.
        horizon: The time limit, in control steps.
        frame_skip: Simulation steps in one control step.
    """

    observation_size: eqx.AbstractVar[int]
    action_space: eqx.AbstractVar[Continuous]
    horizon: eqx.AbstractVar[int]
    frame_skip: eqx.AbstractVar[int]

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


@final
class MJXTask(AbstractTask):
    """A MuJoCo task stepped by MJX, inside `jax.jit` and `jax.vmap`.

    The state is a `Physics`, a few dozen numbers; everything else in `mjx.Data` is
    recomputed by each simulation step before it is read.

    Attributes:
        definition: The task being stepped.
    """

    definition: AbstractMujocoDefinition
    _model: mjx.Model
    _template: mjx.Data

    def __init__(self, definition: AbstractMujocoDefinition):
        """Compiles the definition's model and hands it to MJX.

        Args:
            definition: What to step.

        Raises:
            ValueError: If the model has state that `Physics` does not carry.
        """
        model = definition.model()
        if model.na or model.nmocap or model.neq:
            raise ValueError(
                f"The model has {model.na} actuator activations, {model.nmocap} mocap "
                f"bodies and {model.neq} equality constraints. A Physics carries only "
                "qpos, qvel, ctrl and qacc_warmstart, so all three must be 0."
            )
        self.definition = definition
        # MJX commits its arrays to one device. Uncommitted copies go wherever the
        # computation is, sharded ones too, and leave `step` with one compilation.
        self._model, self._template = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf)),
            (mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")),
        )

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        return self.definition.observation_size

    @property
    def action_space(self) -> Continuous:
        """The box that actions lie in."""
        return self.definition.action_space

    @property
    def horizon(self) -> int:
        """The time limit, in control steps."""
        return self.definition.horizon

    def reset(self, *, key: PRNGKeyArray) -> Physics:
        """Draws a start state, with zero control and a cold solver."""
        qpos, qvel = self.definition.initial(key=key)
        controls = jnp.zeros(self._model.nu, qvel.dtype)
        return Physics(qpos, qvel, controls, jnp.zeros_like(qvel))

    def observe(self, state: Physics) -> Float[Array, " observation"]:
        """What the policy sees of a state."""
        return self.definition.observe(state)

    def step(
        self, state: Physics, action: Float[Array, " action"]
    ) -> tuple[Physics, Float[Array, ""], Bool[Array, ""]]:
        """Advances one control step, `frame_skip` simulation steps.

        Args:
            state: The state before.
            action: One action of `action_space`.

        Returns:
            The next state, the reward of this step, and whether the task ended here.
        """
        definition = self.definition
        driven = Physics(
            state.qpos, state.qvel, definition.control(action), state.qacc_warmstart
        )
        after, _ = jax.lax.scan(
            lambda physics, _: (self._simulate(physics), None),
            driven,
            length=definition.frame_skip,
        )
        reward = definition.reward(state, after, action)
        return after, reward, definition.terminated(after)

    def _simulate(self, physics: Physics) -> Physics:
        """One simulation step under the control that `physics` holds."""
        data = self._template.replace(
            qpos=physics.qpos,
            qvel=physics.qvel,
            ctrl=physics.ctrl,
            qacc_warmstart=physics.qacc_warmstart,
        )
        # MJX mixes dtypes and ranks, and TF32 products would be too coarse for it.
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.default_matmul_precision("highest"),
        ):
            data = mjx.step(self._model, data)
        return Physics(data.qpos, data.qvel, physics.ctrl, data.qacc_warmstart)


def gymnasium_xml(name: str) -> str:
    """The MuJoCo XML that the installed `gymnasium` package holds for a robot.

    Args:
        name: The file's name, without `.xml`.

    Returns:
        The text of the file.
    """
    assets = importlib.resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    return (assets / f"{name}.xml").read_text()


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
