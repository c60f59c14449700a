from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


@final
class RunningStatistics(eqx.Module):
    """Running mean and variance of vectors, such as observations.

    Single vectors are added by Welford's method, and whole samples are joined by that
    of Chan, Golub and LeVeque (1983), so that neither needs large sums.

    Attributes:
        count: How many vectors.
        mean: Their mean.
        squares: Sum of squared differences from it.
    """

    count: Float[Array, "*batch"]
    mean: Float[Array, "*batch size"]
    squares: Float[Array, "*batch size"]

    @classmethod
    def empty(cls, size: int) -> "RunningStatistics":
        """Statistics of no vectors of some length."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size))

    def add(self, vector: Float[Array, " size"]) -> "RunningStatistics":
        """Statistics with one vector more."""
        count = self.count + 1
        difference = vector - self.mean
        mean = self.mean + difference / count
        return RunningStatistics(
            count, mean, self.squares + difference * (vector - mean)
        )

    def join(self, others: "RunningStatistics") -> "RunningStatistics":
        """Statistics with several samples more.

        Args:
            others: Statistics of samples, of any batch shape; some may be empty.

        Returns:
            The statistics of all vectors together.
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
        return RunningStatistics(count, mean, jnp.sum(squares, axis=0) + between)

    @property
    def std(self) -> Float[Array, " size"]:
        """Standard deviation, 1 where there is none."""
        variance = self.squares / jnp.maximum(self.count, 1.0)
        varies = variance > 1e-12
        return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 1.0)
