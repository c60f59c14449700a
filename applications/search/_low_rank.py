"""Perturbations of low rank: how they are drawn, and what a search makes of them.

Source: Sarkar et al. (2025), "Evolution Strategies at the Hyperscale" (EGGROLL, arXiv
2511.16652): E = A Bᵀ / √r with standard normal A and B, dense noise on biases, and
pairs of opposite sign.
"""

import math
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.policies import (
    FlatView,
    LowRankFactors,
    MLPPolicy,
    Perturbation,
    RunningStatistics,
    standardised,
    zero_factors,
)
from applications.rollout import SharedPopulation


def draw_perturbations(
    policy: MLPPolicy,
    count: int,
    *,
    rank: int,
    scale: float | Float[Array, ""] = 1.0,
    antithetic: bool = False,
    key: PRNGKeyArray,
) -> Perturbation:
    """Draws σ A Bᵀ / √r for each layer's weights, and σ ε for its biases.

    A, B and ε are standard normal. Each entry of A Bᵀ / √r has variance 1, and two of
    them are uncorrelated, whatever the rank.

    Args:
        policy: A policy, for the sizes of its layers.
        count: How many perturbations.
        rank: Rank r.
        scale: Standard deviation σ of what is added to a weight.
        antithetic: Whether rows 2k and 2k + 1 are a pair of opposite sign: the second
            has A and ε of the first, negated, and the same B.
        key: Source of randomness. Row i depends on it and on i alone (with pairs, on
            the pair), so that no device has to draw another one's.

    Returns:
        Factors of each layer, with the perturbations first.

    Raises:
        ValueError: If the rank is below 1.
    """
    if rank < 1:
        raise ValueError(f"The rank is {rank}; it must be at least 1.")
    sigma = jnp.asarray(scale)
    layers: Any = policy.layers
    sizes = [(layer.weight.shape, layer.bias.dtype) for layer in layers]

    def draw(index):
        own_key = jr.fold_in(key, index // 2 if antithetic else index)
        sign = 1 - 2 * (index % 2) if antithetic else jnp.ones_like(index)
        drawn = []
        for layer_key, ((outputs, inputs), dtype) in zip(
            jr.split(own_key, len(sizes)), sizes, strict=True
        ):
            left_key, right_key, bias_key = jr.split(layer_key, 3)
            signed = sigma.astype(dtype) * sign.astype(dtype)
            left = jr.normal(left_key, (outputs, rank), dtype) / math.sqrt(rank)
            right = jr.normal(right_key, (inputs, rank), dtype)
            bias = jr.normal(bias_key, (outputs,), dtype)
            drawn.append(LowRankFactors(signed * left, right, signed * bias))
        return tuple(drawn)

    return jax.vmap(draw)(jnp.arange(count))


@final
class LowRankCandidates(eqx.Module):
    """Candidates θ̃ᵢ that are one policy θ, and thin factors of each.

    Attributes:
        centre: Weights θ.
        perturbations: What each adds to them, policies first.
    """

    centre: Float[Array, " weights"]
    perturbations: Perturbation

    def __len__(self) -> int:
        """How many there are."""
        return self.perturbations[0].bias.shape[0]

    def population(
        self,
        view: FlatView[Any],
        unperturbed: int = 0,
        statistics: RunningStatistics | None = None,
    ) -> SharedPopulation:
        """What an engine runs, with `ToPolicy` as `make_policy`.

        Args:
            view: From vectors of weights to perceptrons and back.
            unperturbed: How many times θ itself follows the candidates.
            statistics: Of the observations that policies are to see standardised;
                None where they see them as they are.

        Returns:
            The policies, for observations as they are.
        """
        zeros = zero_factors(self.perturbations, unperturbed)
        own = jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves), self.perturbations, zeros
        )
        policy = view.to_policy(self.centre)
        if statistics is None:
            return SharedPopulation(policy, own)
        fold = lambda own: standardised(policy.perturbed(own), statistics)
        first = jax.vmap(lambda own: fold(own).layers[0].own)(own)
        return SharedPopulation(standardised(policy, statistics), (first, *own[1:]))

    def vectors(self, view: FlatView[Any]) -> Float[Array, "candidates weights"]:
        """All weights of every candidate, one a row."""
        policy = view.to_policy(self.centre)

        def of_one(own: Perturbation) -> Float[Array, " weights"]:
            return view.to_vector(policy.perturbed(own).whole)

        return jax.vmap(of_one)(self.perturbations)

    @property
    def norms(self) -> Float[Array, " candidates"]:
        """Euclidean length of what each adds to θ, without forming it.

        |A Bᵀ|² is the sum over AᵀA ∘ BᵀB, of r by r numbers.
        """

        def of_one(perturbation: Perturbation) -> Float[Array, ""]:
            squares = [
                jnp.sum((own.left.T @ own.left) * (own.right.T @ own.right))
                + jnp.sum(jnp.square(own.bias))
                for own in perturbation
            ]
            return jnp.sqrt(jnp.sum(jnp.stack(squares)))

        return jax.vmap(of_one)(self.perturbations)


@final
class ToPolicy(eqx.Module):
    """From a row of any population of a search to its policy; a `make_policy`.

    Attributes:
        view: From vectors of weights to policies.
    """

    view: FlatView[Any]

    def __call__(self, row: Any) -> Any:
        """The policy.

        Args:
            row: Weights θ, or a row of `LowRankCandidates.population`.

        Returns:
            The policy; of low rank, one whose weights are not added up.
        """
        if isinstance(row, SharedPopulation):
            return row.shared.perturbed(row.own)
        return self.view.to_policy(row)
