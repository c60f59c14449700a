"""Engines: what steps the tasks of one kind, for whole populations of policies."""

import abc
import importlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from applications.envs import AbstractEnvironment, split_outcome
from applications.rollout.episode import Episode
from applications.rollout.options import RolloutOptions
from applications.rollout.transitions import Unrolled


MakePolicy = Callable[[PyTree], Callable]
# Policies first, but for what those of a `SharedPopulation` share.
Population = PyTree[Array]
State = TypeVar("State")
Metrics = dict[str, Array]

# By the kind of task. Not imported here: mujoco takes longer to import than a whole
# cartpole run takes to start.
_ENGINES = {
    "applications.envs._task.AbstractTask": (
        "applications.rollout._jax_engine:JAXEngine"
    ),
    "applications.envs.native.NativeTask": "applications.rollout.native:NativeEngine",
    "applications.envs.adapters._from_gymnasium.GymnasiumEnvironment": (
        "applications.rollout._host_engine:HostEngine"
    ),
}


@runtime_checkable
class Proposal(Protocol):
    """Policies that an iteration tries; a pytree."""

    @property
    def acting(self) -> Population:
        """Their weights."""
        ...

    @property
    def key(self) -> PRNGKeyArray:
        """Draws their episodes."""
        ...


class AbstractUnroll(abc.ABC):
    """Control steps of many environments, whose episodes start anew where they end."""

    @property
    @abc.abstractmethod
    def is_repeatable(self) -> bool:
        """Whether a state can be used again, also in another process."""

    @abc.abstractmethod
    def init(self, environments: int, *, key: PRNGKeyArray) -> Any:
        """Starts the first episode of every environment.

        Args:
            environments: How many.
            key: Source of all randomness: start states, and what stochastic policies
                draw. It is folded from the number of the environment and of its
                episode, so nothing depends on devices, blocks or calls.

        Returns:
            Their state, a pytree of arrays.
        """

    @abc.abstractmethod
    def __call__(
        self,
        population: Population,
        rows: Int[Array | np.ndarray, " environments"],
        state: Any,
    ) -> tuple[Unrolled, Any]:
        """Takes the steps.

        Args:
            population: Weights of the policies, one a row.
            rows: Which policy acts in each environment. It may be another one than in
                the call before, also in the middle of an episode.
            state: From `init` or the call before.

        Returns:
            What happened, and the state for the next call.
        """


class AbstractEngine(abc.ABC):
    """Steps a task for populations of policies, each with weights of its own."""

    @abc.abstractmethod
    def compile_rollout(
        self,
        make_policy: MakePolicy,
        options: RolloutOptions = RolloutOptions(),
    ) -> Callable[..., Episode]:
        """Prepares rollouts of whole episodes, in this process alone.

        Args:
            make_policy: From weights to a policy, a pytree such as an `AbstractPolicy`;
                for instance `FlatView.to_policy`.
            options: Episodes of each policy, and how they are run.

        Returns:
            From a population, with the policies first, and a keyword `key` to episodes
            `(policies, episodes)`. It compiles at the first call with a population of
            some size. Randomness is folded from the policy's row, unless start states
            are common to all.
        """

    @abc.abstractmethod
    def compile_iteration(
        self,
        propose: Callable[[State], Any],
        learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
        make_policy: MakePolicy,
        state: State,
        options: RolloutOptions = RolloutOptions(),
    ) -> Callable[[State], tuple[State, Metrics]]:
        """Compiles an iteration for all devices of all processes.

        Args:
            propose: From a state to a `Proposal`. May carry arrays, if it is a pytree.
            learn: From a state, its proposal and the episodes of that, `(policies,
                episodes)`, to the next state and metrics. May carry arrays too.
            make_policy: From weights to a policy, for instance `FlatView.to_policy`.
            state: A state, for its form.
            options: Episodes of each policy, and how they are run.

        Returns:
            One iteration. The state that it is given is used up.
        """

    @abc.abstractmethod
    def compile_unroll(
        self, make_policy: MakePolicy, *, steps: int, record: bool = True
    ) -> AbstractUnroll:
        """Prepares a number of control steps in many environments.

        An episode ends at termination, at the time limit or at the first step that is
        not finite, and the next one starts at once.

        Args:
            make_policy: From weights to a policy, for instance `FlatView.to_policy`.
            steps: Control steps of each environment in one call.
            record: Whether transitions are wanted.

        Returns:
            The function; it compiles at its first call.

        Raises:
            ValueError: If `steps` is below 1, or this task cannot be stepped so.
        """


def engine_for(task: AbstractEnvironment) -> AbstractEngine:
    """Finds the engine that steps a task, on all devices or cores.

    Args:
        task: The task.

    Returns:
        The engine.

    Raises:
        ValueError: If no engine is known for tasks of its kind.
    """
    bare, outcome = split_outcome(task)
    options = {} if outcome is None else {"outcome": outcome}
    for kind in type(bare).__mro__:
        place = _ENGINES.get(f"{kind.__module__}.{kind.__qualname__}")
        if place is not None:
            module, _, name = place.partition(":")
            return getattr(importlib.import_module(module), name)(bare, **options)
    raise ValueError(
        f"No engine steps a {type(bare).__name__}. Derive the task from "
        "applications.envs.AbstractTask, or name an engine by register_engine."
    )


def register_engine(kind: type[AbstractEnvironment], engine: str) -> None:
    """Says which engine steps tasks of a kind.

    Args:
        kind: Class of the tasks; its subclasses are stepped likewise.
        engine: Place of a subclass of `AbstractEngine`, as `package.module:Name`. It is
            imported when it is needed, and called with the task and, where that has
            another outcome than the sum of its rewards, with `outcome`.
    """
    _ENGINES[f"{kind.__module__}.{kind.__qualname__}"] = engine


def compile_rollout(
    task: AbstractEnvironment,
    make_policy: MakePolicy,
    **options: Any,
) -> Callable[..., Episode]:
    """Prepares rollouts on the engine of a task.

    Args:
        task: The task.
        make_policy: As of `AbstractEngine.compile_rollout`.
        **options: Those of `RolloutOptions`.

    Returns:
        As of `AbstractEngine.compile_rollout`.
    """
    engine = engine_for(task)
    return engine.compile_rollout(make_policy, RolloutOptions(**options))


def evaluate(
    task: AbstractEnvironment, policy: Callable, episodes: int, *, key: PRNGKeyArray
) -> Episode:
    """Runs one policy for several episodes: a population of one.

    Args:
        task: The task.
        policy: An `AbstractPolicy`, or anything that is called like one.
        episodes: How many.
        key: Source of randomness.

    Returns:
        Episodes, with a batch shape `(episodes,)`.
    """
    arrays, rest = eqx.partition(policy, eqx.is_array)
    # A row is there also of a policy without arrays.
    rows = (jax.tree.map(lambda leaf: leaf[None], arrays), jnp.zeros(1))
    run = compile_rollout(task, _Completed(rest), episodes=episodes)
    return jax.tree.map(lambda leaf: leaf[0], run(rows, key=key))


class _Completed(eqx.Module):
    """A policy without its arrays; two of the same form compile once."""

    rest: PyTree

    def __call__(self, row: tuple[PyTree[Array], Array]) -> Any:
        return eqx.combine(row[0], self.rest)
