"""EPVF: fit V(θ) to the returns of perturbed policies, then ascend its gradient.

Source: Bohlinger and Peters (2025), "Massively Scaling Explicit Policy-conditioned
Value Functions", on the start-state value function of Faccio et al. (2021),
"Parameter-based Value Functions". One iteration, with θ the policy, N environments:

1. θ̃ᵢ = θ + σ εᵢ for i = 1..N, and one return Gᵢ for each, all in parallel;
2. (θ̃ᵢ, Gᵢ) go into the archive;
3. V is fitted to the archive;
4. θ ascends V(θ).

What differs from the paper by default: V reads what policies answer in states that were
observed, it is a Gaussian process fitted to ranks, and a step goes as far as these
answers may change. `--preset paper` has V read weights, fits a perceptron by gradient
steps, and clips θ to a box after each of Adam's steps.
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
    RunningStatistics,
    standardise,
    unstandardised,
)
from applications.rollout import Episode, SharedPopulation
from applications.search import (
    AbstractPolicySearch,
    draw_noise,
    draw_perturbations,
    LowRankCandidates,
    Metrics,
    noise_units,
    Outcome,
    Proposal,
    SearchState,
)
from applications.stores import Archive, Centres, Record, StatePool
from applications.values import (
    AbstractCritic,
    bounded_answer,
    correlation,
    Fitted,
    KernelCritic,
    labels,
    make_encoder,
    observed_states,
    ObservedStates,
    PerceptronCritic,
    predict,
    root_mean_square,
    schedule,
    surrounded,
    Surroundings,
    trust_step,
    update_of,
    Value,
)


# With many policies, start states over which each gradient of V(s, θ) is averaged.
_STARTS_FOR_MANY = 64
# Standard deviation of the perturbations, before scaling.
_DEVIATION = {"gaussian": 1.0, "uniform": 3**-0.5}
# The share of perturbations that do better at which their scale stays, how fast it is
# adapted, and within which factors.
_SUCCESS, _ADAPTATION, _FACTORS = 0.2, 0.2, (0.1, 10.0)
# Fresh policies by which the spread of perturbations is measured, at most.
_MEASURED = 256
# Policies of low rank that V is shown at once.
_AT_ONCE = 64


class Learned(eqx.Module):
    """What EPVF keeps from one iteration to the next.

    Attributes:
        policies: Weights θ of the unperturbed policies, one a row.
        policy_optimiser: Adam's moments for them; empty with trusted steps.
        critic: The value function and what belongs to it.
        archive: Perturbed policies, as they acted on observations as they are, and
            their returns.
        states: Observations of the last iterations; None where nothing reads them.
        centres: With perturbations of low rank, what they are perturbations of.
        noise_factor: By what σ is multiplied beside its schedule.
    """

    policies: Float[Array, "policies weights"]
    policy_optimiser: optax.OptState
    critic: Fitted
    archive: Archive[Record]
    states: StatePool | None
    centres: Centres | None
    noise_factor: Float[Array, ""]


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
        critic: Fits V.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    critic: AbstractCritic

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.
        """
        self.task = task
        self.config = config
        self.view = FlatView(self._draw_policy(config.hidden, key=jr.key(0)))
        self.critic = _make_critic(task, config, self.view)

    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws policies and value function; the archive is empty."""
        policy_key, value_key, run_key = jr.split(key, 3)
        policies = self._draw_policies(key=policy_key)
        learned = Learned(
            policies,
            () if self.config.step == "trust" else self._optimiser.init(policies),
            self.critic.init(key=value_key),
            *self._empty_archive(policies),
            jnp.ones(()),
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        return Keys(*jr.split(key, 5))

    def propose(self, state: SearchState[Learned], keys: Keys) -> Proposal:
        """Step 1: θ̃ᵢ = θ + σ εᵢ; beside them θ itself, to see how it stands."""
        config, policies = self.config, state.learned.policies
        # The one policy again and again, or the first ones of many.
        evaluation = policies[jnp.arange(config.eval_episodes) % len(policies)]
        if config.perturbation == "low-rank":
            like: Any = self.view.like
            drawn = draw_perturbations(
                like,
                config.num_envs,
                rank=config.rank,
                scale=self._noise_scale(state),
                antithetic=config.antithetic,
                key=keys.noise,
            )
            return Proposal(LowRankCandidates(policies[0], drawn), evaluation)
        size = (config.num_envs, policies.shape[1])
        noise = draw_noise(
            config.noise, *size, antithetic=config.antithetic, key=keys.noise
        )
        noise = noise * self._units(policies)
        candidates = policies + self._noise_scale(state) * noise * self._weight_mask
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
        returns, valid, predictions = self._predict(
            learned.critic.value, proposal.candidates, outcome.candidates
        )
        states_key = jr.fold_in(keys.fit, 0)
        acting, centres = self._kept(outcome.acting, learned.centres)
        archive = learned.archive.add(_record(acting, outcome.candidates))
        pool = _with_visits(learned.states, outcome)
        # From here on V is shown policies for observations by the latest statistics.
        shown = self._shown(centres, outcome.observations)
        states = self._draw_states(pool, outcome.observations, key=states_key)
        surroundings = self._surroundings(state, archive, shown, states)
        critic, targets, loss = self.critic.fit(
            learned.critic, archive, shown, surroundings, key=keys.fit
        )

        starts = _starts(outcome.candidates)[: config.eval_episodes, 0]
        values = self._policy_values(critic.value, learned.policies, starts)
        policies, optimiser = self._ascend(
            state, critic.value, archive, surroundings, key=keys.ascent
        )
        step = jnp.sqrt(jnp.mean(jnp.square(policies - learned.policies)))
        metrics = {
            "critic_correlation": correlation(predictions, returns, valid),
            "value_policy": jnp.mean(targets.inverse(values)),
            "critic_loss": loss,
            "weight_norm": jnp.mean(jnp.linalg.norm(policies, axis=1)),
            "weight_step": step / self._deviation(state),
            "noise_scale": self._noise_scale(state),
            "share_at_clip": jnp.mean(jnp.abs(policies) >= config.weight_clip),
        }
        if pool is not None:
            spread = self._answer_spread(learned.policies, surroundings)
            metrics["answer_spread"] = spread
        learned = Learned(
            policies,
            optimiser,
            critic,
            archive,
            pool,
            centres,
            self._noise_factor(learned.noise_factor, outcome),
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
            value = learned.critic.value
            values = self._policy_values(value, learned.policies, starts)
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
                self._draw_policy(hidden, key=own_key) for hidden in config.all_hidden
            ]
            vectors = [
                self.view.to_vector(_wide(_started(policy, config), config))
                for policy in drawn
            ]
            return jnp.stack(vectors)[index % len(vectors)]

        return jax.vmap(draw)(jnp.arange(config.num_policies))

    def _draw_policy(
        self, hidden: tuple[int, ...], *, key: PRNGKeyArray
    ) -> AbstractPolicy:
        name, levels = self.config.policy, self.config.action_levels
        return make_policy(name, self.task, hidden, levels=levels, key=key)

    def _empty_archive(
        self, policies: Float[Array, "policies weights"]
    ) -> tuple[Archive[Record], StatePool | None, Centres | None]:
        config = self.config
        episodes = (config.num_envs, config.episodes)
        centres, weights = None, jnp.zeros((config.num_envs, policies.shape[1]))
        if config.perturbation == "low-rank":
            like: Any = self.view.like
            draw = lambda key: draw_perturbations(
                like, config.num_envs, rank=config.rank, key=key
            )
            centres = Centres.empty(policies.shape[1], config.archive)
            drawn = jax.eval_shape(draw, jr.key(0))
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), drawn)
            _, weights = centres.add(policies[0], zeros)
        record = Record(
            weights=weights,
            returns=jnp.zeros(episodes),
            starts=jnp.zeros((*episodes, self.task.observation_size)),
            valid=jnp.zeros(episodes, bool),
        )
        pool = None
        if config.observes:
            pool = StatePool.empty(
                (config.num_envs + config.eval_episodes)
                * config.episodes
                * config.visits,
                config.state_iterations,
                self.task.observation_size,
            )
        return Archive.empty(record, config.archive), pool, centres

    # Perturbations.

    def _noise_scale(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """σ, by which noise is scaled."""
        config = self.config
        scale = schedule(
            config.noise_scale,
            config.noise_schedule,
            config.iterations,
            end=config.noise_end,
        )
        return state.learned.noise_factor * jnp.asarray(
            scale(state.iteration), jnp.float32
        )

    def _noise_factor(
        self, factor: Float[Array, ""], outcome: Outcome
    ) -> Float[Array, ""]:
        """The next factor of σ, by the one-fifth success rule (Rechenberg, 1973)."""
        if self.config.noise_adaptation == "none":
            return factor
        tried, watched = outcome.candidates, outcome.evaluation
        own = jnp.mean(watched.total_reward, where=watched.valid)
        better = jnp.mean(tried.total_reward > own, where=tried.valid)
        # Where all are alike, nothing is to be learned from the width.
        returns = jnp.where(tried.valid, tried.total_reward, own)
        known = jnp.isfinite(better) & (jnp.ptp(returns) > 0)
        change = jnp.where(known, _ADAPTATION * (better - _SUCCESS), 0.0)
        return jnp.clip(factor * jnp.exp(change), *_FACTORS)

    def _deviation(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """Standard deviation of the perturbations of a weight."""
        # A schedule ends at 0.
        return (
            jnp.maximum(self._noise_scale(state), 1e-6) * _DEVIATION[self.config.noise]
        )

    def _units(
        self, policies: Float[Array, "policies weights"]
    ) -> Float[Array, "policies weights"]:
        """In what units the weights of each policy are perturbed."""

        def of_one(weights):
            units = noise_units(self.view.to_policy(weights), self.config.noise_shape)
            return self.view.to_vector(units)

        return jax.vmap(of_one)(policies)

    # The critic.

    def _predict(
        self, value: Value, candidates: Any, episodes: Episode
    ) -> tuple[Array, Array, Array]:
        """Returns, which are there, and what V said before it saw them."""
        if not isinstance(candidates, LowRankCandidates):
            fresh = _record(candidates, episodes)
            return *labels(value, fresh), predict(value, self.view.to_policy, fresh)
        fresh = _record(candidates.perturbations, episodes)
        policy: Any = self.view.to_policy(candidates.centre)

        def of_one(record: Record) -> Float[Array, " labels"]:
            alone = jax.tree.map(lambda leaf: leaf[None], record)
            return predict(value, lambda own: policy.perturbed(own).whole, alone)[0]

        # All of them at once would have all weights of all of them in memory.
        said = jax.lax.map(of_one, fresh, batch_size=_AT_ONCE)
        return *labels(value, fresh), said

    def _kept(self, acting: Any, centres: Centres | None) -> tuple[Any, Centres | None]:
        """What the archive keeps of candidates as they acted."""
        if centres is None:
            return acting, None
        assert isinstance(acting, SharedPopulation)
        centres, weights = centres.add(self.view.to_vector(acting.shared), acting.own)
        return weights, centres

    def _shown(
        self, centres: Centres | None, observations: RunningStatistics
    ) -> Callable[[Any], AbstractPolicy]:
        """From an entry's weights to its policy, for standardised observations.

        Entries stay the policies that they were, by whatever statistics observations
        are standardised now.
        """

        def of_entry(weights: Any) -> AbstractPolicy:
            policy: Any = (
                self.view.to_policy(weights)
                if centres is None
                else centres.policy(weights, self.view).whole
            )
            if not self.config.normalise:
                return policy
            return unstandardised(policy, observations)

        return of_entry

    def _draw_states(
        self,
        pool: StatePool | None,
        observations: RunningStatistics,
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "states observation"]:
        """Observed states, standardised as policies are shown them."""
        config = self.config
        if pool is None:
            return jnp.zeros((config.num_states, self.task.observation_size))
        states = pool.sample(config.num_states, key=key)
        return standardise(states, observations) if config.normalise else states

    def _surroundings(
        self,
        state: SearchState[Learned],
        archive: Archive[Record],
        shown: Callable[[Any], AbstractPolicy],
        states: Float[Array, "states observation"],
    ) -> Surroundings:
        """What V's inputs are standardised by."""
        # The last batch in the archive; pairs stay together.
        newest = (archive.added - archive.batch) % archive.capacity
        count = min(self.config.num_envs, _MEASURED)
        fresh = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, newest, count),
            archive.entries.weights,
        )
        mean = std = known = None
        if self.config.inputs == "archive":
            to_vector = lambda weights: self.view.to_vector(shown(weights))
            weights, there = (
                jax.vmap(to_vector)(archive.entries.weights),
                archive.filled,
            )
            average = jnp.mean(weights, axis=0, where=there[:, None])
            spread = jnp.std(weights, axis=0, where=there[:, None])
            mean = self.view.to_policy(average)
            std = self.view.to_policy(jnp.where(spread > 0, spread, 1.0))
            weights = jnp.where(there[:, None], weights, average[None])
            known = jax.vmap(self.view.to_policy)(weights)
        return Surroundings(
            centre=self.view.to_policy(jnp.mean(state.learned.policies, axis=0)),
            noise_scale=self._deviation(state),
            weight_mean=mean,
            weight_std=std,
            fresh=jax.vmap(shown)(fresh),
            known=known,
            states=states,
        )

    # The policy.

    def _policy_values(
        self,
        value: Value,
        policies: Float[Array, "policies weights"],
        starts: Float[Array, "starts observation"],
        *,
        deviation: bool = False,
    ) -> Float[Array, " policies"]:
        """V of each policy, or its deviation; V(s, θ) averaged over start states."""
        either: Any = value
        say = either.deviation if deviation else either

        def of_policy(weights):
            policy = self.view.to_policy(weights)
            if not value.condition_sizes:
                return say(policy)
            return jnp.mean(jax.vmap(lambda start: say(policy, start))(starts))

        return jax.vmap(of_policy)(policies)

    def _ascend(
        self,
        state: SearchState[Learned],
        value: Value,
        archive: Archive[Record],
        surroundings: Surroundings,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, "policies weights"], optax.OptState]:
        """Step 4, clipped to the box where the settings say so."""
        config = self.config
        count = config.resolved_batch_size
        if config.policies == "many":
            count = min(count, _STARTS_FOR_MANY)
        if config.step == "trust":
            starts = archive.sample(count, key=key).starts[:, 0]
            policies = self._trusted(state, value, starts, surroundings)
            return self._clipped(policies), ()

        def total(policies, starts):
            return jnp.sum(self._objective(value, policies, starts))

        def update(carry, key):
            policies, optimiser = carry
            starts = archive.sample(count, key=key).starts[:, 0]
            gradient = jax.grad(total)(policies, starts)
            gradient = gradient * self._weight_mask
            change, optimiser = update_of(self._optimiser, -gradient, optimiser)
            policies = self._clipped(eqx.apply_updates(policies, change))
            return (policies, optimiser), None

        (policies, optimiser), _ = jax.lax.scan(
            update,
            (state.learned.policies, state.learned.policy_optimiser),
            jr.split(key, config.policy_updates),
        )
        return policies, optimiser

    def _trusted(
        self,
        state: SearchState[Learned],
        value: Value,
        starts: Float[Array, "starts observation"],
        surroundings: Surroundings,
    ) -> Float[Array, "policies weights"]:
        """Takes each policy as far up as its answers may change."""
        config, policies = self.config, state.learned.policies
        answers = self._answers(surroundings)
        size = jnp.sqrt(jnp.asarray(float(answers.num_features)))
        spread = self._answer_spread(policies, surroundings) * size
        deviation = self._deviation(state)
        radius_at = schedule(
            config.resolved_trust_radius, config.trust_schedule, config.iterations
        )
        radius = jnp.asarray(radius_at(state.iteration), jnp.float32)

        def ascend(weights, mask):
            return trust_step(
                lambda there: self._objective(value, there[None], starts)[0],
                lambda there: answers(self.view.to_policy(there)),
                weights,
                mask,
                direction=config.direction,
                radius=radius * spread,
                limit=config.step_limit * deviation,
                noise_scale=deviation,
                is_known=lambda there: self._is_known(value, there, starts),
            )

        return jax.vmap(ascend)(policies, self._weight_mask)

    def _answers(self, surroundings: Surroundings) -> ObservedStates:
        """What policies answer in the states."""
        bounded = bounded_answer(self.task)
        answers = observed_states(self.task, self.config.num_states, bounded)
        return surrounded(answers, surroundings)

    def _answer_spread(
        self, policies: Float[Array, "policies weights"], surroundings: Surroundings
    ) -> Float[Array, ""]:
        """Root mean square change of an answer by the last perturbations."""
        answers = self._answers(surroundings)
        fresh = eqx.filter_vmap(answers)(surroundings.fresh)
        own = jax.vmap(lambda weights: answers(self.view.to_policy(weights)))(policies)
        own = own[: len(fresh)]
        # Candidates perturb the policies in turn.
        return root_mean_square(fresh.reshape(-1, *own.shape) - own[None])

    def _objective(
        self,
        value: Value,
        policies: Float[Array, "policies weights"],
        starts: Float[Array, "starts observation"],
    ) -> Float[Array, " policies"]:
        """V of each policy, and how unsure V is of it as far as that is wanted."""
        values = self._policy_values(value, policies, starts)
        if not self.config.optimism:
            return values
        deviations = self._policy_values(value, policies, starts, deviation=True)
        return values + self.config.optimism * deviations

    def _is_known(
        self,
        value: Value,
        weights: Float[Array, " weights"],
        starts: Float[Array, "starts observation"],
    ) -> Array:
        """Whether V is as sure of a policy as the settings ask for."""
        largest = self.config.largest_deviation
        if largest is None or not self.config.is_sure:
            return jnp.ones((), bool)
        of = weights[None]
        return self._policy_values(value, of, starts, deviation=True)[0] <= largest

    def _clipped(
        self, policies: Float[Array, "policies weights"]
    ) -> Float[Array, "policies weights"]:
        config = self.config
        if config.clip == "none":
            return policies
        return jnp.clip(policies, -config.weight_clip, config.weight_clip)

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

    @property
    def _optimiser(self) -> optax.GradientTransformation:
        config = self.config
        steps = config.iterations * config.policy_updates
        return optax.adam(schedule(config.policy_lr, config.policy_lr_schedule, steps))


