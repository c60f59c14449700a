"""Perturbations of low rank: a policy as one that many share, and thin factors.

Source: Sarkar et al. (2025), "Evolution Strategies at the Hyperscale" (EGGROLL,
arXiv 2511.16652): W̃ = W + σ A Bᵀ / √r, with standard normal A and B. A layer's answer
is W x + (σ / √r) A (Bᵀ x): the product with W is one for all perturbed policies
together, and a policy of its own reads r (inputs + outputs) numbers of a layer.
"""

from typing import Any, final, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@final
class LowRankFactors(eqx.Module):
    """What a perturbation adds to one linear layer; batches have policies first.

    The scale, and the 1 / √r of the source, are in `left` and `bias`.

    Attributes:
        left: A, for the outputs.
        right: B, for the inputs.
        bias: What is added to the bias.
    """

    left: Float[Array, "*batch outputs rank"]
    right: Float[Array, "*batch inputs rank"]
    bias: Float[Array, "*batch outputs"]

    @property
    def matrix(self) -> Float[Array, "*batch outputs inputs"]:
        """A Bᵀ: what is added to the weights."""
        return self.left @ jnp.swapaxes(self.right, -1, -2)

    def fold_standardisation(
        self, mean: Float[Array, " inputs"], std: Float[Array, " inputs"]
    ) -> "LowRankFactors":
        """The factors of the layer for raw inputs.

        Args:
            mean: Mean of the raw inputs.
            std: Their standard deviation, positive.

        Returns:
            Factors that add to raw inputs `x` what these add to `(x - mean) / std`.
        """
        right = self.right / jnp.broadcast_to(std[:, None], self.right.shape)
        shift = jnp.einsum("...or,...ir,i->...o", self.left, right, mean)
        return LowRankFactors(self.left, right, self.bias - shift)


# Of a policy's layers, in their order.
Perturbation: TypeAlias = tuple[LowRankFactors, ...]


@final
class LowRankLinear(eqx.Module):
    """A linear layer that others share, and factors of one's own.

    Attributes:
        shared: The layer that is perturbed.
        own: The perturbation.
    """

    shared: eqx.nn.Linear
    own: LowRankFactors

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """(W + A Bᵀ) x and both biases, without forming A Bᵀ.

        Where many are mapped over their factors alone, the product with W is one of
        matrices.

        Args:
            x: The inputs.

        Returns:
            The outputs.
        """
        thin = self.own.left @ (self.own.right.T @ x)
        return self.shared(x) + (thin + self.own.bias)

    def fold_standardisation(
        self, mean: Float[Array, " inputs"], std: Float[Array, " inputs"]
    ) -> "LowRankLinear":
        """The layer for raw inputs of one for standardised ones."""
        return LowRankLinear(
            fold_linear(self.shared, mean, std),
            self.own.fold_standardisation(mean, std),
        )

    @property
    def whole(self) -> eqx.nn.Linear:
        """The same layer with weights W + A Bᵀ of its own."""
        shared: Any = self.shared
        weights = (shared.weight + self.own.matrix, shared.bias + self.own.bias)
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), shared, weights)


def fold_linear(
    layer: eqx.nn.Linear, mean: Float[Array, " inputs"], std: Float[Array, " inputs"]
) -> eqx.nn.Linear:
    """Makes the layer for raw inputs of one for standardised ones.

    Args:
        layer: The layer, with a bias.
        mean: Mean of the raw inputs.
        std: Their standard deviation, positive.

    Returns:
        The layer whose output for `x` is this one's for `(x - mean) / std`.
    """
    known: Any = layer
    weight = known.weight / std[None]
    bias = known.bias - weight @ mean
    return eqx.tree_at(lambda layer: (layer.weight, layer.bias), known, (weight, bias))


def zero_factors(perturbation: Perturbation, count: int) -> Perturbation:
    """Factors of policies that are not perturbed.

    Args:
        perturbation: Factors of others, policies first, for their form.
        count: How many policies.

    Returns:
        Zeros, policies first.
    """
    return jax.tree.map(
        lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), perturbation
    )
