"""Searches that learn from single control steps, while episodes go on."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, final, Generic, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from applications.envs import AbstractEnvironment
from applications.policies import AbstractPolicy, FlatView, RunningStatistics
from applications.rollout import (
    engine_for,
    Episode,
    Metrics,
    own_copy,
    RolloutOptions,
    Unrolled,
)
from applications.search._base import AbstractSearch, Iteration
from applications.search._state import Keys, Learned, NormaliseSettings, SearchState


# Of the key of a run: what starts its environments.
_ENVIRONMENTS = 0x656E_7673
# Of the key of a round: what draws the episodes that are watched.
_WATCHED, _FRESH = 0x7761_7463, 0x6672_6573


class Actors(eqx.Module):
    """The policies that act in a round, one in each environment.

    Attributes:
        population: What `make_actor` is given, with the environments first.
        context: What else `learn` needs to know of them.
    """

    population: Any
    context: Any = None


@runtime_checkable
class StepSettings(NormaliseSettings, Protocol):
    """What a search by steps reads of an algorithm's settings."""

    @property
    def num_envs(self) -> int:
        """Environments beside each other."""
        ...

    @property
    def segment(self) -> int:
        """Control steps of each environment in a round."""
        ...

    @property
    def rounds(self) -> int:
        """Rounds of an iteration."""
        ...

    @property
    def eval_episodes(self) -> int:
        """Episodes of the policy itself after each iteration."""
        ...

    @property
    def fresh_policies(self) -> int:
        """Fresh actors by whose episodes the algorithm's values are judged."""
        ...

    @property
    def fresh_every(self) -> int:
        """Iterations from one such judgement to the next."""
        ...