def _make_critic(
    task: AbstractEnvironment, config: Config, view: FlatView[AbstractPolicy]
) -> AbstractCritic:
    def draw_encoder(*, key):
        options = config.encoder_options
        return make_encoder(config.representation, task, view.like, options, key=key)

    if config.critic == "kernel":
        return KernelCritic(
            draw_encoder,
            points=min(config.kernel_points, config.archive * config.num_envs),
            targets=config.targets,
            scale=config.kernel_scale,
            noise=config.kernel_noise,
        )
    return PerceptronCritic(
        draw_encoder,
        state_size=task.observation_size if config.start_states else 0,
        width=config.critic_width,
        depth=config.critic_depth,
        learning_rate=config.critic_lr,
        updates=config.critic_updates,
        batch_size=config.resolved_batch_size,
        targets=config.targets,
        start=config.critic_start,
        ensemble=config.ensemble,
    )


def _record(weights: Any, episodes: Episode) -> Record:
    """Makes of policies and their episodes what the archive keeps."""
    return Record(weights, episodes.total_reward, _starts(episodes), episodes.valid)


def _starts(episodes: Episode) -> Float[Array, "envs episodes observation"]:
    # Even a masked NaN would reach the gradient.
    return jnp.where(jnp.isfinite(episodes.start), episodes.start, 0.0)


def _with_visits(pool: StatePool | None, outcome: Outcome) -> StatePool | None:
    """The pool with what the policies of an iteration saw."""
    if pool is None:
        return None
    tried, watched = outcome.candidates.visits, outcome.evaluation.visits
    assert tried is not None and watched is not None
    join = lambda *leaves: jnp.concatenate(leaves)
    return pool.add(jax.tree.map(join, tried, watched))


def _started(policy: AbstractPolicy, config: Config) -> AbstractPolicy:
    """A policy as it starts."""
    if config.start == "drawn" or not isinstance(policy, MLPPolicy):
        return policy
    last = lambda policy: policy.layers[-1]
    return eqx.tree_at(last, policy, jax.tree.map(jnp.zeros_like, last(policy)))


def _wide(policy: AbstractPolicy, config: Config) -> AbstractPolicy:
    """Fills a policy of any size up to the widths that all have in the archive."""
    return policy.resized(config.hidden) if isinstance(policy, MLPPolicy) else policy
