"""InvertedPendulum: a pole on a cart that a motor drives along a rail."""

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


# Gymnasium 1.4.0, InvertedPendulum-v5.
_ACTION_LIMIT = 3.0
_ANGLE_LIMIT = 0.2
_RESET_RANGE = 0.01
# The range of Faccio et al. (2022): 1 a step.
_FACTS = TaskFacts(return_range=(0.0, 1000.0))


@final
class InvertedPendulum(AbstractMujocoDefinition):
    """Gymnasium's `InvertedPendulum-v5`.

    Observations are cart position (m), pole angle (rad), and their velocities. The
    reward is 1 for every step that does not end the task. RK4 at 0.02 s, two
    simulation steps a control step.

    Attributes:
        horizon: The time limit, in control steps.
        integrator: How to integrate; None for Gymnasium's way, RK4.
    """

    observation_size: ClassVar[int] = 4
    action_space: ClassVar[Continuous] = Continuous((-_ACTION_LIMIT,), (_ACTION_LIMIT,))
    frame_skip: ClassVar[int] = 2
    derived: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=1000)
    integrator: Integrator | None = eqx.field(static=True, default=None)

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's `inverted_pendulum.xml`."""
        return gymnasium_model("inverted_pendulum", self.integrator)

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " 2"], Float[Array, " 2"]]:
        """Draws positions and velocities, each uniform in [-0.01, 0.01)."""
        qpos, qvel = jax.random.uniform(
            key, (2, 2), minval=-_RESET_RANGE, maxval=_RESET_RANGE
        )
        return qpos, qvel

    def observe(self, physics: Physics) -> Float[Array, " 4"]:
        """Positions, then velocities."""
        return jnp.concatenate([physics.qpos, physics.qvel])

    def control(self, action: Float[Array, " 1"]) -> Float[Array, " 1"]:
        """The action, clipped to +-3 as the simulator would do itself."""
        return self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " 1"]
    ) -> Float[Array, ""]:
        """1 where the task goes on, 0 where it ends."""
        return (~self.terminated(after)).astype(after.qpos.dtype)

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the pole leans by more than 0.2 rad or anything is not finite."""
        finite = jnp.all(jnp.isfinite(self.observe(physics)))
        return ~finite | (jnp.abs(physics.qpos[1]) > _ANGLE_LIMIT)
