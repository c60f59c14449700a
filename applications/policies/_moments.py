from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from applications.policies._mlp import MLPPolicy


@final
class Moments(eqx.Module):
    """Running mean and variance of observations.

    Single observations are added by Welford's method, and whole samples are joined by
    that of Chan, Golub and LeVeque (1983), so that neither needs large sums.

    Attributes:
        count: How many observations.
        mean: Their mean.
        squares: Sum of squared differences from it.
    """

    count: Float[Array, "*batch"]
    mean: Float[Array, "*batch observation"]
    squares: Float[Array, "*batch observation"]

    @classmethod
    def empty(cls, size: int) -> "Moments":
        """Those of no observations, of some length."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    def add(self, observation: Float[Array, " observation"]) -> "Moments":
        """With one observation more."""
        count = self.count + 1
        difference = observation - self.mean
        mean = self.mean + difference / count
        return Moments(count, mean, self.squares + difference * (observation - mean))

    def join(self, others: "Moments") -> "Moments":
        """With several samples more.

        Args:
            others: Moments of samples, of any batch shape; of some the count may be 0.

        Returns:
            The moments of all observations together.
        """
        counts = jnp.append(others.count.ravel(), self.count)[:, None]
        size = self.mean.size
        means = jnp.concatenate([others.mean.reshape(-1, size), self.mean[None]])
        squares = jnp.concatenate(
            [others.squares.reshape(-1, size), self.squares[None]]
        )
        count = jnp.sum(counts)
        mean = jnp.sum(counts * means, axis=0) / jnp.maximum(count, 1.0)
        between = jnp.sum(counts * jnp.square(means - mean[None]), axis=0)
        return Moments(count, mean, jnp.sum(squares, axis=0) + between)

    @property
    def std(self) -> Float[Array, " observation"]:
        """Standard deviation, 1 where there is none."""
        variance = self.squares / jnp.maximum(self.count, 1.0)
        varies = variance > 1e-12
        return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 1.0)


def standardised(policy: MLPPolicy, seen: Moments) -> MLPPolicy:
    """The policy that does with an observation what `policy` does with a standard one.

    Mean and deviation go into the first layer, so that acting costs nothing more.

    Args:
        policy: A policy for observations of mean 0 and variance 1.
        seen: Moments of the observations. With less than two nothing is changed.

    Returns:
        The policy for observations as they are.
    """
    first: Any = policy.layers[0]
    enough = seen.count > 1
    std = jnp.where(enough, seen.std, 1.0)
    mean = jnp.where(enough, seen.mean, 0.0)
    weight = first.weight / std[None]
    bias = first.bias - weight @ mean
    return eqx.tree_at(
        lambda policy: (policy.layers[0].weight, policy.layers[0].bias),
        policy,
        (weight, bias),
    )
