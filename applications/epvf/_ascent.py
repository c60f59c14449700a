"""Step 4: how θ ascends V(θ), as far as it may be trusted or by steps of Adam."""

import abc
from collections.abc import Callable
from typing import final, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from applications.epvf._policies import weight_mask
from applications.epvf.config import Config
from applications.policies import AbstractPolicy, FlatView
from applications.values import (
    mean_values,
    ObservedStates,
    schedule,
    trust_step,
    update_of,
    Value,
)


Policies: TypeAlias = Float[Array, "policies weights"]
Starts: TypeAlias = Float[Array, "starts observation"]


class Landscape(NamedTuple):
    """What policies ascend, and what is known of it.

    Attributes:
        value: V(θ) or V(s, θ).
        draw_starts: From a key to start states, over which V(s, θ) is averaged.
        answers: What a policy answers in observed states; None where there are none.
        answer_spread: Root mean square change of an answer by perturbations, likewise.
        noise_scale: Standard deviation of the perturbations of a weight.
        iteration: How many iterations are done.
    """

    value: Value
    draw_starts: Callable[[PRNGKeyArray], Starts]
    answers: ObservedStates | None
    answer_spread: Float[Array, ""] | None
    noise_scale: Float[Array, ""]
    iteration: Int[Array, ""]


class AbstractAscent(eqx.Module):
    """Takes policies up V."""

    @abc.abstractmethod
    def init(self, policies: Policies) -> optax.OptState:
        """What is kept from one iteration to the next, before the first one.

        Args:
            policies: Weights θ, one policy a row.

        Returns:
            The optimiser's state; empty without one.
        """

    @abc.abstractmethod
    def __call__(
        self,
        policies: Policies,
        optimiser: optax.OptState,
        landscape: Landscape,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Policies, optax.OptState]:
        """Does step 4 of an iteration.

        Args:
            policies: Weights θ, one policy a row.
            optimiser: The optimiser's state.
            landscape: What they ascend.
            key: Source of randomness.

        Returns:
            The policies after it, clipped to the box where the settings say so, and the
            optimiser's state.
        """


@final
class TrustAscent(AbstractAscent):
    """Takes each policy as far up as its answers may change and V is sure.

    Attributes:
        config: The settings.
        view: From vectors θ to policies and back.
    """

    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]

    def init(self, policies: Policies) -> optax.OptState:
        """As of `AbstractAscent`: nothing."""
        return ()

    def __call__(
        self,
        policies: Policies,
        optimiser: optax.OptState,
        landscape: Landscape,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Policies, optax.OptState]:
        """As of `AbstractAscent`."""
        config, view = self.config, self.view
        value, answers = landscape.value, landscape.answers
        assert answers is not None and landscape.answer_spread is not None
        starts = landscape.draw_starts(key)
        size = jnp.sqrt(jnp.asarray(float(answers.num_features)))
        spread = landscape.answer_spread * size
        radius_at = schedule(
            config.trust_radius, config.trust_schedule, config.iterations
        )
        radius = jnp.asarray(radius_at(landscape.iteration), jnp.float32)

        def is_known(weights: Float[Array, " weights"]) -> Bool[Array, ""]:
            """Whether V is as sure of a policy as the settings ask for."""
            if config.largest_deviation is None or not config.is_sure:
                return jnp.ones((), bool)
            one = weights[None]
            deviation = mean_values(value, view.to_policy, one, starts, deviation=True)
            return deviation[0] <= config.largest_deviation

        def ascend(weights, mask):
            return trust_step(
                lambda there: _objective(config, view, value, there[None], starts)[0],
                lambda there: answers(view.to_policy(there)),
                weights,
                mask,
                direction=config.direction,
                radius=radius * spread,
                limit=config.step_limit * landscape.noise_scale,
                noise_scale=landscape.noise_scale,
                is_known=is_known,
            )

        policies = jax.vmap(ascend)(policies, weight_mask(view, config))
        return _clipped(config, policies), ()


@final
class AdamAscent(AbstractAscent):
    """Steps of Adam, which goes on from iteration to iteration, as in the paper.

    Attributes:
        config: The settings.
        view: From vectors θ to policies and back.
    """

    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]

    def init(self, policies: Policies) -> optax.OptState:
        """As of `AbstractAscent`: Adam's moments."""
        return self._adam.init(policies)

    def __call__(
        self,
        policies: Policies,
        optimiser: optax.OptState,
        landscape: Landscape,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Policies, optax.OptState]:
        """As of `AbstractAscent`."""
        config, view = self.config, self.view

        def total(policies, starts):
            objective = _objective(config, view, landscape.value, policies, starts)
            return jnp.sum(objective)

        def update(carry, key):
            policies, optimiser = carry
            gradient = jax.grad(total)(policies, landscape.draw_starts(key))
            gradient = gradient * weight_mask(view, config)
            change, optimiser = update_of(self._adam, -gradient, optimiser)
            policies = _clipped(config, eqx.apply_updates(policies, change))
            return (policies, optimiser), None

        keys = jr.split(key, config.policy_updates)
        after, _ = jax.lax.scan(update, (policies, optimiser), keys)
        return after

    @property
    def _adam(self) -> optax.GradientTransformation:
        config = self.config
        steps = config.iterations * config.policy_updates
        return optax.adam(schedule(config.policy_lr, config.policy_lr_schedule, steps))


def make_ascent(config: Config, view: FlatView[AbstractPolicy]) -> AbstractAscent:
    """The ascent that settings ask for.

    Args:
        config: The settings.
        view: From vectors θ to policies and back.

    Returns:
        The ascent.
    """
    kind = TrustAscent if config.step == "trust" else AdamAscent
    return kind(config, view)


def _objective(
    config: Config,
    view: FlatView[AbstractPolicy],
    value: Value,
    policies: Policies,
    starts: Starts,
) -> Float[Array, " policies"]:
    """V of each policy, and how unsure V is of it as far as that is wanted."""
    values = mean_values(value, view.to_policy, policies, starts)
    if not config.optimism or not config.is_sure:
        return values
    unsure = mean_values(value, view.to_policy, policies, starts, deviation=True)
    return values + config.optimism * unsure


def _clipped(config: Config, policies: Policies) -> Policies:
    """Inside the box, where the settings say so."""
    if config.clip == "none":
        return policies
    return jnp.clip(policies, -config.weight_clip, config.weight_clip)
