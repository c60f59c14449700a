"""Outcomes: what a whole episode is worth, said once, at its end."""

import abc
from typing import Any, final, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


Accumulated: TypeAlias = Any


class AbstractOutcome(eqx.Module):
    """A return that is a function of the whole episode, as a pure accumulator.

    Everything is written for one episode and safe under `jax.jit` and `jax.vmap`. What
    is accumulated is any pytree of arrays, whose shapes and dtypes stay the same. The
    outcome itself holds no arrays: it must be hashable.
    """

    @abc.abstractmethod
    def start(self, observation: Float[Array, " observation"]) -> Accumulated:
        """What there is before the first step.

        Args:
            observation: The first observation.

        Returns:
            What is accumulated.
        """

    @abc.abstractmethod
    def step(
        self,
        accumulated: Accumulated,
        observation: Float[Array, " observation"],
        reward: Float[Array, ""],
    ) -> Accumulated:
        """Takes in a control step.

        Args:
            accumulated: What there is before it.
            observation: What there is to see after it.
            reward: The task's reward for it.

        Returns:
            What is accumulated then.
        """

    @abc.abstractmethod
    def value(self, accumulated: Accumulated) -> Float[Array, ""]:
        """The outcome of an episode that ends here.

        Args:
            accumulated: What there is.

        Returns:
            The return. An episode ends at the first one that is not finite.
        """


@final
class FinalX(AbstractOutcome):
    """How far the body has come: the sum of its speeds times the control step.

    Speeds are those after each step, along the axis that the task's speed is about.

    Attributes:
        speed: Where in an observation the speed is.
        control_step: Duration of a control step.
    """

    speed: int = eqx.field(static=True)
    control_step: float = eqx.field(static=True)

    def start(self, observation: Float[Array, " observation"]) -> Accumulated:
        """As of `AbstractOutcome`: it has come nowhere."""
        return jnp.zeros((), observation.dtype)

    def step(
        self,
        accumulated: Accumulated,
        observation: Float[Array, " observation"],
        reward: Float[Array, ""],
    ) -> Accumulated:
        """As of `AbstractOutcome`."""
        return accumulated + self.control_step * observation[self.speed]

    def value(self, accumulated: Accumulated) -> Float[Array, ""]:
        """As of `AbstractOutcome`."""
        return accumulated


@final
class MaxSpeed(AbstractOutcome):
    """The highest mean speed over a window; before the start the body is at rest.

    So it is 0 at least, and an episode that ends at once has not been fast.

    Attributes:
        speed: Where in an observation the speed is.
        window: Control steps in the window.
    """

    speed: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    def start(self, observation: Float[Array, " observation"]) -> Accumulated:
        """As of `AbstractOutcome`: the speeds in the window, and the highest mean."""
        zeros = jnp.zeros(self.window, observation.dtype)
        return zeros, jnp.zeros((), observation.dtype)

    def step(
        self,
        accumulated: Accumulated,
        observation: Float[Array, " observation"],
        reward: Float[Array, ""],
    ) -> Accumulated:
        """As of `AbstractOutcome`."""
        speeds, highest = accumulated
        speeds = jnp.concatenate([speeds[1:], observation[self.speed][None]])
        return speeds, jnp.maximum(highest, jnp.mean(speeds))

    def value(self, accumulated: Accumulated) -> Float[Array, ""]:
        """As of `AbstractOutcome`."""
        return accumulated[1]


@final
class SparseGoal(AbstractOutcome):
    """0, but for bodies that came beyond a goal at any time: those have 1/2 to 1.

    From 1 half the share of the time limit is taken off that the body took to the goal.

    Attributes:
        speed: Where in an observation the speed is.
        control_step: Duration of a control step.
        goal: The distance, in units of speed times control step.
        horizon: The time limit, in control steps.
    """

    speed: int = eqx.field(static=True)
    control_step: float = eqx.field(static=True)
    goal: float = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    def start(
        self, observation: Float[Array, " observation"]
    ) -> tuple[Float[Array, ""], Int[Array, ""], Bool[Array, ""]]:
        """As of `AbstractOutcome`: the way, steps to the goal, whether it is there."""
        zero = jnp.zeros((), observation.dtype)
        return zero, jnp.zeros((), jnp.int32), jnp.zeros((), bool)

    def step(
        self,
        accumulated: Accumulated,
        observation: Float[Array, " observation"],
        reward: Float[Array, ""],
    ) -> Accumulated:
        """As of `AbstractOutcome`."""
        way, steps, there = accumulated
        way = way + self.control_step * observation[self.speed]
        steps = steps + (~there).astype(steps.dtype)
        return way, steps, there | (way > self.goal)

    def value(self, accumulated: Accumulated) -> Float[Array, ""]:
        """As of `AbstractOutcome`."""
        way, steps, there = accumulated
        share = steps.astype(way.dtype) / self.horizon
        return jnp.where(there, 1 - share / 2, jnp.zeros_like(way))
