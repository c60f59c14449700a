"""PSVF and PAVF: fit V(s, θ) or Q(s, a, θ) to single steps, then ascend it in θ.

Source: Faccio, Kirsch and Schmidhuber (2021), "Parameter-based Value Functions". One
round, with θ the policy and N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, each of which takes a segment of steps;
2. the segments go into the replay, each with its θ̃ᵢ;
3. by turns, the critic is fitted to λ-returns along segments of the replay, and θ
   ascends the mean over states of V(s, θ), or of Q(s, π_θ(s), θ).

Without θ in the critic (`--representation none`) this is an ordinary actor-critic, over
a population of perturbed policies.
"""

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from applications.envs import AbstractEnvironment, Continuous
from applications.policies import (
    AbstractPolicy,
    FlatView,
    NoisyPolicy,
    RunningStatistics,
    standardise,
    StochasticPolicy,
)
from applications.pvf._start import draw_policy
from applications.pvf.config import Config
from applications.rollout import engine_for, Episode, Unrolled
from applications.search import (
    AbstractStepSearch,
    Actors,
    draw_noise,
    Metrics,
    SearchState,
)
from applications.settings import UserError
from applications.stores import Replay, Segment
from applications.values import (
    correlation,
    draw_ensemble,
    follows,
    lambda_returns,
    likelihood_ratio_terms,
    make_encoder,
    pathwise_terms,
    schedule,
    StepCritic,
    StepValue,
    surrounded,
    Surroundings,
    Terms,
    update_of,
    values_of,
    Visited,
)


# Largest magnitude of a standardised observation that is learned from.
_LARGEST = 10.0
# States over which the value of a fresh policy is the mean.
_STATES = 256
# Fresh perturbations by which the spread of what is read of policies is measured.
_MEASURED = 32


class Actor(eqx.Module):
    """The policy, and what follows it.

    Attributes:
        weights: θ, for standardised observations if the settings say so.
        optimiser: Adam's moments.
        target: Its slow copy.
    """

    weights: Float[Array, " weights"]
    optimiser: optax.OptState
    target: Float[Array, " weights"]


class Critic(eqx.Module):
    """The value function, and what follows it.

    Attributes:
        critics: The ensemble.
        optimiser: Adam's moments.
        target: Its slow copy, from which targets are made.
    """

    critics: StepCritic
    optimiser: optax.OptState
    target: StepCritic


class Learned(eqx.Module):
    """What the algorithm keeps from one round to the next.

    Attributes:
        actor: The policy.
        critic: The value function.
        replay: Segments of the last rounds.
        acting: Weights of the perturbed policies as they act, one a row.
        is_done: Whose episode has ended, so that it is drawn anew.
    """

    actor: Actor
    critic: Critic
    replay: Replay
    acting: Float[Array, "environments weights"]
    is_done: Bool[Array, " environments"]


class Keys(NamedTuple):
    """The randomness of one round."""

    rollout: PRNGKeyArray
    learn: PRNGKeyArray
    next: PRNGKeyArray


class Frame(eqx.Module):
    """What stays as it is while a round learns.

    Attributes:
        observations: By what observations are standardised.
        noise_scale: σ.
        reward_scale: What rewards are multiplied by.
    """

    observations: RunningStatistics
    noise_scale: Float[Array, ""]
    reward_scale: Float[Array, ""]


