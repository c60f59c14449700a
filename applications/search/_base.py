"""What every search for policies has: a task, a view of weights, and statistics."""

import abc
from collections.abc import Callable
from typing import Any, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.policies import (
    AbstractPolicy,
    FlatView,
    RunningStatistics,
    standardised,
    unstandardised,
)
from applications.rollout import Metrics
from applications.search._state import Learned, NormaliseSettings, SearchState


Iteration = Callable[[Any], tuple[Any, Metrics]]


class AbstractSearch(eqx.Module, Generic[Learned]):
    """An algorithm that tries policies and learns from how they did.

    What is here does not depend on how they are tried: in whole episodes, as of
    `AbstractPolicySearch`, or step by step, as of `AbstractStepSearch`.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors of weights to policies and back.
    """

    task: eqx.AbstractVar[AbstractEnvironment]
    config: eqx.AbstractVar[NormaliseSettings]
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
    def policy(self, state: SearchState[Learned]) -> AbstractPolicy:
        """Returns the policy that a run stands for, for observations as they are.

        Args:
            state: The run's state.

        Returns:
            The policy.
        """

    @abc.abstractmethod
    def begin(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Makes everything that the first iteration needs.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state, of `init` and with what cannot be drawn inside `jax.jit`.
        """

    @abc.abstractmethod
    def compile(self, state: SearchState[Learned]) -> Iteration:
        """Compiles an iteration.

        Args:
            state: A state, for its form.

        Returns:
            One iteration. The state that it is given is used up.
        """

    def start(self, learned: Learned, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """Returns the state before the first iteration.

        Args:
            learned: What the algorithm keeps.
            key: Source of the randomness of all iterations.

        Returns:
            The state, without any observation. No array is in it twice, or is the
            caller's key, since an iteration uses its state up.
        """
        observations = RunningStatistics.empty(self.task.observation_size)
        state = SearchState(learned, observations, jnp.zeros((), jnp.int32), key)
        taken = {id(key)}

        def own(leaf: Any) -> Any:
            if not eqx.is_array(leaf):
                return leaf
            leaf = jnp.copy(leaf) if id(leaf) in taken else leaf
            taken.add(id(leaf))
            return leaf

        return jax.tree.map(own, state)

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
