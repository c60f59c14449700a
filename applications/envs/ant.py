"""Ant: a four-legged robot told to walk forward at 2 m/s."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._mujoco import (
    AbstractMujocoDefinition,
    gymnasium_xml,
    Physics,
    to_body_frame,
)
from applications.envs._task import Continuous


# RL-X (github.com/nico-bohlinger/RL-X), environment `ant/mujoco_mjx` as it stood on
# its development branch from November 2024 to January 2026.
_COMMAND = (2.0, 0.0)  # m/s, forward and sideways in the body frame
_TEMPERATURE = 0.25  # m^2/s^2
_REWARD_LIMIT = 10.0
_OBSERVATION_LIMIT = 100.0
_ACTION_LIMIT = 1.0
_LOWEST, _HIGHEST = 0.2, 1.0  # m, of the torso
_HOME = (0.0, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0) + 8 * (0.0,)
_FEET = (
    "left_ankle_geom",
    "right_ankle_geom",
    "third_ankle_geom",
    "fourth_ankle_geom",
)


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

    observation_size: int = eqx.field(static=True, init=False, default=34)
    action_space: Continuous = eqx.field(
        static=True,
        init=False,
        default=Continuous(8 * (-_ACTION_LIMIT,), 8 * (_ACTION_LIMIT,)),
    )
    frame_skip: int = eqx.field(static=True, init=False, default=1)
    horizon: int = eqx.field(static=True, default=1000)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `ant.xml` with the edits named above."""
        spec = mujoco.MjSpec.from_string(gymnasium_xml("ant"))
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_EULER
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
        spec.add_key(name="home", qpos=_HOME)
        return spec.compile()

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
        qpos, qvel = physics.qpos, physics.qvel
        down = jnp.asarray([0.0, 0.0, -1.0], qpos.dtype)
        observation = jnp.concatenate(
            [
                qpos[2:3],
                qpos[7:],
                qvel[6:],
                to_body_frame(qpos[3:7], qvel[:3]),
                qvel[3:6],
                to_body_frame(qpos[3:7], down),
                physics.ctrl,
            ]
        )
        return _contain(observation, _OBSERVATION_LIMIT)

    def control(self, action: Float[Array, " 8"]) -> Float[Array, " 8"]:
        """The action, clipped to +-1."""
        return jnp.clip(action, -_ACTION_LIMIT, _ACTION_LIMIT)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 8"]
    ) -> Float[Array, ""]:
        """Nearness to the commanded velocity, in (0, 1].

        It is exp(-|c - v|^2 / 0.25) with the command c and the horizontal part v of
        the velocity in the body frame: 1e-7 at rest, 0.02 at 1 m/s, 1 at 2 m/s. What
        is not finite is 0.
        """
        velocity = to_body_frame(after.qpos[3:7], after.qvel[:3])[:2]
        miss = jnp.asarray(_COMMAND, velocity.dtype) - velocity
        return _contain(jnp.exp(-jnp.sum(miss**2) / _TEMPERATURE), _REWARD_LIMIT)

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the torso is lower than 0.2 m or higher than 1.0 m."""
        height = physics.qpos[2]
        return (height < _LOWEST) | (height > _HIGHEST)


def _contain(x: Float[Array, "..."], limit: float) -> Float[Array, "..."]:
    return jnp.clip(jnp.where(jnp.isfinite(x), x, 0.0), -limit, limit)