@final
class PVF(AbstractStepSearch[Learned, Keys]):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
        value: How the critic is asked.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    value: StepValue

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If the settings are not for such actions, or steps of the task
                cannot be had.
        """
        is_continuous = isinstance(task.action_space, Continuous)
        if (
            config.critic == "pavf"
            and config.policy_kind == "deterministic"
            and not is_continuous
        ):
            raise UserError(
                "--policy-kind deterministic has no gradient by way of discrete "
                "actions: add --policy-kind stochastic, or --critic psvf."
            )
        try:
            engine_for(task).compile_unroll(self.make_actor, steps=config.segment)
        except ValueError as error:
            raise UserError(f"Steps of this task cannot be had: {error}") from error
        self.task = task
        self.config = config
        self.view = FlatView(draw_policy(task, config, key=jr.key(0)))
        self.value = StepValue(task.action_space, config.critic == "pavf")

    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws policy and critic; the replay is empty."""
        config = self.config
        policy_key, critic_key, run_key = jr.split(key, 3)
        weights = self.view.to_vector(draw_policy(self.task, config, key=policy_key))
        critics = self._draw_critics(key=critic_key)
        arrays = eqx.filter(critics, eqx.is_inexact_array)
        learned = Learned(
            Actor(weights, self._policy_optimiser.init(weights), weights),
            Critic(critics, optax.adam(config.critic_lr).init(arrays), critics),
            self._empty_replay(),
            jnp.zeros((config.num_envs, weights.size)),
            jnp.ones(config.num_envs, bool),
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of a round by purpose."""
        return Keys(*jr.split(key, 3))

    def propose(self, state: SearchState[Learned], keys: Keys) -> Actors:
        """Step 1: θ̃ᵢ = θ + σ εᵢ, or the same as before where an episode goes on."""
        fresh = self._perturbed(state, self.config.num_envs, key=keys.rollout)
        if self.config.redraw == "episode":
            learned = state.learned
            fresh = jnp.where(learned.is_done[:, None], fresh, learned.acting)
        return Actors((fresh, self._action_noise(state, len(fresh))), context=fresh)

    def make_actor(self, row: PyTree[Array]) -> Any:
        """A perturbed policy; a deterministic one with noise on its actions."""
        weights, action_noise = row
        policy = self.view.to_policy(weights)
        if self.config.policy_kind == "stochastic":
            return policy
        return NoisyPolicy(policy, action_noise)

    def learn(
        self,
        state: SearchState[Learned],
        actors: Actors,
        unrolled: Unrolled,
        observations: RunningStatistics,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Steps 2 and 3: store the segments; fit the critic and ascend it, by turns."""
        config, learned = self.config, state.learned
        replay = learned.replay.add(self._segments(unrolled, actors.context))
        frame = Frame(
            observations, self._noise_scale(state), self._reward_scale(replay)
        )
        critic = self._with_surroundings(learned.critic, learned.actor, replay, frame)

        def fit(carry: Any, key: PRNGKeyArray) -> tuple[Any, Metrics]:
            actor, critic = carry
            return self._fit_critic(actor, critic, replay, frame, key=key)

        def turn(carry: Any, key: PRNGKeyArray) -> tuple[Any, Metrics]:
            fit_key, ascent_key = jr.split(key)
            carry, fitted = jax.lax.scan(
                fit, carry, jr.split(fit_key, config.policy_delay)
            )
            actor, critic = carry
            actor, ascended = self._ascend(actor, critic, replay, frame, key=ascent_key)
            return (actor, critic), jax.tree.map(jnp.mean, fitted) | ascended

        (actor, critic), metrics = jax.lax.scan(
            turn, (learned.actor, critic), jr.split(keys.learn, config.updates)
        )
        unknown = jnp.full((), jnp.nan)
        metrics = jax.tree.map(jnp.mean, metrics) | {
            "weight_norm": jnp.linalg.norm(actor.weights),
            "noise_scale": frame.noise_scale,
            "nan_steps": jnp.sum(~unrolled.transitions.valid),
            "value_correlation": unknown,
            "start_correlation": unknown,
        }
        is_done = jnp.any(unrolled.finished.ended, axis=0)
        return Learned(actor, critic, replay, actors.context, is_done), metrics

    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the unperturbed policy; of a distribution, the one without noise."""
        weights = state.learned.actor.weights[None]
        acting = self.fold_normalisation(weights, state.observations)[0]
        policy = self.view.to_policy(acting)
        return policy.mean if isinstance(policy, StochasticPolicy) else policy

    # The start.

    def _draw_critics(self, *, key: PRNGKeyArray) -> StepCritic:
        config, task = self.config, self.task
        size = task.observation_size
        if self.value.reads_actions:
            size += task.action_space.output_size
        encoder: Any = None
        if config.reads_policies:
            like = self._shown_policy(jnp.zeros(self.view.space.size))
            encoder = lambda key: make_encoder(
                config.representation, task, like, config.encoder_options, key=key
            )
        return draw_ensemble(
            encoder,
            size,
            config.critic_width,
            config.critic_depth,
            count=config.ensemble,
            normalise=config.critic_norm,
            key=key,
        )

    def _empty_replay(self) -> Replay:
        config, task = self.config, self.task
        batch = (config.num_envs, config.segment)
        no, zeros = jnp.zeros(batch, bool), jnp.zeros(batch)
        seen = jnp.zeros((*batch, task.observation_size))
        like = Segment(
            observation=seen,
            drawn=jnp.zeros((*batch, task.action_space.output_size)),
            log_prob=zeros if config.policy_kind == "stochastic" else None,
            reward=zeros,
            next_observation=seen,
            terminated=no,
            truncated=no,
            valid=no,
            weights=(
                jnp.zeros((config.num_envs, self.view.space.size))
                if config.keeps_policies
                else None
            ),
        )
        return Replay.empty(like, config.replay // (config.num_envs * config.segment))

    # What acts.

    def _noise_share(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """The share of the noise that is left."""
        config = self.config
        share = schedule(
            1.0, config.noise_schedule, config.all_rounds, end=config.noise_end
        )
        return jnp.asarray(share(state.iteration), jnp.float32)

    def _noise_scale(self, state: SearchState[Learned]) -> Float[Array, ""]:
        return self.config.noise_scale * self._noise_share(state)

    def _action_noise(
        self, state: SearchState[Learned], count: int
    ) -> Float[Array, " policies"]:
        scale = self.config.action_noise * self._noise_share(state)
        return jnp.broadcast_to(scale, (count,))

    def _perturbed(
        self, state: SearchState[Learned], count: int, *, key: PRNGKeyArray
    ) -> Float[Array, "policies weights"]:
        """Perturbed policies, for observations as they are."""
        weights = state.learned.actor.weights
        noise = draw_noise("gaussian", count, weights.size, key=key)
        candidates = weights[None] + self._noise_scale(state) * noise
        return self.fold_normalisation(candidates, state.observations)

    # What is learned from.

    def _segments(
        self, unrolled: Unrolled, acting: Float[Array, "environments weights"]
    ) -> Segment:
        steps = jax.tree.map(
            lambda leaf: jnp.moveaxis(leaf, 1, 0), unrolled.transitions
        )
        is_stochastic = self.config.policy_kind == "stochastic"
        return Segment(
            observation=steps.observation,
            drawn=self.value.drawn(steps),
            log_prob=steps.extras.log_prob if is_stochastic else None,
            reward=steps.reward,
            next_observation=steps.next_observation,
            terminated=steps.terminated,
            truncated=steps.truncated,
            valid=steps.valid,
            weights=acting if self.config.keeps_policies else None,
        )

    def _reward_scale(self, replay: Replay) -> Float[Array, ""]:
        """(1 - γ) by the root mean square of the rewards in the replay."""
        if not self.config.scale_rewards:
            return jnp.ones(())
        entries = replay.segments.entries
        there = entries.valid & replay.segments.filled[:, None]
        square = jnp.mean(jnp.square(entries.reward), where=there)
        known = square > 1e-20
        left = max(1 - self.config.discount, 1 / self.task.horizon)
        return jnp.where(known, left / jnp.sqrt(jnp.where(known, square, 1.0)), 1.0)

    def _states(
        self, observations: Float[Array, "*batch observation"], frame: Frame
    ) -> Float[Array, "*batch observation"]:
        """Observations as policies and critics are shown them."""
        if not self.config.normalise:
            return observations
        states = standardise(observations, frame.observations)
        return jnp.clip(states, -_LARGEST, _LARGEST)

    def _shown_policy(self, weights: Float[Array, " weights"]) -> Any:
        """The policy that encoders are shown: a distribution's without noise."""
        policy = self.view.to_policy(weights)
        if isinstance(policy, StochasticPolicy) and not self._reads_weights:
            return policy.mean
        return policy

    @property
    def _reads_weights(self) -> bool:
        return "flat" in self.config.representation

    def _with_surroundings(
        self, critic: Critic, actor: Actor, replay: Replay, frame: Frame
    ) -> Critic:
        """The critic, whose encoders compare policies with the present one."""
        if not self.config.reads_policies:
            return critic
        key = jr.key(0)
        noise = draw_noise("gaussian", _MEASURED, actor.weights.size, key=key)
        scale = jnp.maximum(frame.noise_scale, 1e-6)
        fresh = jax.vmap(self._shown_policy)(actor.weights[None] + scale * noise)
        count = self.config.encoder_options.states
        seen = replay.sample(count, 1, key=key).observation[:, 0]
        surroundings = Surroundings(
            centre=self._shown_policy(actor.weights),
            noise_scale=scale,
            weight_mean=None,
            weight_std=None,
            fresh=fresh,
            known=None,
            states=self._states(seen, frame),
        )

        @eqx.filter_vmap
        def put(critic: StepCritic) -> StepCritic:
            encoder = surrounded(critic.encoder, surroundings)
            return eqx.tree_at(lambda critic: critic.encoder, critic, encoder)

        return Critic(put(critic.critics), critic.optimiser, put(critic.target))

    # The critic.

    def _fit_critic(
        self,
        actor: Actor,
        critic: Critic,
        replay: Replay,
        frame: Frame,
        *,
        key: PRNGKeyArray,
    ) -> tuple[tuple[Actor, Critic], Metrics]:
        """One step down the error of the λ-returns; slow copies follow."""
        config = self.config
        sample_key, policy_key, target_key, noise_key = jr.split(key, 4)
        length = config.batch_steps or config.segment
        batch = replay.sample(config.batch_segments, length, key=sample_key)
        acting = self._evaluated(actor, batch, frame, key=policy_key)
        shown = acting
        if config.theta_noise:
            noise = jr.normal(noise_key, acting.shape)
            shown = acting + config.theta_noise * frame.noise_scale * noise

        def targets_of(*of_one: Any) -> Array:
            segment, shown, acting, key = of_one
            return self._targets(critic.target, segment, shown, acting, frame, key=key)

        own_keys = jr.split(target_key, len(acting))
        targets = jax.vmap(targets_of)(batch, shown, acting, own_keys)
        arrays, rest = eqx.partition(critic.critics, eqx.is_inexact_array)

        def loss_of(arrays: Any) -> tuple[Array, Array]:
            critics = eqx.combine(arrays, rest)
            of_one = lambda segment, shown: self._taken(critics, segment, shown, frame)
            values = jax.vmap(of_one)(batch, shown)
            error = jnp.square(values - targets[:, None])
            valid = batch.valid[:, None]
            count = jnp.maximum(jnp.sum(valid), 1).astype(error.dtype)
            error = jnp.sum(jnp.where(valid, error, 0.0)) / count
            mean = jnp.mean(values, where=jnp.broadcast_to(valid, values.shape))
            return error, mean / frame.reward_scale

        (loss, mean), gradient = jax.value_and_grad(loss_of, has_aux=True)(arrays)
        optimiser = optax.adam(config.critic_lr)
        change, moments = update_of(optimiser, gradient, critic.optimiser)
        critics = eqx.combine(eqx.apply_updates(arrays, change), rest)
        target = _follow(critic.target, critics, config.target_rate)
        slow = _follow(actor.target, actor.weights, config.target_rate)
        actor = Actor(actor.weights, actor.optimiser, slow)
        metrics = {"critic_loss": loss, "q_mean": mean}
        return (actor, Critic(critics, moments, target)), metrics

    def _evaluated(
        self, actor: Actor, batch: Segment, frame: Frame, *, key: PRNGKeyArray
    ) -> Float[Array, "segments weights"]:
        """Which policy's value each segment tells of, for states as they are shown.

        The one that acted, as it was; one around the present one, with `--relabel`; or
        the present one, where the critic does not read policies.
        """
        if batch.weights is not None:
            return self.unfold_normalisation(batch.weights, frame.observations)
        weights = actor.target if self.config.target_policy else actor.weights
        shape = (self.config.batch_segments, weights.size)
        policies = jnp.broadcast_to(weights, shape)
        if self.config.relabel:
            policies = policies + frame.noise_scale * jr.normal(key, shape)
        return policies

    def _targets(
        self,
        critics: StepCritic,
        segment: Segment,
        shown: Float[Array, " weights"],
        acting: Float[Array, " weights"],
        frame: Frame,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, " steps"]:
        """λ-returns of one segment, with values of the slow critic."""
        config = self.config
        reduce = jnp.min if config.ensemble_value == "min" else jnp.mean
        next_values = self.value.of_policy(
            critics,
            self._shown_policy(shown),
            self.view.to_policy(acting),
            self._states(segment.next_observation, frame),
            noise=config.target_noise,
            largest_noise=config.target_noise_clip,
            key=key,
        )
        taken = None
        if config.corrected:
            taken = reduce(self._taken(critics, segment, shown, frame), axis=0)
        return lambda_returns(
            segment.reward * frame.reward_scale,
            reduce(next_values, axis=0),
            terminated=segment.terminated,
            goes_on=follows(segment.terminated, segment.truncated, segment.valid),
            discount=config.discount,
            trace=config.lambda_,
            taken_values=taken,
        )

    def _taken(
        self,
        critics: StepCritic,
        segment: Segment,
        shown: Float[Array, " weights"],
        frame: Frame,
    ) -> Float[Array, "critics steps"]:
        """Values of what was done in one segment."""
        states = self._states(segment.observation, frame)
        conditions = self.value.conditions(
            states, segment.drawn, before_tanh=self._draws_before_tanh
        )
        return values_of(critics, self._shown_policy(shown), conditions)

    @property
    def _draws_before_tanh(self) -> bool:
        is_continuous = isinstance(self.task.action_space, Continuous)
        return is_continuous and self.config.policy_kind == "stochastic"

    # The policy.

    def _ascend(
        self,
        actor: Actor,
        critic: Critic,
        replay: Replay,
        frame: Frame,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Actor, Metrics]:
        """One step of θ up the mean value of visited states."""
        config = self.config
        sample_key, key = jr.split(key)
        if config.policy_states is not None:
            batch = replay.sample(config.policy_states, 1, key=sample_key)
        else:
            length = config.batch_steps or config.segment
            batch = replay.sample(config.batch_segments, length, key=sample_key)
        terms = self._terms(actor.weights, critic, batch, frame, key=key)
        gradient = jnp.zeros_like(actor.weights)
        metrics = {}
        if terms.action is not None:
            gradient = gradient + terms.action
            metrics["action_term"] = jnp.linalg.norm(terms.action)
        if terms.theta is not None:
            weight = config.theta_term if self.value.reads_actions else 1.0
            gradient = gradient + weight * terms.theta
            metrics["theta_term"] = jnp.linalg.norm(terms.theta)
        if terms.effective is not None:
            metrics["effective_sample_size"] = terms.effective
        change, moments = update_of(self._policy_optimiser, -gradient, actor.optimiser)
        weights = eqx.apply_updates(actor.weights, change)
        return Actor(weights, moments, actor.target), metrics

    def _terms(
        self,
        weights: Float[Array, " weights"],
        critic: Critic,
        batch: Segment,
        frame: Frame,
        *,
        key: PRNGKeyArray,
    ) -> Terms:
        config = self.config
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
        visited = Visited(
            self._states(flat.observation, frame),
            flat.drawn,
            flat.log_prob,
            flat.valid,
        )
        if config.policy_gradient == "likelihood-ratio":
            return likelihood_ratio_terms(
                self.value,
                critic.critics,
                self.view.to_policy,
                weights,
                visited,
                reads_policies=config.reads_policies,
                importance=config.importance,
                largest=config.importance_clip,
                baseline=config.baseline,
            )
        return pathwise_terms(
            self.value,
            critic.critics,
            self.view.to_policy,
            weights,
            visited,
            reads_policies=config.reads_policies,
            key=key,
        )

    @property
    def _policy_optimiser(self) -> optax.GradientTransformation:
        config = self.config
        rate = schedule(
            config.policy_lr,
            config.policy_lr_schedule,
            config.all_rounds * config.updates,
        )
        return optax.adam(rate)

    # Whether values are right.

    def fresh(self, state: SearchState[Learned], *, key: PRNGKeyArray) -> PyTree[Array]:
        """Draws perturbed policies as those that act."""
        count = self.config.fresh_policies
        acting = self._perturbed(state, count, key=key)
        return acting, self._action_noise(state, count)

    def judge(
        self, state: SearchState[Learned], population: PyTree[Array], episodes: Episode
    ) -> Metrics:
        """Correlates values of fresh policies with their returns.

        The value of a policy is the mean over states of the replay, as it is ascended,
        or that of its start state.
        """
        learned, seen = state.learned, state.observations
        frame = Frame(seen, self._noise_scale(state), jnp.ones(()))
        acting = self.unfold_normalisation(population[0], seen)
        sample = learned.replay.sample(_STATES, 1, key=state.key)
        states = self._states(sample.observation[:, 0], frame)
        starts = self._states(episodes.start, frame)

        def of_one(weights: Array, start: Array) -> tuple[Array, Array]:
            values = self.value.of_policy(
                learned.critic.critics,
                self._shown_policy(weights),
                self.view.to_policy(weights),
                jnp.concatenate([states, start]),
                key=state.key,
            )
            means = jnp.mean(values, axis=0)
            return jnp.mean(means[:_STATES]), jnp.mean(means[_STATES:])

        of_states, of_starts = jax.vmap(of_one)(acting, starts)
        returns, valid = episodes.total_reward[:, 0], episodes.valid[:, 0]
        return {
            "value_correlation": correlation(of_states, returns, valid),
            "start_correlation": correlation(of_starts, returns, valid),
        }


def _follow(slow: Any, fast: Any, rate: float) -> Any:
    """Moves a slow copy: Polyak's average."""
    return jax.tree.map(
        lambda old, new: old + rate * (new - old) if eqx.is_inexact_array(old) else new,
        slow,
        fast,
    )
