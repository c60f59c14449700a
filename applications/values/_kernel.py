"""V(θ) as a Gaussian process: fitted in closed form, and sure of itself or not."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
from jaxtyping import Array, Bool, Float, PyTree

from wsl.encoders import AbstractEncoder


# What leave-one-out chooses from: scales in units of the spread of fresh perturbations,
# and variances of the noise in units of that of the targets.
SCALES = (0.5, 1.0, 2.0)
NOISES = (0.1, 0.5, 2.0)


@final
class KernelValue(eqx.Module):
    """The posterior of a Gaussian process over policies, with variance 1 and mean 0.

    The covariance of two policies is exp(-|f - f'|² / (2 l² s²)), where f is what an
    encoder makes of a policy, s the root mean square distance of fresh perturbations
    from the policy they are of, and l the scale. Far from all policies that it knows it
    says 0, so old policies stop mattering by distance and not by age.

    Source: Rasmussen and Williams (2006), equations 2.25 and 2.26.

    Attributes:
        encoder: From a policy to a vector.
        points: Vectors of the policies that it knows.
        there: Which of them there are.
        coefficients: (K + noise)⁻¹ y of their targets y; 0 where there is no policy.
        factor: Lower Cholesky factor of K + noise.
        length: l s.
        noise: Variance of the noise.
    """

    encoder: AbstractEncoder
    points: Float[Array, "points features"]
    there: Bool[Array, " points"]
    coefficients: Float[Array, " points"]
    factor: Float[Array, "points points"]
    length: Float[Array, ""]
    noise: Float[Array, ""]

    @classmethod
    def empty(cls, encoder: AbstractEncoder, points: int) -> "KernelValue":
        """Knows nothing: V is 0 everywhere.

        Args:
            encoder: From a policy to a vector.
            points: How many policies it can know.

        Returns:
            The value function.
        """
        return cls(
            encoder,
            jnp.zeros((points, encoder.num_features)),
            jnp.zeros(points, bool),
            jnp.zeros(points),
            jnp.eye(points),
            jnp.ones(()),
            jnp.ones(()),
        )

    @property
    def condition_sizes(self) -> tuple[int, ...]:
        """None: it is V(θ), and not V(s, θ)."""
        return ()

    def __call__(self, policy: PyTree, /, *conditions: Array) -> Float[Array, ""]:
        """The mean of the posterior at a policy; there are no conditions."""
        assert not conditions
        return self._covariances(policy) @ self.coefficients

    def deviation(self, policy: PyTree) -> Float[Array, ""]:
        """The standard deviation of the posterior at a policy, from 0 to 1."""
        half = linalg.solve_triangular(
            self.factor, self._covariances(policy), lower=True
        )
        # The root has no slope at 0.
        return jnp.sqrt(jnp.maximum(1 - half @ half, 1e-6))

    def of_vectors(
        self, vectors: Float[Array, "policies features"]
    ) -> tuple[Float[Array, " policies"], Float[Array, " policies"]]:
        """Mean and deviation of many policies at once, by their encoder's vectors."""
        # The origin among the points: what is subtracted later is of the same size.
        middle = jnp.mean(self.points, axis=0, where=self.there[:, None])
        middle = jnp.nan_to_num(middle)[None]
        points = jnp.where(self.there[:, None], self.points - middle, 0.0)
        moved = vectors - middle
        squares = jnp.sum(moved**2, axis=1)[:, None] + jnp.sum(points**2, axis=1)[None]
        away = jnp.maximum(squares - 2 * moved @ points.T, 0.0)
        covariances = _covariance(away, self.length)
        covariances = jnp.where(self.there[None], covariances, 0.0)
        half = linalg.solve_triangular(self.factor, covariances.T, lower=True)
        variances = jnp.maximum(1 - jnp.sum(half**2, axis=0), 1e-6)
        return covariances @ self.coefficients, jnp.sqrt(variances)

    def _covariances(self, policy: PyTree) -> Float[Array, " points"]:
        away = self.points - self.encoder(policy)[None]
        covariances = _covariance(jnp.sum(away**2, axis=1), self.length)
        return jnp.where(self.there, covariances, 0.0)


def fit_kernel(
    encoder: AbstractEncoder,
    points: Float[Array, "points features"],
    targets: Float[Array, " points"],
    where: Bool[Array, " points"],
    spread: Float[Array, ""],
    *,
    scale: float | None,
    noise: float | Float[Array, ""] | None,
) -> tuple[KernelValue, Float[Array, ""]]:
    """Computes the posterior.

    Args:
        encoder: From a policy to a vector.
        points: Vectors of policies.
        targets: What V is to say of them.
        where: Which of them count.
        spread: Distance from the centre that fresh perturbations have, s.
        scale: The scale l; unless given, that of `SCALES` with the least error.
        noise: The variance of the noise; unless given, that of `NOISES` with the least
            error.

    Returns:
        The value function, and the mean squared error that it makes on each policy when
        it knows all but that one (Rasmussen and Williams, equation 5.12).
    """
    targets = jnp.where(where, targets, 0.0)
    # The origin among the points: what is subtracted later is of the same size.
    middle = jnp.mean(points, axis=0, where=where[:, None])
    moved = jnp.where(where[:, None], points - jnp.nan_to_num(middle)[None], 0.0)
    squares = jnp.sum(moved**2, axis=1)
    distances = jnp.maximum(squares[:, None] + squares[None] - 2 * moved @ moved.T, 0.0)
    both = where[:, None] & where[None]

    def solve(length, noise):
        gram = jnp.where(both, _covariance(distances, length), 0.0)
        diagonal = jnp.where(where, 1 + noise, 1.0)
        gram = jnp.where(jnp.eye(len(targets), dtype=bool), diagonal[:, None], gram)
        factor = jnp.linalg.cholesky(gram)
        return factor, linalg.cho_solve((factor, True), targets)

    def left_out(choice):
        factor, coefficients = solve(choice[0] * spread, choice[1])
        inverse = linalg.cho_solve((factor, True), jnp.eye(len(targets)))
        error = coefficients / jnp.diagonal(inverse)
        return jnp.mean(error**2, where=where)

    choices = jnp.array(
        [(x, y) for x in _choices(scale, SCALES) for y in _choices(noise, NOISES)]
    )
    # One after the other: each needs matrices of its own.
    errors = jax.lax.map(left_out, choices)
    best = jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))
    length, noise_there = choices[best, 0] * spread, choices[best, 1]
    factor, coefficients = solve(length, noise_there)
    value = KernelValue(
        encoder, points, where, coefficients, factor, length, noise_there
    )
    return value, errors[best]


def _covariance(squares: Array, length: Float[Array, ""]) -> Array:
    return jnp.exp(-squares / (2 * length**2))


def _choices(given: Any, otherwise: Sequence[float]) -> Sequence[Any]:
    return otherwise if given is None else (given,)
