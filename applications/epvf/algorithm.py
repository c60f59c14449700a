"""EPVF: fit V(θ) to the returns of perturbed policies, then ascend its gradient.

Source: Bohlinger and Peters (2025), "Massively Scaling Explicit Policy-conditioned
Value Functions", on the start-state value function of Faccio et al. (2021),
"Parameter-based Value Functions". One iteration, with θ the policy, N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, and one return Gᵢ for each, all in parallel;
2. (θ̃ᵢ, Gᵢ) go into the archive;
3. V is fitted to the archive by mean squared error;
4. θ takes gradient steps up V(θ), and is clipped to a box after each.
"""

from collections.abc import Callable
from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.epvf.config import Config
from applications.policies import (
    AbstractPolicy,
    FlatView,
    make_policy,
    MLPPolicy,
)
from applications.rollout import Episode
from applications.search import (
    AbstractPolicySearch,
    draw_noise,
    draw_perturbations,
    LowRankCandidates,
    Metrics,
    Outcome,
    Proposal,
    SearchState,
)
from applications.stores import Archive, Centres, LowRankWeights, Record
from applications.values import (
    correlation,
    fit,
    labels,
    make_encoder,
    predict,
    schedule,
    update_of,
    value_function,
)
from wsl.encoders import EncodedMLP


# With many policies, start states over which each gradient of V(s, θ) is averaged.
_STARTS_FOR_MANY = 64
# Policies of low rank whose weights are added up at once.
_ADDED_UP = 64


class Learned(eqx.Module):
    """What EPVF keeps from one iteration to the next.

    Attributes:
        policies: Weights θ of the unperturbed policies, one a row.
        policy_optimiser: Adam's moments for them.
        value: The value function.
        value_optimiser: Adam's moments for it.
        archive: Perturbed policies and their returns.
        centres: With perturbations of low rank, what they are perturbations of.
    """

    policies: Float[Array, "policies weights"]
    policy_optimiser: optax.OptState
    value: EncodedMLP
    value_optimiser: optax.OptState
    archive: Archive[Record]
    centres: Centres | None


class Keys(NamedTuple):
    """The randomness of one iteration."""

    noise: PRNGKeyArray
    rollout: PRNGKeyArray
    fit: PRNGKeyArray
    ascent: PRNGKeyArray
    next: PRNGKeyArray


