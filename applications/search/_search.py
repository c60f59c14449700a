"""What every search for policies does: propose some, roll them out, learn from it."""

import abc
from typing import Any, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment, AbstractTask, split_outcome
from applications.policies import AbstractPolicy, FlatView
from applications.rollout import (
    engine_for,
    Episode,
    JAXEngine,
    Metrics,
    RolloutOptions,
    take_policies,
)
from applications.search._base import AbstractSearch, Iteration
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


class AbstractPolicySearch(AbstractSearch[Learned], Generic[Learned, Keys]):
    """An algorithm that tries a population of policies and learns from how they did.

    An algorithm says how it starts (`init`), what it tries (`propose`), what it makes
    of the episodes (`learn`), and which policy it stands for (`policy`). Everything
    else is here: keys, the count of iterations, standardisation of observations, shared
    metrics, and the way to an engine and back. One iteration is

        trial = search.before_rollout(state)
        episodes = ...  # of trial.acting, drawn with trial.key
        state, metrics = search.after_rollout(state, trial, episodes)

    and `compile` compiles it for all devices.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors of weights to policies and back.
    """

    task: eqx.AbstractVar[AbstractEnvironment]
    config: eqx.AbstractVar[SearchSettings]
    view: eqx.AbstractVar[FlatView[AbstractPolicy]]

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

    def begin(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """As of `AbstractSearch`: what `init` draws is all."""
        return eqx.filter_jit(lambda key: self.init(key=key))(key)

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

    @property
    def _options(self) -> RolloutOptions:
        """What the settings say of rollouts."""
        config = self.config
        return RolloutOptions(
            config.episodes, config.chunk, config.visits, config.common_starts
        )

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
            self._options,
        )
        return iteration(state, axis)

    def compile(self, state: SearchState[Learned]) -> Iteration:
        """Compiles an iteration for all devices of all processes.

        A task in JAX runs its part of the population on every device, a task of the C
        engine on the cores of every process. Every process learns on its first device.

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
            self._options,
        )
