from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import ActionSpace, Continuous


@final
class NoisyPolicy(eqx.Module):
    """A policy with normal noise on its actions, for exploring.

    Noise goes on continuous actions, which stay in their box; discrete ones are left as
    they are.

    Attributes:
        policy: The policy.
        scale: Standard deviation of the noise, in halves of the range of an action.
    """

    policy: Any
    scale: Float[Array, ""]

    @property
    def action_space(self) -> ActionSpace:
        """The policy's."""
        return self.policy.action_space

    def __call__(
        self,
        observation: Float[Array, " observation"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " outputs"]:
        """The policy's output with noise.

        Args:
            observation: What the task shows.
            key: Draws the noise; there is none without.

        Returns:
            An action inside the box, or preferences without noise.
        """
        output, space = self.policy(observation, key=key), self.action_space
        if key is None or not isinstance(space, Continuous):
            return output
        low, high = jnp.asarray(space.low), jnp.asarray(space.high)
        noise = self.scale * (high - low) / 2 * jr.normal(key, output.shape)
        return space.clip(output + noise)
