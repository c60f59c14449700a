"""Environments that are stepped in Python, many together, outside `jax.jit`."""

import importlib
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray, PyTree

from applications.envs import AbstractOutcome
from applications.rollout._devices import gather_parts
from applications.rollout._host_unroll import HostUnroll, seeds_of, Simulations
from applications.rollout._iteration import compile_in_parts
from applications.rollout._policies import PolicyRows
from applications.rollout._population import count_policies
from applications.rollout.engine import (
    AbstractEngine,
    AbstractUnroll,
    MakePolicy,
    Metrics,
    Population,
    State,
)
from applications.rollout.episode import (
    all_finite,
    Episode,
    episode_keys,
    EpisodeTally,
)
from applications.rollout.options import at_least_1, RolloutOptions
from applications.rollout.visits import visit_times, VisitLog


# Most environments that there are at once, unless a chunk is asked for.
_LARGEST = 256


@final
class HostEngine(AbstractEngine):
    """Steps environments in Python; the policies of all of them act in one call.

    Environments are made when they are first needed, and kept for later calls.
    """

    def __init__(
        self,
        task: Any,
        *,
        outcome: AbstractOutcome | None = None,
        simulations: Callable[[Any, int], Simulations] | None = None,
    ):
        """Makes the engine.

        Args:
            task: The environment. Its `seed(key=...)` draws what an episode is seeded
                by.
            outcome: What episodes are worth, if not the sum of their rewards.
            simulations: From the environment and a number to so many of it; Gymnasium's
                in worker processes unless given.
        """
        self._task = task
        self._outcome = outcome
        self._make = _gymnasium if simulations is None else simulations

    def compile_rollout(
        self,
        make_policy: MakePolicy,
        options: RolloutOptions = RolloutOptions(),
    ) -> "HostRollout":
        """As of `AbstractEngine`."""
        return HostRollout(
            self._task,
            make_policy,
            options,
            part=(0, 1),
            simulations=self._make,
            outcome=self._outcome,
        )

    def compile_iteration(
        self,
        propose: Callable[[State], Any],
        learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
        make_policy: MakePolicy,
        state: State,
        options: RolloutOptions = RolloutOptions(),
    ) -> Callable[[State], tuple[State, Metrics]]:
        """As of `AbstractEngine`; everything but the environments is compiled."""
        run = HostRollout(
            self._task,
            make_policy,
            options,
            part=(jax.process_index(), jax.process_count()),
            simulations=self._make,
            outcome=self._outcome,
        )
        return compile_in_parts(run, propose, learn, state, self._task, options)

    def compile_unroll(
        self, make_policy: MakePolicy, *, steps: int, record: bool = True
    ) -> AbstractUnroll:
        """As of `AbstractEngine`, in a single process.

        Where the environments stand is in the environments: a state can be used once,
        and in the unroll that gave it.
        """
        at_least_1(steps=steps)
        return HostUnroll(
            self._task, make_policy, steps, record, self._make, self._outcome
        )


