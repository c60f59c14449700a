"""MountainCarContinuous: a car too weak for the hill that it is to climb."""

import math
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from applications.envs._canvas import ACCENT, BODY, Canvas, DARK, GROUND, LINE
from applications.envs._facts import TaskFacts
from applications.envs._spaces import Continuous
from applications.envs._task import AbstractTask


# Gymnasium 1.4.0, MountainCarContinuous-v0.
_LEFT_END, _RIGHT_END = -1.2, 0.6
_GOAL = 0.45
_FASTEST = 0.07
_POWER, _SLOPE = 0.0015, 0.0025
_FIRST, _LAST = -0.6, -0.4
# The range of Faccio et al. (2022): 999 steps of full force lose a tenth each, and the
# goal pays 100.
_FACTS = TaskFacts(return_range=(-100.0, 100.0))


@final
class MountainCarContinuous(AbstractTask):
    """Gymnasium's `MountainCarContinuous-v0`, in closed form.

    The state is also the observation: position and velocity, in units of the task.
    Each step costs a tenth of the action's square, before it is clipped to +-1; the
    goal, at 0.45 to the right, pays 100 and ends the episode.

    Reference: Moore (1990), "Efficient Memory-based Learning for Robot Control".

    Attributes:
        horizon: The time limit, in steps.
    """

    observation_size: ClassVar[int] = 2
    action_space: ClassVar[Continuous] = Continuous((-1.0,), (1.0,))
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=999)

    def reset(self, *, key: PRNGKeyArray) -> Float[Array, " 2"]:
        """Draws a start state: at rest, uniform in [-0.6, -0.4)."""
        position = jax.random.uniform(key, minval=_FIRST, maxval=_LAST)
        return jnp.stack([position, jnp.zeros_like(position)])

    def observe(self, state: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """The state itself."""
        return state

    def step(
        self, state: Float[Array, " 2"], action: Float[Array, " 1"]
    ) -> tuple[Float[Array, " 2"], Float[Array, ""], Bool[Array, ""]]:
        """Advances one step.

        Args:
            state: Position and velocity.
            action: Force, as a fraction of the engine's own.

        Returns:
            The next state, the reward, and whether the car is at the goal.
        """
        position, velocity = state
        force = self.action_space.clip(action)[0]
        velocity = velocity + force * _POWER - _SLOPE * jnp.cos(3 * position)
        velocity = jnp.clip(velocity, -_FASTEST, _FASTEST)
        position = jnp.clip(position + velocity, _LEFT_END, _RIGHT_END)
        # The wall on the left stops the car.
        stopped = (position == _LEFT_END) & (velocity < 0)
        velocity = jnp.where(stopped, 0.0, velocity)
        terminated = (position >= _GOAL) & (velocity >= 0)
        reward = 100.0 * terminated.astype(state.dtype) - 0.1 * action[0] ** 2
        return jnp.stack([position, velocity]), reward, terminated

    def draw(
        self, state: Float[Array, " 2"], height: int, width: int
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Draws a state.

        Args:
            state: Position and velocity.
            height: Of the picture, in pixels.
            width: Likewise.

        Returns:
            The picture.
        """
        x = float(state[0])
        canvas = Canvas(height, width, left=-1.25, right=0.65, bottom=-0.1)
        xs = np.linspace(-1.3, 0.7, 200)
        hill = list(zip(xs.tolist(), _height(xs).tolist(), strict=True))
        canvas.polygon([(-1.3, -1.0), *hill, (0.7, -1.0)], GROUND)
        canvas.line(hill, 0.012, LINE)
        foot = float(_height(_GOAL))
        canvas.line([(_GOAL, foot), (_GOAL, foot + 0.18)], 0.01, DARK)
        flag = [(_GOAL, foot + 0.18), (_GOAL + 0.09, foot + 0.15), (_GOAL, foot + 0.12)]
        canvas.polygon(flag, ACCENT)
        # Along the slope, and away from it.
        angle = math.atan(3 * 0.45 * math.cos(3 * x))
        along, away = (
            (math.cos(angle), math.sin(angle)),
            (-math.sin(angle), math.cos(angle)),
        )
        at = lambda a, b: (
            x + a * along[0] + b * away[0],
            float(_height(x)) + a * along[1] + b * away[1],
        )
        corners = ((-0.07, 0.03), (0.07, 0.03), (0.05, 0.09), (-0.05, 0.09))
        canvas.polygon([at(*corner) for corner in corners], BODY)
        for wheel in (-0.04, 0.04):
            canvas.disc(at(wheel, 0.025), 0.022, DARK)
        return canvas.array()


def _height(x: Any) -> Any:
    """Of the hill, as Gymnasium draws it."""
    return 0.45 * np.sin(3 * x) + 0.55