class AbstractStepSearch(AbstractSearch[Learned], Generic[Learned, Keys]):
    """An algorithm that learns from control steps, while episodes go on.

    An iteration has several rounds, and shows then how the policy stands. In a round a
    policy acts in each environment for a segment of steps (`propose`, `make_actor`),
    and the algorithm learns from them (`learn`):

        actors = search.before_round(state)
        unrolled, environments = ...  # of actors.population, from state.environments
        state, metrics = search.after_round(state, actors, unrolled)

    Metrics are means over the rounds, of those that are numbers, but for what is
    counted: names that begin with `nan_`, and `env_steps`, are sums.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors of weights to policies and back.
    """

    task: eqx.AbstractVar[AbstractEnvironment]
    config: eqx.AbstractVar[StepSettings]
    view: eqx.AbstractVar[FlatView[AbstractPolicy]]

    @abc.abstractmethod
    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of a round by purpose."""

    @abc.abstractmethod
    def propose(self, state: SearchState[Learned], keys: Keys) -> Actors:
        """Chooses the policies that act in a round.

        Args:
            state: The state before it.
            keys: Its keys.

        Returns:
            The policies, for observations as they are.
        """

    @abc.abstractmethod
    def make_actor(self, row: PyTree[Array]) -> Callable[..., Any]:
        """Makes what acts: a policy, perhaps with noise on its actions.

        Args:
            row: One row of the population.

        Returns:
            A pytree that is called like an `AbstractPolicy`.
        """

    @abc.abstractmethod
    def learn(
        self,
        state: SearchState[Learned],
        actors: Actors,
        unrolled: Unrolled,
        observations: RunningStatistics,
        keys: Keys,
    ) -> tuple[Learned, Metrics]:
        """Learns from the steps of a round.

        Args:
            state: The state before it.
            actors: What acted.
            unrolled: What happened, `(steps, environments)`.
            observations: Statistics of all observations so far, also of these steps.
            keys: The round's keys.

        Returns:
            What the algorithm keeps, and its own metrics.
        """

    @abc.abstractmethod
    def fresh(self, state: SearchState[Learned], *, key: PRNGKeyArray) -> PyTree[Array]:
        """Draws `fresh_policies` actors that nothing was learned from.

        Args:
            state: The state.
            key: Source of randomness.

        Returns:
            A population for `make_actor`.
        """

    @abc.abstractmethod
    def judge(
        self, state: SearchState[Learned], population: PyTree[Array], episodes: Episode
    ) -> Metrics:
        """Compares what the algorithm thinks of fresh actors with what they returned.

        Args:
            state: The state.
            population: From `fresh`.
            episodes: An episode of each, `(policies, 1)`.

        Returns:
            Metrics.
        """

    def begin(self, *, key: PRNGKeyArray) -> SearchState[Learned]:
        """As of `AbstractSearch`: what `init` draws, and the environments."""
        state = eqx.filter_jit(lambda key: self.init(key=key))(key)
        unroll = engine_for(self.task).compile_unroll(
            self.make_actor, steps=self.config.segment
        )
        environments = unroll.init(
            self.config.num_envs, key=jr.fold_in(key, _ENVIRONMENTS)
        )
        return _with_environments(state, environments)

    def before_round(self, state: SearchState[Learned]) -> Actors:
        """Does what a round does before its steps.

        Args:
            state: The state before it.

        Returns:
            What acts.
        """
        return self.propose(state, self.split(state.key))

    def after_round(
        self, state: SearchState[Learned], actors: Actors, unrolled: Unrolled
    ) -> tuple[SearchState[Learned], Metrics]:
        """Does what a round does after its steps.

        Args:
            state: The state before it.
            actors: What acted.
            unrolled: What happened, `(steps, environments)`.

        Returns:
            The state after it, with the environments as before, and scalar metrics.
        """
        keys = self.split(state.key)
        observations = state.observations.join(unrolled.observations)
        learned, metrics = self.learn(state, actors, unrolled, observations, keys)
        after = SearchState(
            learned, observations, state.iteration + 1, keys.next, state.environments
        )
        return after, _shared_metrics(unrolled) | metrics

    def compile(self, state: SearchState[Learned]) -> Iteration:
        """Compiles an iteration, for all devices where JAX steps the task.

        Args:
            state: A state. Environments that cannot be put where it has them are
                started anew.

        Returns:
            One iteration. The state that it is given is used up.
        """
        return _StepIteration(self, state)


@final
class _StepIteration:
    """Rounds, then episodes of the policy itself, driven from Python."""

    def __init__(self, search: AbstractStepSearch, state: SearchState):
        self._search, self._config = search, search.config
        engine = engine_for(search.task)
        self._unroll = engine.compile_unroll(
            search.make_actor, steps=self._config.segment
        )
        self._propose: Any = eqx.filter_jit(
            lambda search, state: search.before_round(state)
        )
        self._learn: Any = eqx.filter_jit(_after, donate="all-except-first")
        self._policy: Any = eqx.filter_jit(lambda search, state: search.policy(state))
        self._fresh: Any = eqx.filter_jit(
            lambda search, state, key: search.fresh(state, key=key)
        )
        self._judge: Any = eqx.filter_jit(
            lambda search, *arguments: search.judge(*arguments)
        )
        own = _without_environments(own_copy(state))
        policy = eqx.filter_eval_shape(lambda state: search.policy(state), own)
        is_form = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
        self._watch = engine.compile_rollout(
            _Completed(eqx.filter(policy, is_form, inverse=True)),
            RolloutOptions(self._config.eval_episodes),
        )
        self._try_fresh = engine.compile_rollout(search.make_actor, RolloutOptions())
        self._restarted: Any = None
        if not self._unroll.is_repeatable:
            key = jr.fold_in(own.key, _ENVIRONMENTS)
            self._restarted = self._unroll.init(self._config.num_envs, key=key)
        # Compiled by doing it once, of which nothing is kept.
        else:
            self._round(jax.tree.map(_copied, own), own_copy(state.environments))

    def __call__(self, state: SearchState) -> tuple[SearchState, dict[str, Any]]:
        environments, rows = state.environments, []
        if self._restarted is not None:
            environments, self._restarted = self._restarted, None
        state = _without_environments(state)
        for _ in range(self._config.rounds):
            state, environments, metrics = self._round(state, environments)
            rows.append(metrics)
        metrics = _means(rows) | self._watched(state)
        return _with_environments(state, environments), metrics

    def _round(
        self, state: SearchState, environments: Any
    ) -> tuple[SearchState, Any, Metrics]:
        """A round, of a state without environments."""
        actors = self._propose(self._search, state)
        rows = np.arange(self._config.num_envs)
        unrolled, environments = self._unroll(actors.population, rows, environments)
        state, metrics = self._learn((self._search, actors, unrolled), state)
        return state, environments, metrics

    def _watched(self, state: SearchState) -> Metrics:
        """How the policy stands, and now and then how right its values are."""
        search, config = self._search, self._config
        arrays = eqx.filter(self._policy(search, state), eqx.is_array)
        population = jax.tree.map(lambda leaf: leaf[None], arrays)
        key = jr.fold_in(state.key, _WATCHED)
        episodes = self._watch(population, key=key)
        metrics = {
            "return_policy": jnp.mean(episodes.total_reward, where=episodes.valid)
        }
        rounds = config.rounds * config.fresh_every
        if config.fresh_policies and state.iteration.item() % rounds == 0:
            draw_key, key = jr.split(jr.fold_in(state.key, _FRESH))
            population = self._fresh(search, state, draw_key)
            episodes = self._try_fresh(population, key=key)
            metrics |= self._judge(search, state, population, episodes)
        return metrics


@final
class _Completed(eqx.Module):
    """From the arrays of a policy to the whole of it."""

    rest: PyTree

    def __call__(self, arrays: PyTree[Array]) -> Any:
        return eqx.combine(arrays, self.rest)


def _after(tried: Any, state: SearchState) -> tuple[SearchState, Metrics]:
    search, actors, unrolled = tried
    return search.after_round(state, actors, unrolled)


def _shared_metrics(unrolled: Unrolled) -> Metrics:
    """Scalars that say the same of every search; NaN where no episode ended."""
    finished = unrolled.finished
    sound = finished.ended & finished.valid
    best = jnp.max(jnp.where(sound, finished.total_reward, -jnp.inf))
    return {
        "return_perturbed_mean": jnp.mean(finished.total_reward, where=sound),
        "return_perturbed_max": jnp.where(jnp.any(sound), best, jnp.nan),
        "env_steps": jnp.asarray(finished.ended.size),
        "nan_episodes": jnp.sum(finished.ended & ~finished.valid),
    }


def _means(rows: Sequence[Metrics]) -> dict[str, Any]:
    """Metrics of an iteration of those of its rounds."""
    found = {}
    for name in rows[0]:
        values = np.array([row[name].item() for row in rows])
        if name == "env_steps" or name.startswith("nan_"):
            found[name] = values.sum()
        elif name.endswith("_max"):
            found[name] = _reduced(np.nanmax, values)
        else:
            found[name] = _reduced(np.nanmean, values)
    return found


def _reduced(reduce: Callable[[np.ndarray], Any], values: np.ndarray) -> Any:
    return reduce(values) if np.isfinite(values).any() else np.float64(np.nan)


def _with_environments(state: SearchState, environments: Any) -> SearchState:
    return dataclasses.replace(state, environments=environments)


def _without_environments(state: SearchState) -> SearchState:
    return _with_environments(state, None)


def _copied(leaf: Any) -> Any:
    return jnp.copy(leaf) if eqx.is_array(leaf) else leaf
