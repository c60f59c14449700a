"""Reacher: a two-jointed arm in a plane that is to touch a target."""

from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._facts import TaskFacts
from applications.envs._spaces import Continuous
from applications.envs._task import Integrator
from applications.envs.mujoco import (
    AbstractMujocoDefinition,
    gymnasium_model,
    Physics,
)


# Gymnasium 1.4.0, Reacher-v5.
_FINGERTIP, _TARGET = 3, 4  # rows of `xpos`
_REACH = 0.2  # m: targets lie in a disc of this radius
_ANGLE_NOISE, _VELOCITY_NOISE = 0.1, 0.005  # rad, rad/s
# Arms that flail lose about 1 a step, in 50 steps.
_FACTS = TaskFacts(return_range=(-50.0, 0.0))


@final
class Reacher(AbstractMujocoDefinition):
    """Gymnasium's `Reacher-v5`.

    The reward of a step is minus the distance from the fingertip to the target (m),
    minus the action's square. That distance is the simulator's, one simulation step
    behind the observed joints. Actions are the torques of both joints, as fractions of
    200 N m, clipped to +-1. Nothing but the time limit ends it.

    Attributes:
        horizon: The time limit, in control steps of 0.02 s.
        integrator: How to integrate; None for Gymnasium's way, RK4.
    """

    observation_size: ClassVar[int] = 10
    action_space: ClassVar[Continuous] = Continuous((-1.0, -1.0), (1.0, 1.0))
    frame_skip: ClassVar[int] = 2
    derived: ClassVar[tuple[str, ...]] = ("xpos",)
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=50)
    integrator: Integrator | None = eqx.field(static=True, default=None)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `reacher.xml`."""
        return gymnasium_model("reacher", self.integrator)

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " 4"], Float[Array, " 4"]]:
        """Draws a start state.

        Returns:
            Both angles uniform within 0.1 rad and the target uniform in a disc of
            0.2 m; the angles' velocities uniform within 0.005 rad/s.
        """
        angle_key, radius_key, direction_key, velocity_key = jax.random.split(key, 4)
        angles = jax.random.uniform(
            angle_key, (2,), minval=-_ANGLE_NOISE, maxval=_ANGLE_NOISE
        )
        # The area within a radius grows with its square.
        radius = _REACH * jnp.sqrt(jax.random.uniform(radius_key))
        direction = 2 * jnp.pi * jax.random.uniform(direction_key)
        target = radius * jnp.stack([jnp.cos(direction), jnp.sin(direction)])
        velocities = jax.random.uniform(
            velocity_key, (2,), minval=-_VELOCITY_NOISE, maxval=_VELOCITY_NOISE
        )
        qvel = jnp.concatenate([velocities, jnp.zeros(2)])
        return jnp.concatenate([angles, target]), qvel

    def observe(self, physics: Physics) -> Float[Array, " 10"]:
        """What the policy sees.

        Returns:
            Cosines and sines of both angles, the target's place (m), the angles'
            velocities (rad/s), and from the target to the fingertip in the plane (m).
        """
        angles = physics.qpos[:2]
        return jnp.concatenate(
            [
                jnp.cos(angles),
                jnp.sin(angles),
                physics.qpos[2:],
                physics.qvel[:2],
                _miss(physics)[:2],
            ]
        )

    def control(self, action: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """The action, clipped to +-1 as the simulator would do itself."""
        return self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 2"]
    ) -> Float[Array, ""]:
        """Minus the distance, minus the action's square."""
        distance = jnp.sqrt(jnp.sum(jnp.square(_miss(after))))
        return -distance - jnp.sum(jnp.square(action))

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Never."""
        return jnp.zeros((), bool)


def _miss(physics: Physics) -> Float[Array, " 3"]:
    places = physics.derived["xpos"]
    return places[_FINGERTIP] - places[_TARGET]
