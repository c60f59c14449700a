"""Entries of an archive that are one policy for many, and thin factors of each."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from applications.policies import FlatView, MLPPolicy, Perturbation
from applications.stores._archive import Archive


@final
class LowRankWeights(eqx.Module):
    """Weights of entries, of which a whole batch shares θ: the `weights` of a `Record`.

    A perceptron of 512-256-128 hidden units that has 183,000 weights takes 2,700
    numbers here, with rank 1.

    Attributes:
        centre: Which row of `Centres` they are perturbations of.
        perturbation: What each adds to it.
    """

    centre: Int[Array, "*batch"]
    perturbation: Perturbation


@final
class Centres(eqx.Module):
    """The policies θ of all batches in an archive.

    Attributes:
        archive: The policies, one a batch, in step with the archive of entries.
    """

    archive: Archive[Float[Array, "batches weights"]]

    @classmethod
    def empty(cls, weights: int, batches: int) -> "Centres":
        """Room for as many policies as the archive of entries has batches."""
        return cls(Archive.empty(jnp.zeros((1, weights)), batches))

    def add(
        self, centre: Float[Array, " weights"], perturbations: Perturbation
    ) -> tuple["Centres", LowRankWeights]:
        """Adds the policy of a batch, over the oldest where there is no more room.

        Args:
            centre: Weights θ.
            perturbations: What each policy of the batch adds to them.

        Returns:
            The policies, and weights of the batch's entries, to be added to theirs.
        """
        place = self.archive.added % self.archive.capacity
        count = perturbations[0].bias.shape[0]
        weights = LowRankWeights(jnp.full(count, place), perturbations)
        return Centres(self.archive.add(centre[None])), weights

    def policy(self, weights: LowRankWeights, view: FlatView[Any]) -> MLPPolicy:
        """The policy of one entry, whose weights are not added up.

        Args:
            weights: Of one entry.
            view: From vectors of weights to perceptrons and back.

        Returns:
            A policy to ask for its output; its `whole` has all weights of its own.
        """
        centre = self.archive.entries[weights.centre]
        return view.to_policy(centre).perturbed(weights.perturbation)

    def vector(
        self, weights: LowRankWeights, view: FlatView[Any]
    ) -> Float[Array, " weights"]:
        """All weights of one entry, as a vector."""
        return view.to_vector(self.policy(weights, view).whole)
