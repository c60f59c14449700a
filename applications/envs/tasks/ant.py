"""Ants told to walk forward at 2 m/s: driven by torques, and by servos."""

import dataclasses
from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._facts import Signal, TaskFacts
from applications.envs._spaces import Continuous
from applications.envs.mujoco import (
    AbstractMujocoDefinition,
    gymnasium_spec,
    Physics,
    to_body_frame,
)


# RL-X (github.com/nico-bohlinger/RL-X), environment `ant/mujoco_mjx` as it stood on
# its development branch from November 2024 to January 2026.
_COMMAND = (2.0, 0.0)  # m/s, forward and sideways in the body frame
_TEMPERATURE = 0.25  # m^2/s^2
_REWARD_LIMIT = 10.0
_OBSERVATION_LIMIT = 100.0
_ACTION_LIMIT = 1.0
_LOWEST, _HIGHEST = 0.2, 1.0  # m, of the torso
_HOME = (0.0, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0) + 8 * (0.0,)
# The same library's robot since the end of January 2026.
_SERVO_JOINTS = (0.0, 1.2, 0.0, -1.2, 0.0, -1.2, 0.0, 1.2)  # rad
_SERVO_HOME = (0.0, 0.0, 0.61, 1.0, 0.0, 0.0, 0.0, *_SERVO_JOINTS)
_SERVO_RANGE = 0.3  # rad
_SERVO_GAIN, _SERVO_DAMPING = 20.0, 0.5  # N m/rad, N m s/rad
_SERVO_TORQUE = 150.0  # N m
_SERVO_ARMATURE, _SERVO_JOINT_DAMPING, _SERVO_FRICTION = 0.02, 0.1, 0.1
_SERVO_TIME_STEP = 0.005  # s
_FEET = (
    "left_ankle_geom",
    "right_ankle_geom",
    "third_ankle_geom",
    "fourth_ankle_geom",
)
# A reward of at most 1 a step. The speed is that forward in the body frame, in m/s, up
# to the commanded one.
_FACTS = TaskFacts((0.0, 1000.0), (Signal("speed", 17, 0.0, 2.0),), 0.01)
_SERVO_FACTS = dataclasses.replace(_FACTS, control_step=0.02)


@final
class Ant(AbstractMujocoDefinition):
    """The custom Ant of the EPVF paper, after the author's RL-X library.

    The body is Gymnasium's `ant.xml`, with a faster simulation: Euler at 0.01 s, one
    Newton iteration, and no contacts but those of the four feet with the floor. It is
    not `Ant-v5`: one reward term, a velocity command, and no reset noise, so that a
    deterministic policy has one return.

    Actions are the torques of hip4, ankle4, hip1, ankle1, hip2, ankle2, hip3, ankle3
    (the motors' order, which is not the joints'), as fractions of 150 N m.

    Attributes:
        horizon: The time limit, in control steps of 0.01 s.
    """

    observation_size: ClassVar[int] = 34
    action_space: ClassVar[Continuous] = Continuous(
        8 * (-_ACTION_LIMIT,), 8 * (_ACTION_LIMIT,)
    )
    frame_skip: ClassVar[int] = 1
    derived: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=1000)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `ant.xml` with the edits named above."""
        return _fast_body(_HOME).compile()

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " 15"], Float[Array, " 14"]]:
        """Upright at rest, 0.75 m high, joints at 0. Nothing is drawn.

        The ankles' limits exclude 0, so the first steps push them inside.
        """
        return jnp.asarray(_HOME), jnp.zeros(14)

    def observe(self, physics: Physics) -> Float[Array, " 34"]:
        """What the policy sees.

        Returns:
            Torso height (m); 8 joint angles (rad), hip and ankle of legs 1 to 4; their
            velocities (rad/s); linear velocity (m/s), angular velocity (rad/s) and
            direction of gravity, all in the body frame; the last 8 controls. What is
            not finite is 0, and all is clipped to +-100.
        """
        return _observe(physics, physics.qpos[7:])

    def control(self, action: Float[Array, " 8"]) -> Float[Array, " 8"]:
        """The action, clipped to +-1."""
        return self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 8"]
    ) -> Float[Array, ""]:
        """Nearness to the commanded velocity, in (0, 1].

        It is exp(-|c - v|^2 / 0.25) with the command c and the horizontal part v of
        the velocity in the body frame: 1e-7 at rest, 0.02 at 1 m/s, 1 at 2 m/s. What
        is not finite is 0.
        """
        return _nearness(after)

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the torso is lower than 0.2 m or higher than 1.0 m."""
        return _is_out(physics)