@final
class HostRollout:
    """Runs populations of policies, so many environments at a time."""

    def __init__(
        self,
        task: Any,
        make_policy: MakePolicy,
        options: RolloutOptions,
        *,
        part: tuple[int, int],
        simulations: Callable[[Any, int], Simulations],
        outcome: AbstractOutcome | None = None,
    ):
        """Prepares rollouts; compiles at the first one.

        Args:
            task: The environment.
            make_policy: From weights to a policy.
            options: Episodes of each policy, and how they are run.
            part: Which part of a population to run, and of how many.
            simulations: Makes environments.
            outcome: What an episode is worth, if not the sum of its rewards.
        """
        self._task = task
        self._outcome = outcome
        self._make_policy = make_policy
        self._options = options
        chunk = options.chunk
        self._largest = _LARGEST if chunk is None else chunk * options.episodes
        self._part = part
        self._make = simulations
        self._simulations: Simulations | None = None
        self._size = 0
        self._form: Any = None
        self._draw: Any = None
        self._first: Any = None
        self._next: Any = None

    def __call__(self, population: Population, *, key: PRNGKeyArray) -> Episode:
        """Runs the part of a population, and is told how the others went."""
        self.compile(population)
        count = self._count(population)
        whole = count * self._options.episodes
        if self._simulations is None or self._size < self._lanes(population):
            if self._simulations is not None:
                self._simulations.close()
            self._size = self._lanes(population)
            self._simulations = self._make(self._task, self._size)
        begin = self._part[0] * whole
        parts = [
            self._run_lanes(population, self._simulations, first, key=key)
            for first in range(begin, begin + whole, self._lanes(population))
        ]

        def join(*leaves: Array) -> Array:
            joined = jnp.concatenate(leaves)[:whole]
            return joined.reshape(count, self._options.episodes, *joined.shape[1:])

        own = jax.tree.map(join, *parts)
        return gather_parts(own, self._part[1], count_policies(population))

    def compile(self, population: Population) -> None:
        """Prepares what populations of this form need; compiles at the first call."""
        form = tuple(leaf.shape for leaf in jax.tree.leaves(population))
        if form == self._form:
            return
        rows = PolicyRows(self._task.action_space, self._make_policy, population)
        horizon = self._task.horizon

        def draw(population: Population, key: PRNGKeyArray, first: Any) -> Any:
            # What is beyond the last one fills up.
            episodes = self._options.episodes
            last = count_policies(population) * episodes - 1
            number = jnp.minimum(first + jnp.arange(self._lanes(population)), last)
            of_one = lambda policy, episode: episode_keys(
                key, policy, episodes, self._options.common_starts
            )[episode]
            policy, episode = number // episodes, number % episodes
            keys = jax.vmap(of_one)(policy, episode)
            return rows.policies(population, policy), keys, seeds_of(self._task, keys)

        def first(policies: Any, keys: Any, observation: Array) -> Any:
            start = lambda x: EpisodeTally.start(x, horizon, self._outcome).see(x)
            tally = jax.vmap(start)(observation)
            return tally, rows.act(policies, keys, tally.length, observation)

        def following(
            policies: PyTree[Array],
            keys: Key[Array, " rows"],
            tally: EpisodeTally,
            output: Float[Array, "rows outputs"],
            observation: Float[Array, "rows observation"],
            reward: Float[Array, " rows"],
            terminated: Bool[Array, " rows"],
            truncated: Bool[Array, " rows"],
        ) -> Any:
            def add(tally, output, observation, reward, terminated, truncated):
                tally = tally.add(
                    reward,
                    terminated=terminated,
                    truncated=truncated,
                    finite=all_finite((output, observation, reward)),
                    observation=observation,
                )
                return tally.see(observation)

            tally = jax.vmap(add)(
                tally, output, observation, reward, terminated, truncated
            )
            return tally, rows.act(policies, keys, tally.length, observation)

        self._draw, self._first = jax.jit(draw), jax.jit(first)
        self._next, self._form = jax.jit(following), form

    def _count(self, population: Population) -> int:
        """Policies of the part."""
        return -(-count_policies(population) // self._part[1])

    def _lanes(self, population: Population) -> int:
        """Environments at a time: equally many each time."""
        whole = self._count(population) * self._options.episodes
        return -(-whole // -(-whole // self._largest))

    def _run_lanes(
        self,
        population: Population,
        simulations: Simulations,
        first: int,
        *,
        key: PRNGKeyArray,
    ) -> Episode:
        """Runs the episodes from number `first` on, each to its end."""
        policies, keys, seeds = self._draw(population, key, first)
        start = simulations.reset(np.arange(len(seeds)), np.asarray(seeds))
        size = len(start)
        tally, decision = self._first(policies, keys, start)
        # Of rows that have ended, what is passed on has no effect.
        observation, reward = start.copy(), np.zeros(size, np.float32)
        terminated, truncated = np.zeros(size, bool), np.zeros(size, bool)
        log = None
        if self._options.visits:
            times = visit_times(
                first + jnp.arange(size), self._options.visits, self._task.horizon
            )
            log = VisitLog(np.asarray(times), start.shape[1])
        step = 0
        while len(alive := np.flatnonzero(tally.ongoing)):
            if log is not None:
                log.keep(step, alive, observation, alive)
            step += 1
            found = simulations.step(alive, np.asarray(decision.action)[alive])
            for mine, theirs in zip(
                (observation, reward, terminated, truncated), found, strict=True
            ):
                mine[alive] = theirs
            tally, decision = self._next(
                *(policies, keys, tally, decision.output),
                *(observation, reward, terminated, truncated),
            )
            # XLA may still read what is written next.
            jax.block_until_ready(tally)
        visits = None if log is None else log.visits
        return tally.episode(jnp.asarray(start), visits)


def _gymnasium(task: Any, size: int) -> Simulations:
    # By name: that package holds Gymnasium, which need not be installed.
    adapters = importlib.import_module("applications.envs.adapters")
    return adapters.HostSimulations(task, size)
