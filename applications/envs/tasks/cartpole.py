"""CartPole: a pole hinged on a cart, pushed left or right with a constant force."""

import math
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from applications.envs._canvas import ACCENT, BODY, Canvas, DARK, GROUND, LINE
from applications.envs._facts import Parameter, Signal, TaskFacts
from applications.envs._spaces import Discrete
from applications.envs._task import AbstractTask


# Gymnasium 1.4.0, CartPole-v1. SI units throughout.
_GRAVITY = 9.8
_POLE_MASS = 0.1
_TOTAL_MASS = 1.0 + _POLE_MASS
_HALF_LENGTH = 0.5
_FORCE = 10.0
_TIME_STEP = 0.02
_POSITION_LIMIT = 2.4
_ANGLE_LIMIT = math.radians(12)
_RESET_RANGE = 0.05
# A reward of 1 a step for up to 500 steps; the speed is the cart's, in m/s.
_FACTS = TaskFacts(
    (0.0, 500.0),
    (Signal("speed", 1, -0.5, 0.5),),
    _TIME_STEP,
    Parameter("half-length", 0.2, 2.0, own=_HALF_LENGTH),
)


@final
class CartPole(AbstractTask):
    """Gymnasium's `CartPole-v1`, in closed form.

    The state is also the observation: cart position (m), cart velocity (m/s), pole
    angle from upright (rad), pole angular velocity (rad/s). The reward is 1 on every
    step, the last one included.

    Reference: Barto, Sutton, Anderson (1983), in Florian's corrected form (2007,
    equations 23 and 24 without friction), integrated by explicit Euler at 0.02 s.

    Attributes:
        horizon: The time limit, in steps.
        half_length: From the pole's hinge to its middle, in m: of a variant. The pole
            has the same mass, however long.
    """

    observation_size: ClassVar[int] = 4
    action_space: ClassVar[Discrete] = Discrete(2)
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=500)
    half_length: float | Float[Array, ""] = _HALF_LENGTH

    def variant(self, value: float | Float[Array, ""]) -> "CartPole":
        """The task with another pole, whose half-length in m is the value."""
        return CartPole(self.horizon, value)

    def reset(self, *, key: PRNGKeyArray) -> Float[Array, " 4"]:
        """Draws a start state.

        Returns:
            Four numbers, each uniform in [-0.05, 0.05).
        """
        return jax.random.uniform(key, (4,), minval=-_RESET_RANGE, maxval=_RESET_RANGE)

    def observe(self, state: Float[Array, " 4"]) -> Float[Array, " 4"]:
        """The state itself."""
        return state

    def step(
        self, state: Float[Array, " 4"], action: Int[Array, ""]
    ) -> tuple[Float[Array, " 4"], Float[Array, ""], Bool[Array, ""]]:
        """Advances 0.02 s.

        Args:
            state: Position, velocity, angle, angular velocity.
            action: 1 pushes to the right with 10 N, anything else to the left.

        Returns:
            The next state, the reward 1, and whether the cart left +-2.4 m or the
            pole +-12 degrees.
        """
        position, velocity, angle, angular_velocity = state
        force = jnp.where(action == 1, _FORCE, -_FORCE)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        pole_moment = _POLE_MASS * self.half_length
        push = (force + pole_moment * angular_velocity**2 * sine) / _TOTAL_MASS
        angular_acceleration = (_GRAVITY * sine - cosine * push) / (
            self.half_length * (4.0 / 3.0 - _POLE_MASS * cosine**2 / _TOTAL_MASS)
        )
        acceleration = push - pole_moment * angular_acceleration * cosine / _TOTAL_MASS
        rate = jnp.stack(
            [velocity, acceleration, angular_velocity, angular_acceleration]
        )
        after = state + _TIME_STEP * rate
        terminated = (jnp.abs(after[0]) > _POSITION_LIMIT) | (
            jnp.abs(after[2]) > _ANGLE_LIMIT
        )
        return after, jnp.ones_like(position), terminated

    def draw(
        self, state: Float[Array, " 4"], height: int, width: int
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Draws a state.

        Args:
            state: Position, velocity, angle, angular velocity.
            height: Of the picture, in pixels.
            width: Likewise.

        Returns:
            The picture.
        """
        x, _, angle, _ = map(float, state)
        edge = _POSITION_LIMIT + 0.3
        canvas = Canvas(height, width, left=-edge, right=edge, bottom=-1.2)
        canvas.polygon([(-9.0, -9.0), (9.0, -9.0), (9.0, -0.25), (-9.0, -0.25)], GROUND)
        canvas.line([(-_POSITION_LIMIT, -0.25), (_POSITION_LIMIT, -0.25)], 0.03, LINE)
        for wheel in (x - 0.18, x + 0.18):
            canvas.disc((wheel, -0.16), 0.08, DARK)
        left, right = x - 0.32, x + 0.32
        canvas.polygon([(left, -0.12), (right, -0.12), (right, 0.1), (left, 0.1)], BODY)
        length = 2 * float(self.half_length)
        tip = (x + length * math.sin(angle), length * math.cos(angle))
        canvas.line([(x, 0.0), tip], 0.09, ACCENT)
        canvas.disc((x, 0.0), 0.05, DARK)
        return canvas.array()