@final
class AntServo(AbstractMujocoDefinition):
    """The Ant of later versions of RL-X: lighter joints, driven by servos.

    As `Ant`, but joints have little armature and damping and some friction, an action
    is where the servo of each joint is to go, in units of 0.3 rad around its home,
    the robot starts standing on bent legs, and a control step is four simulation steps
    of 0.005 s. Actions are in the joints' order.

    Attributes:
        horizon: The time limit, in control steps of 0.02 s.
    """

    observation_size: ClassVar[int] = 34
    action_space: ClassVar[Continuous] = Continuous(
        8 * (-_ACTION_LIMIT,), 8 * (_ACTION_LIMIT,)
    )
    frame_skip: ClassVar[int] = 4
    derived: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[TaskFacts] = _SERVO_FACTS
    horizon: int = eqx.field(static=True, default=1000)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `ant.xml` with the edits named above."""
        spec = _fast_body(_SERVO_HOME)
        spec.option.timestep = _SERVO_TIME_STEP
        for actuator in list(spec.actuators):
            spec.delete(actuator)
        joints = [
            joint for joint in spec.joints if joint.type != mujoco.mjtJoint.mjJNT_FREE
        ]
        for joint in joints:
            joint.armature = _SERVO_ARMATURE
            joint.damping = (_SERVO_JOINT_DAMPING, 0.0, 0.0)
            joint.frictionloss = _SERVO_FRICTION
            servo = spec.add_actuator(
                name=joint.name,
                target=joint.name,
                trntype=mujoco.mjtTrn.mjTRN_JOINT,
                forcelimited=True,
                forcerange=(-_SERVO_TORQUE, _SERVO_TORQUE),
            )
            servo.set_to_position(kp=_SERVO_GAIN, kv=_SERVO_DAMPING)
        return spec.compile()

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " 15"], Float[Array, " 14"]]:
        """At rest, 0.61 m high, the ankles bent by 1.2 rad. Nothing is drawn."""
        return jnp.asarray(_SERVO_HOME), jnp.zeros(14)

    def observe(self, physics: Physics) -> Float[Array, " 34"]:
        """What the policy sees.

        Returns:
            As of `Ant`, with joint angles from their home (rad), and as last controls
            where the servos were to go (rad; 0 after a reset).
        """
        home = jnp.asarray(_SERVO_JOINTS, physics.qpos.dtype)
        return _observe(physics, physics.qpos[7:] - home)

    def control(self, action: Float[Array, " 8"]) -> Float[Array, " 8"]:
        """Where the servos are to go, in rad."""
        home = jnp.asarray(_SERVO_JOINTS, action.dtype)
        return home + _SERVO_RANGE * self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 8"]
    ) -> Float[Array, ""]:
        """Nearness to the commanded velocity, as of `Ant`."""
        return _nearness(after)

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the torso is lower than 0.2 m or higher than 1.0 m."""
        return _is_out(physics)


def _fast_body(home: tuple[float, ...]) -> mujoco.MjSpec:
    """Gymnasium's Ant, simulated faster, with one keyframe."""
    spec = gymnasium_spec("ant", "euler")
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.option.iterations = 1
    spec.option.ls_iterations = 4
    for geom in spec.geoms:
        geom.contype = 0
        geom.conaffinity = 0
    for foot in _FEET:
        spec.add_pair(name=f"{foot}_floor", geomname1=foot, geomname2="floor")
    for key in spec.keys:
        spec.delete(key)
    spec.add_key(name="home", qpos=home)
    return spec


def _observe(physics: Physics, joints: Float[Array, " 8"]) -> Float[Array, " 34"]:
    qpos, qvel = physics.qpos, physics.qvel
    down = jnp.asarray([0.0, 0.0, -1.0], qpos.dtype)
    observation = jnp.concatenate(
        [
            qpos[2:3],
            joints,
            qvel[6:],
            to_body_frame(qpos[3:7], qvel[:3]),
            qvel[3:6],
            to_body_frame(qpos[3:7], down),
            physics.ctrl,
        ]
    )
    return _contain(observation, _OBSERVATION_LIMIT)


def _nearness(physics: Physics) -> Float[Array, ""]:
    velocity = to_body_frame(physics.qpos[3:7], physics.qvel[:3])[:2]
    miss = jnp.asarray(_COMMAND, velocity.dtype) - velocity
    return _contain(jnp.exp(-jnp.sum(miss**2) / _TEMPERATURE), _REWARD_LIMIT)


def _is_out(physics: Physics) -> Bool[Array, ""]:
    height = physics.qpos[2]
    return (height < _LOWEST) | (height > _HIGHEST)


def _contain(x: Float[Array, "..."], limit: float) -> Float[Array, "..."]:
    return jnp.clip(jnp.where(jnp.isfinite(x), x, 0.0), -limit, limit)
