"""One iteration of an algorithm, on whatever steps its task."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, AbstractTask
from applications.policies import FlatView, MLPPolicy, RunningStatistics, standardised
from applications.rollout import engine_for, Episode, Metrics as Metrics, rollout


Iteration = Callable[[Any], tuple[Any, Metrics]]


class AbstractPolicySearch(eqx.Module):
    """An algorithm that tries a population of policies and learns from how they did.

    Its state is a pytree of arrays.

    Attributes:
        task: What the policies act in.
        config: The settings, with nothing left open; by `episodes`, `chunk` and
            `normalise` policies are tried.
        view: From vectors of weights to policies and back.
    """

    task: eqx.AbstractVar[AbstractEnvironment]
    config: eqx.AbstractVar[Any]
    view: eqx.AbstractVar[FlatView[MLPPolicy]]

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Any:
        """Draws the state before the first iteration.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state.
        """

    @abc.abstractmethod
    def propose(self, state: Any) -> Any:
        """The policies to try in an iteration.

        Args:
            state: The state before it.

        Returns:
            A `Proposal`.
        """

    @abc.abstractmethod
    def learn(self, state: Any, trial: Any, episodes: Episode) -> tuple[Any, Metrics]:
        """What an iteration does with the episodes of the policies it tried.

        Args:
            state: The state before.
            trial: What was tried.
            episodes: How it went, `(policies, episodes)`.

        Returns:
            The state after, and scalar metrics under the names that `metrics.jsonl`
            has.
        """

    @abc.abstractmethod
    def policy(self, state: Any) -> MLPPolicy:
        """The policy that a run stands for.

        Args:
            state: The run's state.

        Returns:
            The policy, for observations as they are.
        """

    def acting(
        self, population: Float[Array, "policies weights"], seen: RunningStatistics
    ) -> Float[Array, "policies weights"]:
        """Weights with which policies act on observations as they are.

        Args:
            population: Weights for standardised observations, if the settings say so.
            seen: Statistics of the observations.

        Returns:
            The same with the standardisation in them.
        """
        if not self.config.normalise:
            return population

        def of_one(weights):
            policy = standardised(self.view.to_policy(weights), seen)
            return self.view.to_vector(policy)

        return jax.vmap(of_one)(population)

    def step(self, state: Any, axis: str | None = None) -> tuple[Any, Metrics]:
        """One iteration, on a task that JAX can step.

        Args:
            state: The state before.
            axis: Inside `jax.shard_map`, the axis over which the population is shared
                out.

        Returns:
            As `learn`.
        """
        assert isinstance(self.task, AbstractTask)
        trial = self.propose(state)
        episodes = rollout(
            self.task,
            self.view.to_policy,
            trial.acting,
            episodes=self.config.episodes,
            chunk=self.config.chunk,
            axis=axis,
            key=trial.key,
        )
        return self.learn(state, trial, episodes)

    def compile(self, state: Any) -> Iteration:
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
            self.propose,
            self.learn,
            self.view.to_policy,
            state,
            episodes=self.config.episodes,
            chunk=self.config.chunk,
        )
