from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


# Of a deviation, in units of the mean or of 1: some steps of single precision.
_LEAST = 1e-6


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
        size = self.mean.size
        counts = jnp.concatenate([self.count[None], others.count.ravel()])[:, None]
        means = jnp.concatenate([self.mean[None], others.mean.reshape(-1, size)])
        squares = jnp.concatenate(
            [self.squares[None], others.squares.reshape(-1, size)]
        )
        count = jnp.sum(counts)
        # Differences from a mean that there is, so that what never varies does not
        # begin to by rounding, however many samples are joined.
        near = means[jnp.argmax(counts[:, 0] > 0)]
        away = jnp.where(counts > 0, means - near[None], 0.0)
        step = jnp.sum(counts * away, axis=0) / jnp.maximum(count, 1.0)
        between = jnp.sum(counts * jnp.square(away - step[None]), axis=0)
        return RunningStatistics(count, near + step, jnp.sum(squares, axis=0) + between)

    @property
    def std(self) -> Float[Array, " size"]:
        """Standard deviation, 1 where there is none.

        There is none where it is lost in the rounding of numbers so large.
        """
        variance = self.squares / jnp.maximum(self.count, 1.0)
        varies = jnp.sqrt(variance) > _LEAST * jnp.maximum(1.0, jnp.abs(self.mean))
        return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 1.0)
