from typing import final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.rollout import Visits
from applications.stores._archive import Archive


@final
class StatePool(eqx.Module):
    """Observations that policies acted on in the last iterations.

    Attributes:
        visits: The observations, those of an iteration being one batch.
    """

    visits: Archive[Visits]

    @classmethod
    def empty(
        cls, per_iteration: int, iterations: int, observation_size: int
    ) -> "StatePool":
        """A pool without observations.

        Args:
            per_iteration: How many observations are added at once.
            iterations: Of how many iterations they are kept.
            observation_size: Length of an observation.

        Returns:
            The pool.
        """
        like = Visits(
            jnp.zeros((per_iteration, observation_size)),
            jnp.zeros(per_iteration, bool),
        )
        return cls(Archive.empty(like, iterations))

    def add(self, visits: Visits) -> "StatePool":
        """Adds the visits of an iteration, over the oldest ones.

        Args:
            visits: Of any batch shape, but as many as the pool was made for.

        Returns:
            The pool with them.
        """
        size = visits.observation.shape[-1]
        flat = Visits(visits.observation.reshape(-1, size), visits.there.ravel())
        return StatePool(self.visits.add(flat))

    def sample(
        self, count: int, *, key: PRNGKeyArray
    ) -> Float[Array, "count observation"]:
        """Draws observations uniformly, with replacement.

        Args:
            count: How many.
            key: Source of randomness.

        Returns:
            The observations; zeros if there are none.
        """
        below = jnp.cumsum(self.visits.entries.there & self.visits.filled)
        drawn = jr.randint(key, (count,), 0, jnp.maximum(below[-1], 1))
        # The first place up to which there are more than the number drawn.
        return self.visits.entries.observation[
            jnp.minimum(jnp.searchsorted(below, drawn, side="right"), len(below) - 1)
        ]
