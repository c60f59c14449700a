from typing import final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractTask, ActionSpace, Continuous


@final
class MLPPolicy(eqx.Module):
    """A deterministic multilayer perceptron from observations to actions.

    Hidden units are tanh. For continuous actions the output is squashed by tanh into
    the action box, as in Faccio et al. (2021); for discrete ones it holds a preference
    for each action, of which the largest is taken.

    Attributes:
        layers: The linear layers.
        action_space: The kind of action.
    """

    layers: tuple[eqx.nn.Linear, ...]
    action_space: ActionSpace = eqx.field(static=True)

    def __init__(
        self, task: AbstractTask, hidden: tuple[int, ...], *, key: PRNGKeyArray
    ):
        """Draws a policy for a task.

        Args:
            task: What it will act in.
            hidden: Width of each hidden layer; none gives a linear policy.
            key: Source of randomness.
        """
        sizes = (task.observation_size, *hidden, task.action_space.output_size)
        keys = jr.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(fan_in, fan_out, key=layer_key)
            for fan_in, fan_out, layer_key in zip(
                sizes[:-1], sizes[1:], keys, strict=True
            )
        )
        self.action_space = task.action_space

    def __call__(
        self, observation: Float[Array, " observation"]
    ) -> Float[Array, " outputs"]:
        """The policy's output for one observation.

        Args:
            observation: What the task shows.

        Returns:
            An action inside the box, or one preference for each discrete action;
            `action_space.select` makes the action of it.
        """
        x = observation
        for layer in self.layers[:-1]:
            x = jnp.tanh(layer(x))
        x = self.layers[-1](x)
        if isinstance(self.action_space, Continuous):
            low = jnp.asarray(self.action_space.low, x.dtype)
            high = jnp.asarray(self.action_space.high, x.dtype)
            x = (low + high) / 2 + (high - low) / 2 * jnp.tanh(x)
        return x
