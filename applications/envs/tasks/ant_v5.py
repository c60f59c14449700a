"""Gymnasium's own Ant, with contacts everywhere and a reward for mere speed."""

from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._facts import Signal, TaskFacts
from applications.envs._spaces import Continuous
from applications.envs._task import Integrator
from applications.envs.mujoco import (
    AbstractMujocoDefinition,
    gymnasium_model,
    Physics,
)


# Gymnasium 1.4.0, Ant-v5.
_HOME = (0.0, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0) + 8 * (0.0,)
_TORSO = 1  # row of `xpos`
_CONTROL_STEP = 0.05  # s
_CONTROL_COST, _CONTACT_COST = 0.5, 5e-4
_FORCE_LIMIT = 1.0
_LOWEST, _HIGHEST = 0.2, 1.0  # m, of the torso
_NOISE = 0.1
# As of Gymnasium's other walkers, without the bonus: 3 m/s over 1,000 steps return
# 3,000 less costs. Mania et al. (2018) take Ant as solved at 3,580, of which 1,000 are
# the bonus. The speed is the torso's along x, in m/s.
_FACTS = TaskFacts((-100.0, 3000.0), (Signal("speed", 13, 0.0, 3.0),), 0.05)


@final
class AntV5(AbstractMujocoDefinition):
    """Gymnasium's `Ant-v5`.

    The reward of a step is the torso's velocity along x (m/s), plus 1 while it is
    healthy, less half the action's square and 0.0005 times that of the contact forces,
    each clipped to +-1. Place and forces are the simulator's, one simulation step
    behind the observed joints. It ends where the torso is lower than 0.2 m or higher
    than 1 m.

    Attributes:
        horizon: The time limit, in control steps of 0.05 s.
        contact_forces: Whether they are observed: 78 more numbers.
        survival_bonus: Whether a healthy step earns 1.
        integrator: How to integrate; None for Gymnasium's way, RK4.
    """

    action_space: ClassVar[Continuous] = Continuous(8 * (-1.0,), 8 * (1.0,))
    frame_skip: ClassVar[int] = 5
    derived: ClassVar[tuple[str, ...]] = ("xpos", "cfrc_ext")
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=1000)
    contact_forces: bool = eqx.field(static=True, default=True)
    survival_bonus: bool = eqx.field(static=True, default=True)
    integrator: Integrator | None = eqx.field(static=True, default=None)

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        return 13 + 14 + (78 if self.contact_forces else 0)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `ant.xml`."""
        return gymnasium_model("ant", self.integrator)

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " 15"], Float[Array, " 14"]]:
        """Draws a start state.

        Returns:
            Positions uniform within 0.1 of the upright robot, the quaternion's too,
            which the simulator divides by its length; velocities normal with
            deviation 0.1.
        """
        position_key, velocity_key = jax.random.split(key)
        noise = jax.random.uniform(position_key, (15,), minval=-_NOISE, maxval=_NOISE)
        velocities = _NOISE * jax.random.normal(velocity_key, (14,))
        return jnp.asarray(_HOME) + noise, velocities

    def observe(self, physics: Physics) -> Float[Array, " observation"]:
        """What the policy sees.

        Returns:
            Positions but for x and y, velocities, and for each body force and torque
            of its contacts, clipped to +-1.
        """
        parts = [physics.qpos[2:], physics.qvel]
        if self.contact_forces:
            parts.append(_forces(physics)[1:].ravel())
        return jnp.concatenate(parts)

    def control(self, action: Float[Array, " 8"]) -> Float[Array, " 8"]:
        """The action, clipped to +-1 as the simulator would do itself."""
        return self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 8"]
    ) -> Float[Array, ""]:
        """Velocity along x and the bonus, less the costs of control and contact."""
        start, end = (x.derived["xpos"][_TORSO, 0] for x in (before, after))
        control = _CONTROL_COST * jnp.sum(jnp.square(action))
        contact = _CONTACT_COST * jnp.sum(jnp.square(_forces(after)))
        reward = (end - start) / _CONTROL_STEP - control - contact
        if self.survival_bonus:
            reward += (~self.terminated(after)).astype(reward.dtype)
        return reward

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the torso is out of its range or anything is not finite."""
        height = physics.qpos[2]
        finite = jnp.all(jnp.isfinite(jnp.concatenate([physics.qpos, physics.qvel])))
        return ~(finite & (height >= _LOWEST) & (height <= _HIGHEST))


def _forces(physics: Physics) -> Float[Array, "bodies 6"]:
    return jnp.clip(physics.derived["cfrc_ext"], -_FORCE_LIMIT, _FORCE_LIMIT)
