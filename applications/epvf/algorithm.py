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

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.epvf._ascent import AbstractAscent, Landscape, make_ascent
from applications.epvf._critic import make_critic
from applications.epvf._perturbations import AbstractPerturbations, make_perturbations
from applications.epvf._policies import draw_policies, draw_policy, narrowed
from applications.epvf.config import Config
from applications.policies import AbstractPolicy, FlatView
from applications.rollout import Episode
from applications.search import (
    AbstractPolicySearch,
    adapt_noise_factor,
    averaged,
    Metrics,
    Outcome,
    Proposal,
    SearchState,
)
from applications.stores import Archive, Centres, Record, StatePool
from applications.values import (
    AbstractCritic,
    answer_spread,
    bounded_answer,
    correlation,
    draw_states,
    Fitted,
    labels,
    mean_values,
    observed_states,
    schedule,
    shown_by,
    surrounded,
    Surroundings,
    Value,
)


# With how many weights, to this power, the scale of the noise is shared out. Chosen on
# locomotion tasks with linear policies of 18 to 280 weights. Perturbations would be as
# long for all policies with 1/2; with the distance to the best policy given, the best
# length falls as with 1 (Rechenberg, 1973).
_SHARE = 2 / 3
# With many policies, start states over which V(s, θ) is averaged, at most.
_MOST_STARTS = 64


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
        average: Averages of the policies over the last iterations.
    """

    policies: Float[Array, "policies weights"]
    policy_optimiser: optax.OptState
    critic: Fitted
    archive: Archive[Record]
    states: StatePool | None
    centres: Centres | None
    noise_factor: Float[Array, ""]
    average: Float[Array, "policies weights"]


class Keys(NamedTuple):
    """The randomness of one iteration."""

    noise: PRNGKeyArray
    rollout: PRNGKeyArray
    fit: PRNGKeyArray
    ascent: PRNGKeyArray
    next: PRNGKeyArray
    states: PRNGKeyArray


@final
class EPVF(AbstractPolicySearch[Learned, Keys]):
    """The algorithm for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
        perturbations: Makes θ̃ of θ.
        critic: Fits V.
        ascent: Takes θ up V.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    perturbations: AbstractPerturbations
    critic: AbstractCritic
    ascent: AbstractAscent

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.
        """
        self.task = task
        self.config = config
        self.view = FlatView(draw_policy(task, config, config.hidden, key=jr.key(0)))
        self.perturbations = make_perturbations(config, self.view)
        self.critic = make_critic(task, config, self.view)
        self.ascent = make_ascent(config, self.view)

    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws policies and value function; the archive is empty."""
        policy_key, value_key, run_key = jr.split(key, 3)
        policies = draw_policies(self.task, self.config, self.view, key=policy_key)
        archive, centres = self._empty_archive()
        learned = Learned(
            policies,
            self.ascent.init(policies),
            self.critic.init(key=value_key),
            archive,
            self._empty_pool(),
            centres,
            jnp.ones(()),
            policies,
        )
        return self.start(learned, key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        return Keys(*jr.split(key, 6))

    def propose(self, state: SearchState[Learned], keys: Keys) -> Proposal:
        """Step 1: θ̃ᵢ = θ + σ εᵢ; beside them the run's policy, to see how it stands."""
        policies, scale = state.learned.policies, self._weight_noise(state)
        candidates = self.perturbations.draw(policies, scale, key=keys.noise)
        # The one policy again and again, or the first ones of many.
        average = state.learned.average
        evaluation = average[jnp.arange(self.config.eval_episodes) % len(average)]
        return Proposal(candidates, evaluation)

    def learn(
        self,
        state: SearchState[Learned],
        proposal: Proposal,
        outcome: Outcome,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Steps 2 to 4: store (θ̃ᵢ, Gᵢ), fit V to the archive, ascend V(θ)."""
        learned, to_policy = state.learned, self.view.to_policy

        # 2. Policies are kept as they acted, whatever is observed later.
        weights, centres = self.perturbations.keep(outcome.acting, learned.centres)
        tried = _record(weights, outcome.candidates)
        archive = learned.archive.add(tried)
        pool = _with_visits(learned.states, outcome)

        # 3. V is shown policies for observations by the latest statistics.
        observations = outcome.observations if self.config.normalise else None
        shown = shown_by(
            lambda weights: self.perturbations.to_policy(weights, centres), observations
        )
        states = None
        if pool is not None:
            count = self.config.num_states
            states = draw_states(pool, count, observations, key=keys.states)
        surroundings = Surroundings.of_archive(
            archive,
            shown,
            self.view,
            learned.policies,
            noise_scale=self._deviation(state),
            states=states,
            by_archive=self.config.inputs == "archive",
        )
        critic, targets, loss = self.critic.fit(
            learned.critic, archive, shown, surroundings, key=keys.fit
        )

        # 4. How far V is trusted is said in answers to observed states.
        landscape = self._landscape(state, critic.value, archive, surroundings)
        policies, optimiser = self.ascent(
            learned.policies, learned.policy_optimiser, landscape, key=keys.ascent
        )

        factor = learned.noise_factor
        if self.config.noise_adaptation == "success":
            factor = adapt_noise_factor(factor, outcome.candidates, outcome.evaluation)
        starts = tried.starts[: self.config.eval_episodes, 0]
        values = mean_values(critic.value, to_policy, learned.policies, starts)
        metrics = {
            "critic_correlation": self._correlation(state, proposal, tried),
            "value_policy": jnp.mean(targets.inverse(values)),
            "critic_loss": loss,
            **self._step_metrics(state, policies),
        }
        if landscape.answer_spread is not None:
            metrics["answer_spread"] = landscape.answer_spread
        average = averaged(
            learned.average,
            policies,
            part=self.config.average,
            iteration=state.iteration,
        )
        learned = Learned(
            policies, optimiser, critic, archive, pool, centres, factor, average
        )
        return learned, metrics

    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the averaged policy; of many, the one with the highest value.

        For V(s, θ) that is the mean over start states of one batch in the archive.
        """
        learned, best = state.learned, 0
        if self.config.policies == "many":
            count = min(self.config.num_envs, _MOST_STARTS)
            starts = learned.archive.entries.starts[:count, 0]
            value, to_policy = learned.critic.value, self.view.to_policy
            values = mean_values(value, to_policy, learned.average, starts)
            best = jnp.argmax(values).item()
        chosen = learned.average[best][None]
        acting = self.fold_normalisation(chosen, state.observations)[0]
        return narrowed(self.view.to_policy(acting), self.config, best)

    def _noise_scale(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """The scale of the noise, in the units of the settings."""
        config = self.config
        scale = schedule(
            config.noise_scale,
            config.noise_schedule,
            max(round(config.noise_until * config.iterations), 1),
            end=config.noise_end,
        )
        return state.learned.noise_factor * jnp.asarray(
            scale(state.iteration), jnp.float32
        )

    def _weight_noise(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """σ, by which the noise of each weight is scaled."""
        scale = self._noise_scale(state)
        if self.config.noise_unit == "weight":
            return scale
        return scale / self.view.space.size**_SHARE

    def _deviation(self, state: SearchState[Learned]) -> Float[Array, ""]:
        """Standard deviation of the perturbations of a weight."""
        # A schedule ends at 0.
        scale = jnp.maximum(self._weight_noise(state), 1e-9)
        return scale * self.perturbations.deviation

    def _landscape(
        self,
        state: SearchState[Learned],
        value: Value,
        archive: Archive[Record],
        surroundings: Surroundings,
    ) -> Landscape:
        """V, and what says how far it may be trusted."""
        config, count = self.config, self.config.resolved_batch_size
        if config.policies == "many":
            count = min(count, _MOST_STARTS)
        answers = spread = None
        if surroundings.states is not None:
            bounded = bounded_answer(self.task)
            answers = observed_states(self.task, config.num_states, bounded)
            answers = surrounded(answers, surroundings)
            policies = jax.vmap(self.view.to_policy)(state.learned.policies)
            spread = answer_spread(answers, surroundings.fresh, policies)
        return Landscape(
            value,
            lambda key: archive.sample(count, key=key).starts[:, 0],
            answers,
            spread,
            surroundings.noise_scale,
            state.iteration,
        )

    def _correlation(
        self, state: SearchState[Learned], proposal: Proposal, tried: Record
    ) -> Float[Array, ""]:
        """Of returns, and what V said of them before it was fitted to them."""
        value = state.learned.critic.value
        said = self.perturbations.predict(value, proposal.candidates, tried)
        return correlation(said, *labels(value, tried))

    def _step_metrics(
        self, state: SearchState[Learned], policies: Float[Array, "policies weights"]
    ) -> Metrics:
        """Of the step from θ to the next θ."""
        step = jnp.sqrt(jnp.mean(jnp.square(policies - state.learned.policies)))
        return {
            "weight_norm": jnp.mean(jnp.linalg.norm(policies, axis=1)),
            "weight_step": step / self._deviation(state),
            "noise_scale": self._noise_scale(state),
            "share_at_clip": jnp.mean(jnp.abs(policies) >= self.config.weight_clip),
        }

    def _empty_archive(self) -> tuple[Archive[Record], Centres | None]:
        config = self.config
        weights, centres = self.perturbations.empty(config.archive)
        episodes = (config.num_envs, config.episodes)
        record = Record(
            weights=weights,
            returns=jnp.zeros(episodes),
            starts=jnp.zeros((*episodes, self.task.observation_size)),
            valid=jnp.zeros(episodes, bool),
        )
        return Archive.empty(record, config.archive), centres

    def _empty_pool(self) -> StatePool | None:
        config = self.config
        if not config.observes:
            return None
        episodes = (config.num_envs + config.eval_episodes) * config.episodes
        size = self.task.observation_size
        return StatePool.empty(episodes * config.visits, config.state_iterations, size)


def _record(weights: Any, episodes: Episode) -> Record:
    """Makes of policies and their episodes what the archive keeps."""
    # Even a masked NaN would reach the gradient.
    starts = jnp.where(jnp.isfinite(episodes.start), episodes.start, 0.0)
    return Record(weights, episodes.total_reward, starts, episodes.valid)


def _with_visits(pool: StatePool | None, outcome: Outcome) -> StatePool | None:
    """The pool with what the policies of an iteration saw."""
    if pool is None:
        return None
    tried, watched = outcome.candidates.visits, outcome.evaluation.visits
    assert tried is not None and watched is not None
    join = lambda *leaves: jnp.concatenate(leaves)
    return pool.add(jax.tree.map(join, tried, watched))
