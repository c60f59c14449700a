"""Gymnasium's planar runners: swimmer, hopper, half-cheetah and walker.

One definition, of which the four tasks are settings: they observe, reward and end in
the same way and differ in numbers.
"""

import math
from typing import ClassVar, final, Literal

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


@final
class Runner(AbstractMujocoDefinition):
    """A robot that is to run along x, as Gymnasium 1.4.0 defines it (version 5).

    Observations are positions but for those that tell where the robot is, then
    velocities. Actions are torques as fractions of the motors' own, clipped to +-1.
    The reward of a step is the mean velocity along x (m/s), less `control_cost` times
    the action's square, plus 1 while the robot is healthy, if it has such a bonus. The
    cost is of the action before it is clipped.

    Attributes:
        observation_size: Length of an observation.
        action_space: The box that actions lie in.
        robot: Name of Gymnasium's XML file.
        home: Positions that start states are drawn around.
        velocities: How many velocities there are.
        hidden: How many of the first positions are not observed.
        frame_skip: Simulation steps in one control step.
        control_step: Duration of a control step, in s.
        control_cost: Weight of the action's square.
        velocity_limit: Observed velocities are clipped to this, in their units.
        noise: Scale of what is added to the start.
        velocity_noise: Law of what is added to velocities; that of positions is
            uniform.
        healthy_height: Range of the second position, in m, in which the robot is
            healthy; it does not end there.
        healthy_angle: Range of the third position, in rad.
        healthy_rest: Range of all that follows, positions and velocities.
        horizon: The time limit, in control steps.
        survival_bonus: Whether a healthy step earns 1, in tasks that end.
        integrator: How to integrate; None for Gymnasium's way.
        facts: What else is known of the task.
    """

    observation_size: int = eqx.field(static=True)
    action_space: Continuous = eqx.field(static=True)
    robot: str = eqx.field(static=True)
    home: tuple[float, ...] = eqx.field(static=True)
    velocities: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True)
    frame_skip: int = eqx.field(static=True)
    control_step: float = eqx.field(static=True)
    control_cost: float = eqx.field(static=True)
    velocity_limit: float = eqx.field(static=True, default=math.inf)
    noise: float = eqx.field(static=True, default=0.1)
    velocity_noise: Literal["uniform", "normal"] = eqx.field(
        static=True, default="uniform"
    )
    healthy_height: tuple[float, float] | None = eqx.field(static=True, default=None)
    healthy_angle: tuple[float, float] | None = eqx.field(static=True, default=None)
    healthy_rest: tuple[float, float] | None = eqx.field(static=True, default=None)
    horizon: int = eqx.field(static=True, default=1000)
    survival_bonus: bool = eqx.field(static=True, default=True)
    integrator: Integrator | None = eqx.field(static=True, default=None)
    facts: TaskFacts = eqx.field(static=True, default=TaskFacts())
    derived: ClassVar[tuple[str, ...]] = ()

    def model(self) -> mujoco.MjModel:
        """Compiles Gymnasium's XML file."""
        return gymnasium_model(self.robot, self.integrator)

    def initial(
        self, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " positions"], Float[Array, " velocities"]]:
        """Draws positions around `home`, and velocities around 0."""
        position_key, velocity_key = jax.random.split(key)
        limit = self.noise
        qpos = jnp.asarray(self.home) + jax.random.uniform(
            position_key, (len(self.home),), minval=-limit, maxval=limit
        )
        shape = (self.velocities,)
        if self.velocity_noise == "normal":
            return qpos, limit * jax.random.normal(velocity_key, shape)
        return qpos, jax.random.uniform(
            velocity_key, shape, minval=-limit, maxval=limit
        )

    def observe(self, physics: Physics) -> Float[Array, " observation"]:
        """Positions but for the first ones, then velocities."""
        limit = self.velocity_limit
        qvel = physics.qvel
        if math.isfinite(limit):
            qvel = jnp.clip(qvel, -limit, limit)
        return jnp.concatenate([physics.qpos[self.hidden :], qvel])

    def control(self, action: Float[Array, " action"]) -> Float[Array, " controls"]:
        """The action, clipped to +-1 as the simulator would do itself."""
        return self.action_space.clip(action)

    def reward(
        self, before: Physics, after: Physics, action: Float[Array, " action"]
    ) -> Float[Array, ""]:
        """Velocity along x, less the cost of control, plus the bonus."""
        velocity = (after.qpos[0] - before.qpos[0]) / self.control_step
        reward = velocity - self.control_cost * jnp.sum(jnp.square(action))
        if self.survival_bonus and self.healthy_height is not None:
            reward += (~self.terminated(after)).astype(reward.dtype)
        return reward

    def terminated(self, physics: Physics) -> Bool[Array, ""]:
        """Whether the robot is no longer healthy, where that is asked for."""
        healthy = jnp.ones((), bool)
        rest = jnp.concatenate([physics.qpos[2:], physics.qvel])
        for x, limits in (
            (physics.qpos[1], self.healthy_height),
            (physics.qpos[2], self.healthy_angle),
            (rest, self.healthy_rest),
        ):
            if limits is not None:
                low, high = limits
                healthy &= jnp.all((low < x) & (x < high))
        return ~healthy


