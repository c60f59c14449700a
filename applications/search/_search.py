"""One iteration of an algorithm, on whatever steps its task."""

import abc
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, AbstractTask
from applications.policies import FlatView, MLPPolicy, Moments, standardised
from applications.rollout import (
    Episode,
    gather_parts,
    mesh_of_all,
    on_all_devices,
    replicate,
    rollout,
)


Metrics = dict[str, Array]
Iteration = Callable[[Any], tuple[Any, Metrics]]


@runtime_checkable
class Trial(Protocol):
    """Policies that an iteration tries; a pytree."""

    @property
    def acting(self) -> Float[Array, "policies weights"]:
        """Their weights."""
        ...

    @property
    def key(self) -> PRNGKeyArray:
        """Draws their episodes."""
        ...


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
            A `Trial`.
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
        self, population: Float[Array, "policies weights"], seen: Moments
    ) -> Float[Array, "policies weights"]:
        """Weights with which policies act on observations as they are.

        Args:
            population: Weights for standardised observations, if the settings say so.
            seen: Moments of the observations.

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
        if isinstance(self.task, AbstractTask):
            return _compile_in_jax(self, state)
        return _compile_native(self, state)


def _compile_in_jax(algorithm: AbstractPolicySearch, state: Any) -> Iteration:
    mesh = mesh_of_all()
    # The task may hold arrays of its own (a physics model); only the state's buffers
    # are given away.
    if mesh is None:
        jitted: Any = eqx.filter_jit(_apply, donate="all-except-first")
        compiled = jitted.lower(algorithm.step, state).compile()
        return lambda state: compiled(algorithm.step, state)
    jitted = eqx.filter_jit(
        lambda step, state: on_all_devices(step, state, mesh), donate="all-except-first"
    )
    step = replicate(algorithm.step, mesh)
    compiled = jitted.lower(step, replicate(state, mesh)).compile()
    return lambda state: compiled(step, replicate(state, mesh))


def _compile_native(algorithm: AbstractPolicySearch, state: Any) -> Iteration:
    # Here, for mujoco takes long to import.
    from applications.envs.native import NativeTask
    from applications.rollout.native import NativeRollout

    assert isinstance(algorithm.task, NativeTask)
    part = (jax.process_index(), jax.process_count())
    episodes, chunk = algorithm.config.episodes, algorithm.config.chunk
    run = NativeRollout(
        algorithm.task,
        algorithm.view.to_policy,
        episodes=episodes,
        part=part,
        block=None if chunk is None else chunk * episodes,
    )
    proposed: Any = eqx.filter_jit(lambda state: algorithm.propose(state))
    learned: Any = eqx.filter_jit(
        lambda tried, state: algorithm.learn(state, *tried), donate="all-except-first"
    )
    propose = proposed.lower(state).compile()
    trial: Trial = propose(state)
    run.compile(trial.acting)
    learn = learned.lower((trial, run.shape(trial.acting)), state).compile()

    def step(state: Any) -> tuple[Any, Metrics]:
        trial: Trial = propose(state)
        tried = run(trial.acting, key=trial.key)
        if part[1] > 1:
            tried = gather_parts(tried, len(trial.acting))
        return learn((trial, tried), state)

    return step


def _apply(step: Callable[[Any], Any], state: Any) -> Any:
    return step(state)