@final
class EPVF(AbstractPolicySearch[Learned, Keys]):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.
        """
        self.task = task
        self.config = config
        self.view = FlatView(
            make_policy(config.policy, task, config.hidden, key=jr.key(0))
        )

    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws policies and value function; the archive is empty."""
        policy_key, value_key, run_key = jr.split(key, 3)
        policies = self._draw_policies(key=policy_key)
        value = self._make_value(key=value_key)
        learned = Learned(
            policies,
            self._policy_optimiser.init(policies),
            value,
            self._value_optimiser.init(eqx.filter(value, eqx.is_inexact_array)),
            *self._empty_archive(policies),
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        return Keys(*jr.split(key, 5))

    def propose(self, state: SearchState[Learned], keys: Keys) -> Proposal:
        """Step 1: θ̃ᵢ = θ + σ εᵢ; beside them θ itself, to see how it stands."""
        config, policies = self.config, state.learned.policies
        scale_at = schedule(
            config.noise_scale, config.noise_schedule, config.iterations
        )
        # The one policy again and again, or the first ones of many.
        evaluation = policies[jnp.arange(config.eval_episodes) % len(policies)]
        if config.perturbation == "low-rank":
            like: Any = self.view.like
            drawn = draw_perturbations(
                like,
                config.num_envs,
                rank=config.rank,
                scale=jnp.asarray(scale_at(state.iteration)),
                key=keys.noise,
            )
            return Proposal(LowRankCandidates(policies[0], drawn), evaluation)
        size = (config.num_envs, policies.shape[1])
        noise = draw_noise(config.noise, *size, key=keys.noise)
        candidates = policies + scale_at(state.iteration) * noise * self._weight_mask
        if config.clip == "perturbed":
            candidates = jnp.clip(candidates, -config.weight_clip, config.weight_clip)
        return Proposal(candidates, evaluation)

    def learn(
        self,
        state: SearchState[Learned],
        proposal: Proposal,
        outcome: Outcome,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Steps 2 to 4: store (θ̃ᵢ, Gᵢ), fit V to the archive, ascend V(θ)."""
        config, learned = self.config, state.learned
        centres, weights = learned.centres, proposal.candidates
        if centres is not None:
            centres, weights = centres.add(weights.centre, weights.perturbations)
        to_policy = self._to_policy(centres)
        fresh = _record(weights, outcome.candidates)
        returns, valid = labels(learned.value, fresh)
        predictions = self._predict(learned.value, to_policy, fresh)
        archive = learned.archive.add(fresh)
        value, value_optimiser, targets, loss = fit(
            learned.value,
            self._value_optimiser,
            learned.value_optimiser,
            archive,
            to_policy,
            kind=config.targets,
            batch_size=config.resolved_batch_size,
            updates=config.critic_updates,
            key=keys.fit,
        )
        starts = fresh.starts[: config.eval_episodes, 0]
        values = self._policy_values(value, learned.policies, starts)
        policies, policy_optimiser = self._ascend(
            learned, value, archive, key=keys.ascent
        )
        metrics = {
            "critic_correlation": correlation(predictions, returns, valid),
            "value_policy": jnp.mean(targets.inverse(values)),
            "critic_loss": loss,
            "weight_norm": jnp.mean(jnp.linalg.norm(policies, axis=1)),
            "share_at_clip": jnp.mean(jnp.abs(policies) >= config.weight_clip),
        }
        learned = Learned(
            policies, policy_optimiser, value, value_optimiser, archive, centres
        )
        return learned, metrics

    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the unperturbed policy; of many, the one with the highest value.

        For V(s, θ) that is the mean over start states of one batch in the archive.
        """
        learned, best = state.learned, 0
        if self.config.policies == "many":
            count = min(self.config.num_envs, _STARTS_FOR_MANY)
            starts = learned.archive.entries.starts[:count, 0]
            values = self._policy_values(learned.value, learned.policies, starts)
            best = jnp.argmax(values).item()
        chosen = learned.policies[best][None]
        acting = self.fold_normalisation(chosen, state.observations)[0]
        policy, sizes = self.view.to_policy(acting), self.config.all_hidden
        if isinstance(policy, MLPPolicy):
            return policy.resized(sizes[best % len(sizes)])
        return policy

    # The start.

    def _draw_policies(self, *, key: PRNGKeyArray) -> Float[Array, "policies weights"]:
        config = self.config

        def draw(index):
            own_key = jr.fold_in(key, index)
            drawn = [
                make_policy(config.policy, self.task, hidden, key=own_key)
                for hidden in config.all_hidden
            ]
            vectors = [self.view.to_vector(_wide(policy, config)) for policy in drawn]
            return jnp.stack(vectors)[index % len(vectors)]

        return jax.vmap(draw)(jnp.arange(config.num_policies))

    def _empty_archive(
        self, policies: Float[Array, "policies weights"]
    ) -> tuple[Archive[Record], Centres | None]:
        config = self.config
        episodes = (config.num_envs, config.episodes)
        weights: Any = jnp.zeros((config.num_envs, policies.shape[1]))
        centres = None
        if config.perturbation == "low-rank":
            centres = Centres.empty(policies.shape[1], config.archive)
            like: Any = self.view.like
            drawn = draw_perturbations(
                like, config.num_envs, rank=config.rank, key=jr.key(0)
            )
            _, weights = centres.add(policies[0], drawn)
        record = Record(
            weights=weights,
            returns=jnp.zeros(episodes),
            starts=jnp.zeros((*episodes, self.task.observation_size)),
            valid=jnp.zeros(episodes, bool),
        )
        return Archive.empty(record, config.archive), centres

    def _to_policy(self, centres: Centres | None) -> Callable[[Any], AbstractPolicy]:
        """From weights in a record to the policy, all of whose weights are its own."""
        if centres is None:
            return self.view.to_policy
        return lambda weights: centres.policy(weights, self.view).whole

    # The critic.

    def _make_value(self, *, key: PRNGKeyArray) -> EncodedMLP:
        config = self.config
        encoder_key, head_key = jr.split(key)
        encoder = make_encoder(
            config.representation,
            self.task,
            self.view.like,
            config.encoder_options,
            key=encoder_key,
        )
        return value_function(
            encoder,
            config.critic_width,
            config.critic_depth,
            state_size=self.task.observation_size if config.start_states else 0,
            key=head_key,
        )

    def _predict(
        self,
        value: EncodedMLP,
        to_policy: Callable[[Any], AbstractPolicy],
        records: Record,
    ) -> Float[Array, "envs labels"]:
        """Values of the policies in a whole batch."""
        if self.config.perturbation == "full":
            return predict(value, to_policy, records)

        def of_one(record: Record) -> Float[Array, " labels"]:
            alone = jax.tree.map(lambda leaf: leaf[None], record)
            return predict(value, to_policy, alone)[0]

        # All of them at once would have all weights of all of them in memory.
        return jax.lax.map(of_one, records, batch_size=_ADDED_UP)

    # The policy.

    def _policy_values(
        self,
        value: EncodedMLP,
        policies: Float[Array, "policies weights"],
        starts: Float[Array, "starts observation"],
    ) -> Float[Array, " policies"]:
        """V of each policy; V(s, θ) averaged over start states."""

        def of_policy(weights):
            policy = self.view.to_policy(weights)
            if not value.condition_sizes:
                return value(policy)
            return jnp.mean(jax.vmap(lambda start: value(policy, start))(starts))

        return jax.vmap(of_policy)(policies)

    def _ascend(
        self,
        learned: Learned,
        value: EncodedMLP,
        archive: Archive[Record],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "policies weights"], optax.OptState]:
        """Gradient steps up the value, each followed by the clip."""
        config = self.config
        count = config.resolved_batch_size
        if config.policies == "many":
            count = min(count, _STARTS_FOR_MANY)

        def total_value(policies, starts):
            return jnp.sum(self._policy_values(value, policies, starts))

        def update(carry, key):
            policies, optimiser = carry
            starts = archive.sample(count, key=key).starts[:, 0]
            gradient = jax.grad(total_value)(policies, starts)
            gradient = gradient * self._weight_mask
            change, optimiser = update_of(self._policy_optimiser, -gradient, optimiser)
            policies = eqx.apply_updates(policies, change)
            if config.clip != "none":
                policies = jnp.clip(policies, -config.weight_clip, config.weight_clip)
            return (policies, optimiser), None

        (policies, optimiser), _ = jax.lax.scan(
            update,
            (learned.policies, learned.policy_optimiser),
            jr.split(key, config.policy_updates),
        )
        return policies, optimiser

    @property
    def _weight_mask(self) -> Float[Array, "policies weights"]:
        """1 for each weight that its policy has; 0 for those of wider ones."""
        config, ones = self.config, jnp.ones(self.view.space.size)
        policy = self.view.to_policy(ones)
        if not isinstance(policy, MLPPolicy):
            return jnp.tile(ones, (config.num_policies, 1))
        narrow = [policy.resized(hidden) for hidden in config.all_hidden]
        masks = jnp.stack([self.view.to_vector(_wide(p, config)) for p in narrow])
        return masks[jnp.arange(config.num_policies) % len(masks)]

    # The optimisers.

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        config = self.config
        steps = config.iterations * config.policy_updates
        return optax.adam(schedule(config.policy_lr, config.policy_lr_schedule, steps))

    @property
    def _value_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.critic_lr)


def _record(
    candidates: Float[Array, "envs weights"] | LowRankWeights, episodes: Episode
) -> Record:
    """Makes of candidates and their episodes what the archive keeps."""
    # Even a masked NaN would reach the gradient.
    starts = jnp.where(jnp.isfinite(episodes.start), episodes.start, 0.0)
    return Record(candidates, episodes.total_reward, starts, episodes.valid)


def _wide(policy: AbstractPolicy, config: Config) -> AbstractPolicy:
    """Fills a policy of any size up to the widths that all have in the archive."""
    return policy.resized(config.hidden) if isinstance(policy, MLPPolicy) else policy
