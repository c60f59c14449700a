"""How policies and critics are shown states, rewards and policies in a round."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import Continuous
from applications.policies import (
    AbstractPolicy,
    FlatView,
    RunningStatistics,
    standardise,
    StochasticPolicy,
)
from applications.pvf.config import Config
from applications.search import draw_noise
from applications.stores import Replay, Segment
from applications.values import (
    follows,
    lambda_returns,
    shown_by,
    StepCritic,
    StepValue,
    surrounded,
    Surroundings,
    values_of,
)


# Largest magnitude of a standardised observation that is learned from.
_LARGEST = 10.0
# Fresh perturbations by which the spread of what is read of policies is measured.
_MEASURED = 32
# Of a fixed key: what is read of policies is measured by the same directions always.
_SEED = 0


@final
class Frame(eqx.Module):
    """What stays as it is while a round learns.

    Attributes:
        config: The settings.
        view: From vectors θ to policies and back.
        value: How critics are asked.
        observations: By what observations are standardised.
        noise_scale: σ.
        reward_scale: What rewards are multiplied by.
    """

    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    value: StepValue
    observations: RunningStatistics
    noise_scale: Float[Array, ""]
    reward_scale: Float[Array, ""]

    def states(
        self, observations: Float[Array, "*batch observation"]
    ) -> Float[Array, "*batch observation"]:
        """Observations as policies and critics are shown them."""
        if not self.config.normalise:
            return observations
        states = standardise(observations, self.observations)
        return jnp.clip(states, -_LARGEST, _LARGEST)

    def shown(
        self, acting: Float[Array, "policies weights"]
    ) -> Float[Array, "policies weights"]:
        """Policies that acted on observations as they are, for standardised ones."""
        observations = self.observations if self.config.normalise else None
        shown = shown_by(self.view.to_policy, observations)
        return jax.vmap(lambda weights: self.view.to_vector(shown(weights)))(acting)

    def read(self, weights: Float[Array, " weights"]) -> Any:
        """A policy as critics are shown it."""
        return read_policy(self.config, self.view.to_policy(weights))

    def taken(
        self, critics: StepCritic, segment: Segment, shown: Float[Array, " weights"]
    ) -> Float[Array, "critics steps"]:
        """Values of what was done in one segment, with a policy in the place of θ."""
        conditions = self.value.conditions(
            self.states(segment.observation),
            segment.drawn,
            before_tanh=(
                isinstance(self.value.action_space, Continuous)
                and self.config.policy_kind == "stochastic"
            ),
        )
        return values_of(critics, self.read(shown), conditions)

    def targets(
        self,
        critics: StepCritic,
        segment: Segment,
        shown: Float[Array, " weights"],
        acting: Float[Array, " weights"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " steps"]:
        """λ-returns of one segment.

        Args:
            critics: Whose values they have; the slow copy.
            segment: One segment.
            shown: The policy that critics are shown.
            acting: The policy that goes on after each step: the same, but for noise.
            key: Draws its actions.

        Returns:
            A target for each step, in units of values.
        """
        config = self.config
        reduce = jnp.min if config.ensemble_value == "min" else jnp.mean
        next_values = self.value.of_policy(
            critics,
            self.read(shown),
            self.view.to_policy(acting),
            self.states(segment.next_observation),
            noise=config.target_noise,
            largest_noise=config.target_noise_clip,
            key=key,
        )
        taken = None
        if config.corrected:
            taken = reduce(self.taken(critics, segment, shown), axis=0)
        return lambda_returns(
            segment.reward * self.reward_scale,
            reduce(next_values, axis=0),
            terminated=segment.terminated,
            goes_on=follows(segment.terminated, segment.truncated, segment.valid),
            discount=config.discount,
            trace=config.lambda_,
            taken_values=taken,
        )

    def compare(
        self, critics: StepCritic, weights: Float[Array, " weights"], replay: Replay
    ) -> StepCritic:
        """Makes encoders compare policies with the present one.

        Args:
            critics: The ensemble.
            weights: The present policy.
            replay: Has the states that `answers` are read in.

        Returns:
            The ensemble; the same where policies are not read.
        """
        if not self.config.reads_policies:
            return critics
        key = jr.key(_SEED)
        noise = draw_noise("gaussian", _MEASURED, weights.size, key=key)
        scale = jnp.maximum(self.noise_scale, 1e-6)
        count = self.config.encoder_options.states
        seen = replay.sample(count, 1, key=key).observation[:, 0]
        surroundings = Surroundings(
            centre=self.read(weights),
            noise_scale=scale,
            fresh=jax.vmap(self.read)(weights[None] + scale * noise),
            states=self.states(seen),
        )

        @eqx.filter_vmap
        def put(critic: StepCritic) -> StepCritic:
            encoder = surrounded(critic.encoder, surroundings)
            return eqx.tree_at(lambda critic: critic.encoder, critic, encoder)

        return put(critics)


def read_policy(config: Config, policy: AbstractPolicy) -> Any:
    """What critics are shown of a policy.

    Of a distribution they read the perceptron, but for a flat one, which reads its
    deviations too.

    Args:
        config: The settings.
        policy: The policy.

    Returns:
        The policy, or the one without noise.
    """
    if isinstance(policy, StochasticPolicy) and config.representation != "flat":
        return policy.mean
    return policy


def scale_of_rewards(config: Config, replay: Replay, horizon: int) -> Array:
    """(1 - γ) by the root mean square of what segments of a replay earned a step.

    Rewards that cancel out within a segment, as those of a swimming stroke do, are no
    part of values: by the rewards themselves such values would be all but 0.

    Args:
        config: γ, and whether rewards are scaled.
        replay: Has the rewards.
        horizon: Steps of an episode: by no more are rewards added up.

    Returns:
        The factor; 1 where nothing was earned.
    """
    if not config.scale_rewards:
        return jnp.ones(())
    entries = replay.segments.entries
    there = entries.valid & replay.segments.filled[:, None]
    earned = jnp.mean(entries.reward, axis=1, where=there)
    square = jnp.mean(jnp.square(earned), where=jnp.any(there, axis=1))
    known = square > 1e-20
    share = max(1 - config.discount, 1 / horizon)
    return jnp.where(known, share / jnp.sqrt(jnp.where(known, square, 1.0)), 1.0)
