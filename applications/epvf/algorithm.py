"""EPVF: fit V(θ) to the returns of perturbed policies, then ascend its gradient.

Source: Bohlinger and Peters (2025), "Massively Scaling Explicit Policy-conditioned
Value Functions", on the start-state value function of Faccio et al. (2021),
"Parameter-based Value Functions". One iteration, with θ the policy, N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, and one return Gᵢ for each, all in parallel;
2. (θ̃ᵢ, Gᵢ) go into the archive;
3. V is fitted to the archive by mean squared error;
4. θ takes gradient steps up V(θ), and is clipped to a box after each.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.epvf.config import Config
from applications.policies import FlatView, MLPPolicy, Moments
from applications.rollout import Episode
from applications.search import AbstractPolicySearch, Metrics
from applications.stores import Archive, Record
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


class State(eqx.Module):
    """Everything that an iteration reads and writes.

    Attributes:
        policies: Weights θ of the unperturbed policies, one a row.
        policy_optimiser: Adam's moments for them.
        value: The value function.
        value_optimiser: Adam's moments for it.
        archive: Perturbed policies and their returns.
        seen: Moments of all observations so far.
        iteration: How many iterations are done.
        key: Source of the randomness to come.
    """

    policies: Float[Array, "policies weights"]
    policy_optimiser: optax.OptState
    value: EncodedMLP
    value_optimiser: optax.OptState
    archive: Archive[Record]
    seen: Moments
    iteration: Int[Array, ""]
    key: PRNGKeyArray


class Trial(eqx.Module):
    """The policies that an iteration tries.

    Attributes:
        population: Weights of the perturbed ones, then of some unperturbed ones.
        acting: The same, with the standardisation of observations put into them.
        key: Draws their episodes.
    """

    population: Float[Array, "policies weights"]
    acting: Float[Array, "policies weights"]
    key: PRNGKeyArray


@final
class EPVF(AbstractPolicySearch):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[MLPPolicy]

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.
        """
        self.task = task
        self.config = config
        self.view = FlatView(MLPPolicy(task, config.hidden, key=jr.key(0)))

    def init(self, *, key: PRNGKeyArray) -> State:
        """Draws the state before the first iteration.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state, with an empty archive.
        """
        config = self.config
        policy_key, value_key, run_key = jr.split(key, 3)
        count = config.num_envs if config.policies == "many" else 1

        def draw(index):
            own_key = jr.fold_in(policy_key, index)
            drawn = [
                MLPPolicy(self.task, hidden, key=own_key).resized(config.hidden)
                for hidden in config.all_hidden
            ]
            vectors = jnp.stack([self.view.to_vector(policy) for policy in drawn])
            return vectors[index % len(drawn)]

        policies = jax.vmap(draw)(jnp.arange(count))
        value = self._make_value(key=value_key)
        episodes = (config.num_envs, config.episodes)
        record = Record(
            weights=jnp.zeros((config.num_envs, policies.shape[1])),
            returns=jnp.zeros(episodes),
            starts=jnp.zeros((*episodes, self.task.observation_size)),
            valid=jnp.zeros(episodes, bool),
        )
        return State(
            policies,
            self._policy_optimiser.init(policies),
            value,
            self._value_optimiser.init(eqx.filter(value, eqx.is_inexact_array)),
            Archive.empty(record, config.archive),
            Moments.empty(self.task.observation_size),
            jnp.zeros((), jnp.int32),
            run_key,
        )

    def propose(self, state: State) -> Trial:
        """The policies to try in an iteration.

        Args:
            state: The state before it.

        Returns:
            Perturbed policies, and unperturbed ones to watch.
        """
        noise_key, rollout_key, *_ = jr.split(state.key, 5)
        perturbed = self._perturb(state, key=noise_key)
        # The one policy again and again, or the first ones of many.
        index = jnp.arange(self.config.eval_episodes) % state.policies.shape[0]
        population = jnp.concatenate([perturbed, state.policies[index]])
        acting = self.acting(population, state.seen)
        return Trial(population, acting, rollout_key)

    def learn(
        self, state: State, trial: Trial, episodes: Episode
    ) -> tuple[State, Metrics]:
        """What an iteration does with the episodes of the policies it tried.

        Args:
            state: The state before.
            trial: What was tried.
            episodes: How it went, `(policies, episodes)`.

        Returns:
            As `step`.
        """
        config = self.config
        _, _, fit_key, ascent_key, next_key = jr.split(state.key, 5)
        fresh, metrics = self._record(trial, episodes)
        seen = state.seen.join(episodes.seen)
        returns, valid = labels(state.value, fresh)
        predictions = predict(state.value, self.view.to_policy, fresh)
        metrics["critic_correlation"] = correlation(predictions, returns, valid)
        archive = state.archive.add(fresh)
        value, value_optimiser, targets, loss = fit(
            state.value,
            self._value_optimiser,
            state.value_optimiser,
            archive,
            self.view.to_policy,
            kind=config.targets,
            batch_size=config.resolved_batch_size,
            updates=config.critic_updates,
            key=fit_key,
        )
        starts = fresh.starts[: config.eval_episodes, 0]
        values = self._policy_values(value, state.policies, starts)
        policies, policy_optimiser = self._ascend(state, value, archive, key=ascent_key)
        metrics |= {
            "value_policy": jnp.mean(targets.inverse(values)),
            "critic_loss": loss,
            "weight_norm": jnp.mean(jnp.linalg.norm(policies, axis=1)),
            "share_at_clip": jnp.mean(jnp.abs(policies) >= config.weight_clip),
        }
        state = State(
            policies,
            policy_optimiser,
            value,
            value_optimiser,
            archive,
            seen,
            state.iteration + 1,
            next_key,
        )
        return state, metrics

    def policy(self, state: State) -> MLPPolicy:
        """The policy that a run stands for.

        Args:
            state: The run's state.

        Returns:
            The unperturbed policy; of many, the one with the highest value. For
            V(s, θ) that is the mean over start states of one batch in the archive.
        """
        best = 0
        if self.config.policies == "many":
            count = min(self.config.num_envs, _STARTS_FOR_MANY)
            starts = state.archive.entries.starts[:count, 0]
            values = self._policy_values(state.value, state.policies, starts)
            best = jnp.argmax(values).item()
        acting = self.acting(state.policies[best][None], state.seen)[0]
        widths = self.config.all_hidden
        return self.view.to_policy(acting).resized(widths[best % len(widths)])

    # Collecting.

    def _perturb(
        self, state: State, *, key: PRNGKeyArray
    ) -> Float[Array, "envs weights"]:
        config = self.config
        size = (state.policies.shape[1],)

        def draw(index):
            own_key = jr.fold_in(key, index)
            if config.noise == "uniform":
                return jr.uniform(own_key, size, minval=-1.0, maxval=1.0)
            return jr.normal(own_key, size)

        # Folded from the index, so that no device has to draw another one's noise.
        noise = jax.vmap(draw)(jnp.arange(config.num_envs))
        scale_at = schedule(
            config.noise_scale, config.noise_schedule, config.iterations
        )
        scale = scale_at(state.iteration)
        perturbed = state.policies + scale * noise * self._there
        if config.clip == "perturbed":
            perturbed = jnp.clip(perturbed, -config.weight_clip, config.weight_clip)
        return perturbed

    def _record(self, trial: Trial, episodes: Episode) -> tuple[Record, Metrics]:
        """What goes into the archive, and what is said of it."""
        count = self.config.num_envs
        perturbed = trial.population[:count]
        tried: Episode = jax.tree.map(lambda leaf: leaf[:count], episodes)
        unperturbed: Episode = jax.tree.map(lambda leaf: leaf[count:], episodes)
        # Even a masked NaN would reach the gradient.
        starts = jnp.where(jnp.isfinite(tried.start), tried.start, 0.0)
        fresh = Record(perturbed, tried.total_reward, starts, tried.valid)
        worst = jnp.where(tried.valid, tried.total_reward, -jnp.inf)
        metrics: Metrics = {
            "return_perturbed_mean": jnp.mean(tried.total_reward, where=tried.valid),
            "return_perturbed_max": jnp.max(worst),
            "return_policy": jnp.mean(
                unperturbed.total_reward, where=unperturbed.valid
            ),
            "env_steps": jnp.sum(tried.length),
            "nan_episodes": jnp.sum(~episodes.valid),
        }
        return fresh, metrics

    # The critic.

    def _make_value(self, *, key: PRNGKeyArray) -> EncodedMLP:
        config = self.config
        encoder_key, head_key = jr.split(key)
        encoder = make_encoder(
            config.representation,
            self.task,
            MLPPolicy(self.task, config.hidden, key=jr.key(0)),
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
        state: State,
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
            gradient = gradient * self._there
            change, optimiser = update_of(self._policy_optimiser, -gradient, optimiser)
            policies = eqx.apply_updates(policies, change)
            if config.clip != "none":
                policies = jnp.clip(policies, -config.weight_clip, config.weight_clip)
            return (policies, optimiser), None

        (policies, optimiser), _ = jax.lax.scan(
            update,
            (state.policies, state.policy_optimiser),
            jr.split(key, config.policy_updates),
        )
        return policies, optimiser

    @property
    def _there(self) -> Float[Array, "policies weights"]:
        """1 for each weight that its policy has; 0 for those of wider ones."""
        config = self.config
        policy = self.view.to_policy(jnp.ones(self.view.space.size))
        masks = jnp.stack(
            [
                self.view.to_vector(policy.resized(hidden).resized(config.hidden))
                for hidden in config.all_hidden
            ]
        )
        count = config.num_envs if config.policies == "many" else 1
        return masks[jnp.arange(count) % len(masks)]

    # The optimisers.

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        config = self.config
        steps = config.iterations * config.policy_updates
        return optax.adam(schedule(config.policy_lr, config.policy_lr_schedule, steps))

    @property
    def _value_optimiser(self) -> optax.GradientTransformation:
        return optax.adam(self.config.critic_lr)
