"""How policies are perturbed, weight by weight or by low rank, and what is kept."""

import abc
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.epvf._policies import weight_mask
from applications.epvf.config import Config
from applications.policies import AbstractPolicy, FlatView
from applications.rollout import SharedPopulation
from applications.search import (
    draw_noise,
    draw_perturbations,
    LowRankCandidates,
    noise_deviation,
    noise_units,
)
from applications.stores import Centres, Record
from applications.values import predict, Value


# Policies of low rank that V is shown at once.
_AT_ONCE = 64


class AbstractPerturbations(eqx.Module):
    """From θ to θ̃ᵢ, and from what an archive keeps of these back to policies."""

    @property
    @abc.abstractmethod
    def deviation(self) -> float:
        """Standard deviation of the perturbation of a weight, in units of σ."""

    @abc.abstractmethod
    def draw(
        self,
        policies: Float[Array, "policies weights"],
        scale: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Any:
        """Draws θ̃ᵢ = θ + σ εᵢ.

        Args:
            policies: Weights θ, one policy a row; of several each is perturbed once.
            scale: σ.
            key: Source of randomness.

        Returns:
            The candidates of a `Proposal`.
        """

    @abc.abstractmethod
    def empty(self, batches: int) -> tuple[Any, Centres | None]:
        """What is kept before anything was tried.

        Args:
            batches: How many batches the archive can hold.

        Returns:
            Weights of a batch of entries, for their form; and what they are
            perturbations of, where they share it.
        """

    @abc.abstractmethod
    def keep(self, acting: Any, centres: Centres | None) -> tuple[Any, Centres | None]:
        """What the archive keeps of candidates.

        Args:
            acting: The candidates as they acted, on observations as they are.
            centres: From the iteration before.

        Returns:
            Weights of a batch of entries, and what they are perturbations of.
        """

    @abc.abstractmethod
    def to_policy(self, weights: Any, centres: Centres | None) -> AbstractPolicy:
        """The policy of an entry.

        Args:
            weights: Its weights, as `keep` made them.
            centres: What entries are perturbations of.

        Returns:
            The policy as it acted, on observations as they are.
        """

    @abc.abstractmethod
    def predict(
        self, value: Value, candidates: Any, tried: Record
    ) -> Float[Array, "candidates labels"]:
        """What V says of candidates.

        Args:
            value: V(θ) or V(s, θ).
            candidates: From `draw`.
            tried: How they did, for their start states.

        Returns:
            As `applications.values.predict`.
        """


@final
class FullPerturbations(AbstractPerturbations):
    """Every weight is perturbed by itself; an archive keeps them all.

    Attributes:
        config: The settings.
        view: From vectors θ to policies and back.
    """

    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]

    @property
    def deviation(self) -> float:
        """As of `AbstractPerturbations`: that of the law."""
        return noise_deviation(self.config.noise)

    def draw(
        self,
        policies: Float[Array, "policies weights"],
        scale: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "candidates weights"]:
        """As of `AbstractPerturbations`; clipped where the settings say so."""
        config, size = self.config, (self.config.num_envs, policies.shape[1])
        noise = draw_noise(config.noise, *size, antithetic=config.antithetic, key=key)
        noise = noise * self._units(policies)
        candidates = policies + scale * noise * weight_mask(self.view, config)
        if config.clip == "perturbed":
            return jnp.clip(candidates, -config.weight_clip, config.weight_clip)
        return candidates

    def empty(self, batches: int) -> tuple[Any, Centres | None]:
        """As of `AbstractPerturbations`."""
        return jnp.zeros((self.config.num_envs, self.view.space.size)), None

    def keep(self, acting: Any, centres: Centres | None) -> tuple[Any, Centres | None]:
        """As of `AbstractPerturbations`."""
        return acting, centres

    def to_policy(self, weights: Any, centres: Centres | None) -> AbstractPolicy:
        """As of `AbstractPerturbations`."""
        return self.view.to_policy(weights)

    def predict(
        self, value: Value, candidates: Any, tried: Record
    ) -> Float[Array, "candidates labels"]:
        """As of `AbstractPerturbations`."""
        return predict(value, self.view.to_policy, _with_weights(tried, candidates))

    def _units(
        self, policies: Float[Array, "policies weights"]
    ) -> Float[Array, "policies weights"]:
        """In what units the weights of each policy are perturbed."""

        def of_one(weights):
            units = noise_units(self.view.to_policy(weights), self.config.noise_shape)
            return self.view.to_vector(units)

        return jax.vmap(of_one)(policies)


@final
class LowRankPerturbations(AbstractPerturbations):
    """One policy, and thin factors for each candidate, which are what is kept.

    Attributes:
        config: The settings.
        view: From vectors θ to perceptrons and back.
    """

    config: Config = eqx.field(static=True)
    view: FlatView[Any]

    @property
    def deviation(self) -> float:
        """As of `AbstractPerturbations`: 1, whatever the law of other perturbations."""
        return 1.0

    def draw(
        self,
        policies: Float[Array, "policies weights"],
        scale: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> LowRankCandidates:
        """As of `AbstractPerturbations`, of one policy."""
        return LowRankCandidates(policies[0], self._draw(scale, key=key))

    def empty(self, batches: int) -> tuple[Any, Centres | None]:
        """As of `AbstractPerturbations`."""
        size = self.view.space.size
        form = jax.eval_shape(lambda key: self._draw(1.0, key=key), jr.key(0))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), form)
        centres = Centres.empty(size, batches)
        return centres.add(jnp.zeros(size), zeros)[1], centres

    def keep(self, acting: Any, centres: Centres | None) -> tuple[Any, Centres | None]:
        """As of `AbstractPerturbations`."""
        assert isinstance(acting, SharedPopulation) and centres is not None
        centres, weights = centres.add(self.view.to_vector(acting.shared), acting.own)
        return weights, centres

    def to_policy(self, weights: Any, centres: Centres | None) -> AbstractPolicy:
        """As of `AbstractPerturbations`."""
        assert centres is not None
        return centres.policy(weights, self.view).whole

    def predict(
        self, value: Value, candidates: Any, tried: Record
    ) -> Float[Array, "candidates labels"]:
        """As of `AbstractPerturbations`."""
        policy = self.view.to_policy(candidates.centre)

        def of_one(record: Record) -> Float[Array, " labels"]:
            alone = jax.tree.map(lambda leaf: leaf[None], record)
            return predict(value, lambda own: policy.perturbed(own).whole, alone)[0]

        # All of them at once would have all weights of all of them in memory.
        tried = _with_weights(tried, candidates.perturbations)
        return jax.lax.map(of_one, tried, batch_size=_AT_ONCE)

    def _draw(self, scale: float | Float[Array, ""], *, key: PRNGKeyArray) -> Any:
        config = self.config
        return draw_perturbations(
            self.view.like,
            config.num_envs,
            rank=config.rank,
            scale=scale,
            antithetic=config.antithetic,
            key=key,
        )


def make_perturbations(
    config: Config, view: FlatView[AbstractPolicy]
) -> AbstractPerturbations:
    """The perturbations that settings ask for.

    Args:
        config: The settings.
        view: From vectors θ to policies and back.

    Returns:
        The perturbations.
    """
    if config.perturbation == "low-rank":
        return LowRankPerturbations(config, view)
    return FullPerturbations(config, view)


def _with_weights(records: Record, weights: Any) -> Record:
    return Record(weights, records.returns, records.starts, records.valid)
