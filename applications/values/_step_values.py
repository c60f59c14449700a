"""What values of single steps read: states, actions and policies."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from applications.envs import ActionSpace, Continuous
from applications.policies import AbstractPolicy, StochasticPolicy
from applications.rollout import Transitions
from applications.values._step_critic import AnyStepCritic, values_of


@final
class StepValue(eqx.Module):
    """How V(s, θ) or Q(s, a, θ) is asked of a policy.

    Continuous actions are read in halves of their range, discrete ones as 1 for the
    action and 0 for the others.

    Attributes:
        action_space: What actions are.
        reads_actions: Whether there is an a.
    """

    action_space: ActionSpace = eqx.field(static=True)
    reads_actions: bool = eqx.field(static=True)

    def drawn(self, transitions: Transitions) -> Float[Array, "*batch outputs"]:
        """What policies did: before tanh, where they record it; otherwise as read.

        Args:
            transitions: Of any batch shape.

        Returns:
            What a replay keeps.
        """
        if transitions.extras != ():
            return transitions.extras.drawn
        if isinstance(self.action_space, Continuous):
            return self._scaled(transitions.action)
        return jax.nn.one_hot(transitions.action, self.action_space.output_size)

    def conditions(
        self,
        states: Float[Array, "*batch observation"],
        drawn: Float[Array, "*batch outputs"],
        *,
        before_tanh: bool,
    ) -> Float[Array, "*batch conditions"]:
        """What a critic reads of states and of what was done there.

        Args:
            states: As the critic is shown them.
            drawn: As a replay keeps it.
            before_tanh: Whether that is before tanh.

        Returns:
            The states, and the actions after them if they are read.
        """
        if not self.reads_actions:
            return states
        return jnp.concatenate(
            [states, jnp.tanh(drawn) if before_tanh else drawn], axis=-1
        )

    def of_policy(
        self,
        critics: AnyStepCritic,
        read: PyTree,
        acting: AbstractPolicy,
        states: Float[Array, "states observation"],
        *,
        noise: float = 0.0,
        largest_noise: float = 0.0,
        key: PRNGKeyArray,
    ) -> Float[Array, "critics states"]:
        """Values of states, and of what a policy does there.

        Of a distribution over discrete actions it is the mean over them, of one over
        continuous ones the value of a draw.

        Args:
            critics: An ensemble.
            read: The policy in the place of θ. With `acting` it makes two of what is
                one policy, so that the gradient has two terms.
            acting: The policy that acts.
            states: As critics and policies are shown them.
            noise: Scale of noise on the actions of deterministic policies.
            largest_noise: Largest such noise.
            key: Draws actions and noise.

        Returns:
            What each critic says.
        """
        if not self.reads_actions:
            return values_of(critics, read, states)
        if not isinstance(self.action_space, Continuous):
            return self._mean_over_actions(critics, read, acting, states)
        keys = jr.split(key, len(states))
        if isinstance(acting, StochasticPolicy):
            draw = lambda state, key: jnp.tanh(acting.draw(state, key=key))
            actions = jax.vmap(draw)(states, keys)
        else:
            actions = self._scaled(jax.vmap(acting)(states))
        if noise:
            drawn = noise * jr.normal(key, actions.shape)
            drawn = jnp.clip(drawn, -largest_noise, largest_noise)
            actions = jnp.clip(actions + drawn, -1.0, 1.0)
        return values_of(critics, read, jnp.concatenate([states, actions], axis=-1))

    def _mean_over_actions(
        self,
        critics: AnyStepCritic,
        read: PyTree,
        acting: Any,
        states: Float[Array, "states observation"],
    ) -> Float[Array, "critics states"]:
        logits = jax.vmap(acting.mean.unbounded)(states)
        count = logits.shape[1]
        each = jnp.broadcast_to(jnp.eye(count), (len(states), count, count))
        where = jnp.broadcast_to(states[:, None], (len(states), count, states.shape[1]))
        values = values_of(critics, read, jnp.concatenate([where, each], axis=-1))
        return jnp.sum(values * jax.nn.softmax(logits)[None], axis=-1)

    def _scaled(self, actions: Float[Array, "*batch action"]) -> Float[Array, "..."]:
        """In halves of the range, from -1 to 1."""
        assert isinstance(self.action_space, Continuous)
        low = jnp.asarray(self.action_space.low, actions.dtype)
        high = jnp.asarray(self.action_space.high, actions.dtype)
        shape = (1,) * (actions.ndim - 1) + low.shape
        middle, half = (low + high) / 2, (high - low) / 2
        return (actions - middle.reshape(shape)) / half.reshape(shape)
