"""What a task is: pure functions over an explicit state, and two kinds of action."""

import abc
import dataclasses
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


State: TypeAlias = Any
Integrator: TypeAlias = Literal["euler", "rk4", "implicitfast"]


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Actions are vectors inside a box.

    Attributes:
        low: Lower bound of every component.
        high: Upper bound of every component.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self):
        if len(self.low) != len(self.high):
            raise ValueError(
                f"low has {len(self.low)} components and high {len(self.high)}; "
                "they must be equally many."
            )

    @property
    def output_size(self) -> int:
        """How many numbers a policy for this kind of action puts out."""
        return len(self.low)

    def select(self, output: Float[Array, " outputs"]) -> Float[Array, " outputs"]:
        """The action for a policy's output: the output itself."""
        return output

    def clip(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        """The nearest action inside the box."""
        low = jnp.asarray(self.low, action.dtype)
        return jnp.clip(action, low, jnp.asarray(self.high, action.dtype))


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of finitely many actions.

    Attributes:
        count: How many there are.
    """

    count: int

    @property
    def output_size(self) -> int:
        """How many numbers a policy for this kind of action puts out."""
        return self.count

    def select(self, output: Float[Array, " outputs"]) -> Int[Array, ""]:
        """The action for a policy's output: the index of the largest entry."""
        return jnp.argmax(output).astype(jnp.int32)


ActionSpace: TypeAlias = Continuous | Discrete


class AbstractEnvironment(eqx.Module):
    """What a policy is made for, however it is stepped.

    Attributes:
        observation_size: Length of an observation.
        action_space: What actions are.
        horizon: The time limit, in control steps.
    """

    observation_size: eqx.AbstractVar[int]
    action_space: eqx.AbstractVar[ActionSpace]
    horizon: eqx.AbstractVar[int]


class AbstractTask(AbstractEnvironment):
    """An episodic task as pure functions of an explicit state.

    Everything is written for one episode and safe under `jax.jit` and `jax.vmap`.
    The state is any pytree of arrays. `step` ends an episode only where the task
    says so (`terminated`); the time limit `horizon` is the rollout's business.
    """

    @abc.abstractmethod
    def reset(self, *, key: PRNGKeyArray) -> State:
        """Draws a start state."""

    @abc.abstractmethod
    def observe(self, state: State) -> Float[Array, " observation"]:
        """What the policy sees of a state."""

    @abc.abstractmethod
    def step(
        self, state: State, action: Float[Array, " action"] | Int[Array, ""]
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Advances one control step.

        Args:
            state: The state before.
            action: One action of `action_space`.

        Returns:
            The next state, the reward of this step, and whether the task ended here.
        """