def swimmer(*, horizon: int = 1000, integrator: Integrator | None = None) -> Runner:
    """`Swimmer-v5`: three links in a viscous fluid. It has no end but the time limit.

    Args:
        horizon: The time limit, in control steps of 0.04 s.
        integrator: How to integrate; None for Gymnasium's way, RK4.

    Returns:
        The task.
    """
    return Runner(
        observation_size=8,
        action_space=_unit_box(2),
        robot="swimmer",
        home=5 * (0.0,),
        velocities=5,
        hidden=2,
        frame_skip=4,
        control_step=0.04,
        control_cost=1e-4,
        horizon=horizon,
        integrator=integrator,
        # The range of Faccio et al. (2022).
        facts=_facts((-100.0, 365.0), 3, -0.2, 0.4, 0.04),
    )


def hopper(
    *,
    horizon: int = 1000,
    survival_bonus: bool = True,
    integrator: Integrator | None = None,
) -> Runner:
    """`Hopper-v5`: one leg. It ends below 0.7 m and beyond 0.2 rad of lean.

    Args:
        horizon: The time limit, in control steps of 0.008 s.
        survival_bonus: Whether a healthy step earns 1.
        integrator: How to integrate; None for Gymnasium's way, RK4.

    Returns:
        The task.
    """
    return Runner(
        observation_size=11,
        action_space=_unit_box(3),
        robot="hopper",
        home=(0.0, 1.25, 0.0, 0.0, 0.0, 0.0),
        velocities=6,
        hidden=1,
        frame_skip=4,
        control_step=0.008,
        control_cost=1e-3,
        velocity_limit=10.0,
        noise=5e-3,
        healthy_height=(0.7, math.inf),
        healthy_angle=(-0.2, 0.2),
        healthy_rest=(-100.0, 100.0),
        horizon=horizon,
        survival_bonus=survival_bonus,
        integrator=integrator,
        # The range of Faccio et al. (2022), without the bonus.
        facts=_facts((-100.0, 3000.0), 5, 0.0, 3.0, 0.008),
    )


def half_cheetah(
    *, horizon: int = 1000, integrator: Integrator | None = None
) -> Runner:
    """`HalfCheetah-v5`: two legs. It has no end but the time limit.

    Args:
        horizon: The time limit, in control steps of 0.05 s.
        integrator: How to integrate; None for Gymnasium's way, Euler.

    Returns:
        The task.
    """
    return Runner(
        observation_size=17,
        action_space=_unit_box(6),
        robot="half_cheetah",
        home=9 * (0.0,),
        velocities=9,
        hidden=1,
        frame_skip=5,
        control_step=0.05,
        control_cost=0.1,
        velocity_noise="normal",
        horizon=horizon,
        integrator=integrator,
        # 4 to 5 m/s over 1,000 steps, less the cost of control.
        facts=_facts((-100.0, 4000.0), 8, 0.0, 5.0, 0.05),
    )


def walker2d(
    *,
    horizon: int = 1000,
    survival_bonus: bool = True,
    integrator: Integrator | None = None,
) -> Runner:
    """`Walker2d-v5`: two legs. It ends outside 0.8 to 2 m and beyond 1 rad of lean.

    Args:
        horizon: The time limit, in control steps of 0.008 s.
        survival_bonus: Whether a healthy step earns 1.
        integrator: How to integrate; None for Gymnasium's way, RK4.

    Returns:
        The task.
    """
    return Runner(
        observation_size=17,
        action_space=_unit_box(6),
        robot="walker2d_v5",
        home=(0.0, 1.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        velocities=9,
        hidden=1,
        frame_skip=4,
        control_step=0.008,
        control_cost=1e-3,
        velocity_limit=10.0,
        noise=5e-3,
        healthy_height=(0.8, 2.0),
        healthy_angle=(-1.0, 1.0),
        horizon=horizon,
        survival_bonus=survival_bonus,
        integrator=integrator,
        # As of the hopper, without the bonus.
        facts=_facts((-100.0, 3000.0), 8, 0.0, 3.0, 0.008),
    )


def _unit_box(motors: int) -> Continuous:
    return Continuous(motors * (-1.0,), motors * (1.0,))


def _facts(
    return_range: tuple[float, float],
    index: int,
    low: float,
    high: float,
    control_step: float,
) -> TaskFacts:
    """Of a task that shows its velocity along x, in m/s."""
    return TaskFacts(return_range, (Signal("speed", index, low, high),), control_step)
