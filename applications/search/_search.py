"""What every search for policies does: propose some, roll them out, learn from it."""

import abc
from collections.abc import Callable
from typing import Any, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, AbstractTask, split_outcome
from applications.policies import (
    AbstractPolicy,
    FlatView,
    RunningStatistics,
    standardised,
    unstandardised,
)
from applications.rollout import (
    engine_for,
    Episode,
    JAXEngine,
    Metrics,
    take_policies,
)
from applications.search._low_rank import LowRankCandidates, ToPolicy
from applications.search._state import (
    Keys,
    Learned,
    Outcome,
    Proposal,
    SearchSettings,
    SearchState,
    Trial,
)


Iteration = Callable[[Any], tuple[Any, Metrics]]


class AbstractPolicySearch(eqx.Module, Generic[Learned, Keys]):
    """An algorithm that tries a population of policies and learns from how they did.

    An algorithm says how it starts (`init`), what it tries (`propose`), what it makes
    of the episodes (`learn`), and which policy it stands for (`policy`). Everything
    else is here: keys, the count of iterations, standardisation of observations, shared
    metrics, and the way to an engine and back. One iteration is

        trial = search.before_rollout(state)
        episodes = ...  # of trial.acting, drawn with trial.key
        state, metrics = search.after_rollout(state, trial, episodes)

    and `compile` makes one program of it where the task allows.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors of weights to policies and back.
    """

    task: eqx.AbstractVar[AbstractEnvironment]
    config: eqx.AbstractVar[SearchSettings]
    view: eqx.AbstractVar[FlatView[AbstractPolicy]]

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Draws the state before the first iteration.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state; `start` makes it of what the algorithm keeps.
        """

    @abc.abstractmethod
    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""

    @abc.abstractmethod
    def propose(self, state: SearchState[Learned], keys: Keys) -> Proposal:
        """Chooses the policies to try in an iteration.

        Args:
            state: The state before it.
            keys: Its keys.

        Returns:
            The policies, for standardised observations if the settings say so.
        """

    @abc.abstractmethod
    def learn(
        self,
        state: SearchState[Learned],
        proposal: Proposal,
        outcome: Outcome,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Learns from the episodes of an iteration.

        Args:
            state: The state before it.
            proposal: What was tried.
            outcome: How it went.
            keys: Its keys.

        Returns:
            What the algorithm keeps, and its own metrics: scalars under the names that
            `metrics.jsonl` has, which stand beside the shared ones or in their place.
        """

    @abc.abstractmethod
    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the policy that a run stands for, for observations as they are.

        Args:
            state: The run's state.

        Returns:
            The policy.
        """

    def start(self, learned: Learned, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Returns the state before the first iteration.

        Args:
            learned: What the algorithm keeps.
            key: Source of the randomness of all iterations.

        Returns:
            The state, without any observation.
        """
        observations = RunningStatistics.empty(self.task.observation_size)
        return SearchState(learned, observations, jnp.zeros((), jnp.int32), key)

    def before_rollout(self, state: SearchState[Learned]) -> Trial:
        """Does what an iteration does before its episodes.

        Args:
            state: The state before it.

        Returns:
            What to roll out.
        """
        keys = self.split(state.key)
        proposal = self.propose(state, keys)
        if isinstance(proposal.candidates, LowRankCandidates):
            acting: Any = proposal.candidates.population(
                self.view,
                len(proposal.evaluation),
                state.observations if self.config.normalise else None,
            )
        else:
            whole = jnp.concatenate([proposal.candidates, proposal.evaluation])
            acting = self.fold_normalisation(whole, state.observations)
        return Trial(proposal, acting, keys.rollout)

    def after_rollout(
        self, state: SearchState[Learned], trial: Trial, episodes: Episode
    ) -> tuple[SearchState[Learned], Metrics]:
        """Does what an iteration does after its episodes.

        Args:
            state: The state before it.
            trial: What was rolled out.
            episodes: The episodes, `(policies, episodes)`.

        Returns:
            The state after it, and scalar metrics.
        """
        keys = self.split(state.key)
        count = len(trial.proposal.candidates)
        observations = state.observations.join(episodes.observations)
        outcome = Outcome(
            jax.tree.map(lambda leaf: leaf[:count], episodes),
            jax.tree.map(lambda leaf: leaf[count:], episodes),
            take_policies(trial.acting, jnp.arange(count)),
            observations,
        )
        learned, metrics = self.learn(state, trial.proposal, outcome, keys)
        after = SearchState(learned, observations, state.iteration + 1, keys.next)
        return after, outcome.metrics | metrics

    def fold_normalisation(
        self,
        population: Float[Array, "policies weights"],
        observations: RunningStatistics,
    ) -> Float[Array, "policies weights"]:
        """Returns weights with which policies act on observations as they are.

        Args:
            population: Weights for standardised observations, if the settings say so.
            observations: Statistics of the observations.

        Returns:
            The same with the standardisation in them.
        """
        if not self.config.normalise:
            return population

        def of_one(weights):
            policy = standardised(self.view.to_policy(weights), observations)
            return self.view.to_vector(policy)

        return jax.vmap(of_one)(population)

    def unfold_normalisation(
        self, acting: Float[Array, "policies weights"], observations: RunningStatistics
    ) -> Float[Array, "policies weights"]:
        """Undoes `fold_normalisation`, perhaps by other statistics.

        Args:
            acting: Weights with which policies act on observations as they are.
            observations: Statistics of the observations.

        Returns:
            Weights for observations that are standardised by these statistics, if the
            settings say so. The policies stay what they were.
        """
        if not self.config.normalise:
            return acting

        def of_one(weights):
            policy = unstandardised(self.view.to_policy(weights), observations)
            return self.view.to_vector(policy)

        return jax.vmap(of_one)(acting)

    @property
    def _options(self) -> dict[str, Any]:
        """What the settings say of rollouts."""
        config = self.config
        return {
            "episodes": config.episodes,
            "chunk": config.chunk,
            "visits": config.visits,
            "common_starts": config.common_starts,
        }

    def step(
        self, state: SearchState[Learned], axis: str | None = None
    ) -> tuple[SearchState[Learned], Metrics]:
        """Does one iteration, on a task that JAX can step.

        Args:
            state: The state before.
            axis: Inside `jax.shard_map`, the axis over which the population is shared
                out.

        Returns:
            As `after_rollout`.
        """
        task, outcome = split_outcome(self.task)
        assert isinstance(task, AbstractTask)
        iteration = JAXEngine(task, outcome=outcome).iteration(
            self.before_rollout,
            self.after_rollout,
            ToPolicy(self.view),
            **self._options,
        )
        return iteration(state, axis)

    def compile(self, state: SearchState[Learned]) -> Iteration:
        """Compiles an iteration for all devices of all processes.

        On a task in JAX that is the whole of it. On a task of the C engine it is all
        but the physics: every process runs its part of the population on its cores, and
        learns on its first device.

        Args:
            state: A state, for its form.

        Returns:
            One iteration. The state that it is given is used up.
        """
        return engine_for(self.task).compile_iteration(
            self.before_rollout,
            self.after_rollout,
            ToPolicy(self.view),
            state,
            **self._options,
        )
