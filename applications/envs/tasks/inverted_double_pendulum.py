"""InvertedDoublePendulum: two poles on a cart, one upon the other."""

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


# Gymnasium 1.4.0, InvertedDoublePendulum-v5.
_LOWEST_TIP, _HIGHEST_TIP = 1.0, 2.0  # m
_OBSERVATION_LIMIT = 10.0
_BONUS = 10.0
_NOISE = 0.1
# With the bonus, nearly 10 a step.
_FACTS = TaskFacts(return_range=(0.0, 10_000.0))


@final
class InvertedDoublePendulum(AbstractMujocoDefinition):
    """Gymnasium's `InvertedDoublePendulum-v5`.

    The reward of a step is 10 if it does not end the task, less penalties for where
    the tip is and how fast the poles turn. It ends where the tip sinks to 1 m. The tip
    is where the simulator has it, one simulation step behind the observed joints.

    Attributes:
        horizon: The time limit, in control steps of 0.05 s.
        survival_bonus: Whether a step that does not end the task earns 10.
        integrator: How to integrate; None for Gymnasium's way, RK4.
    """

    observation_size: ClassVar[int] = 9
    action_space: ClassVar[Continuous] = Continuous((-1.0,), (1.0,))
    frame_skip: ClassVar[int] = 5
    derived: ClassVar[tuple[str, ...]] = ("site_xpos", "qfrc_constraint")
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=1000)
    survival_bonus: bool = eqx.field(static=True, default=True)
    integrator: Integrator | None = eqx.field(static=True, default=None)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `inverted_double_pendulum.xml`."""
        return gymnasium_model("inverted_double_pendulum", self.integrator)

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " 3"], Float[Array, " 3"]]:
        """Draws a start state.

        Returns:
            Positions uniform in [-0.1, 0.1), velocities normal with deviation 0.1.
        """
        position_key, velocity_key = jax.random.split(key)
        qpos = jax.random.uniform(position_key, (3,), minval=-_NOISE, maxval=_NOISE)
        return qpos, _NOISE * jax.random.normal(velocity_key, (3,))

    def observe(self, physics: Physics) -> Float[Array, " 9"]:
        """What the policy sees.

        Returns:
            Position of the cart (m), sines and cosines of both angles, velocities
            (m/s, rad/s) and the force of constraints on the cart (N), the last four
            clipped to +-10.
        """
        limit = _OBSERVATION_LIMIT
        angles = physics.qpos[1:]
        return jnp.concatenate(
            [
                physics.qpos[:1],
                jnp.sin(angles),
                jnp.cos(angles),
                jnp.clip(physics.qvel, -limit, limit),
                jnp.clip(physics.derived["qfrc_constraint"][:1], -limit, limit),
            ]
        )

    def control(self, action: Float[Array, " 1"]) -> Float[Array, " 1"]:
        """The action, clipped to +-1 as the simulator would do itself."""
        return self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 1"]
    ) -> Float[Array, ""]:
        """The bonus, less 0.01 x^2 + (y - 2)^2 + 0.001 v1^2 + 0.005 v2^2.

        With the tip at (x, y), in m, and the angles' velocities v1 and v2, in rad/s.
        """
        x, y = _tip(after)
        distance = 0.01 * x**2 + (y - _HIGHEST_TIP) ** 2
        speed = 1e-3 * after.qvel[1] ** 2 + 5e-3 * after.qvel[2] ** 2
        reward = -distance - speed
        if self.survival_bonus:
            reward += _BONUS * (~self.terminated(after)).astype(reward.dtype)
        return reward

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the tip is at 1 m or below."""
        _, height = _tip(physics)
        return height <= _LOWEST_TIP


def _tip(physics: Physics) -> tuple[Float[Array, ""], Float[Array, ""]]:
    place = physics.derived["site_xpos"][0]
    return place[0], place[2]
