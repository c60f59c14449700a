"""LQR: a point on a line that is to come to rest, for pictures of value functions."""

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._facts import TaskFacts
from applications.envs._spaces import Continuous
from applications.envs._task import AbstractTask


_LIMIT = 2.0
# At worst -s^2 - a^2 = -20 in each of 50 steps.
_FACTS = TaskFacts(return_range=(-1000.0, 0.0))


@final
class LQR(AbstractTask):
    """A linear system with quadratic costs, in one dimension.

    The next state is s + a, clipped to +-2; the reward is -s^2 - a^2. Episodes start
    at 1 and end with the time limit alone. A policy of one weight and a bias has a
    return that can be drawn over both.

    Source: Faccio et al. (2021), whose visualisation is of such a task; their numbers
    are not published, these follow a later implementation.

    Attributes:
        horizon: The time limit, in steps.
    """

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-2 * _LIMIT,), (2 * _LIMIT,))
    facts: ClassVar[TaskFacts] = _FACTS
    horizon: int = eqx.field(static=True, default=50)

    def reset(self, *, key: PRNGKeyArray) -> Float[Array, " 1"]:
        """The start state, 1. Nothing is drawn."""
        return jnp.ones(1)

    def observe(self, state: Float[Array, " 1"]) -> Float[Array, " 1"]:
        """The state itself."""
        return state

    def step(
        self, state: Float[Array, " 1"], action: Float[Array, " 1"]
    ) -> tuple[Float[Array, " 1"], Float[Array, ""], Bool[Array, ""]]:
        """Advances one step.

        Args:
            state: Where the point is.
            action: How far it is to go, clipped to +-4.

        Returns:
            The next state, the reward, and that the task never ends.
        """
        action = self.action_space.clip(action)
        after = jnp.clip(state + action, -_LIMIT, _LIMIT)
        reward = -jnp.sum(jnp.square(state)) - jnp.sum(jnp.square(action))
        return after, reward, jnp.zeros((), bool)
