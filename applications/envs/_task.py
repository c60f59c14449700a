"""What a task is: pure functions over an explicit state."""

import abc
from typing import Any, Literal, TypeAlias

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from applications.envs._facts import TaskFacts
from applications.envs._spaces import ActionSpace


State: TypeAlias = Any
Integrator: TypeAlias = Literal["euler", "rk4", "implicitfast"]


class AbstractEnvironment(eqx.Module):
    """What a policy is made for, however it is stepped.

    Attributes:
        observation_size: Length of an observation.
        action_space: What actions are.
        horizon: The time limit, in control steps.
        facts: What is known of the task beside that: nothing, unless a task says so
            in a static field of its own.
    """

    # Not annotated: a dataclass would put it before all fields of those that say more.
    facts = TaskFacts()
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
