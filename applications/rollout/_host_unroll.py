from collections.abc import Callable
from typing import Any, final, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float32, Int, Key, PRNGKeyArray, UInt32

from applications.envs import AbstractOutcome
from applications.rollout._policies import PolicyRows
from applications.rollout.engine import (
    AbstractUnroll,
    MakePolicy,
    Population,
)
from applications.rollout.episode import all_finite, EpisodeTally
from applications.rollout.options import at_least_1
from applications.rollout.transitions import (
    begin_unroll,
    end_unroll,
    episode_key,
    judge,
    Unrolled,
)


@runtime_checkable
class Simulations(Protocol):
    """Environments in rows, one episode at a time in each."""

    def reset(self, rows: Any, seeds: Any) -> Any:
        """Starts an episode in some rows, and gives the first observations."""
        ...

    def step(self, rows: Any, actions: Any) -> Any:
        """Steps some rows: observations, rewards, terminated, truncated."""
        ...

    def close(self) -> None:
        """Ends them."""
        ...


@final
class HostUnrollState(eqx.Module):
    """Where environments stand that are stepped in Python, but for what is in them.

    Attributes:
        observation: What there is to see.
        tally: The episodes under way.
        episode: How many episodes have ended in each environment.
        key: Source of all randomness.
        steps: Control steps since `init`.
    """

    observation: Float32[np.ndarray, "environments observation"]
    tally: EpisodeTally
    episode: Int[np.ndarray, " environments"]
    key: PRNGKeyArray
    steps: int


@final
class HostUnroll(AbstractUnroll):
    """Control steps of many environments that are stepped in Python."""

    def __init__(
        self,
        task: Any,
        make_policy: MakePolicy,
        steps: int,
        record: bool,
        simulations: Callable[[Any, int], Simulations],
        outcome: AbstractOutcome | None = None,
    ):
        """Prepares the steps; compiles at the first call.

        Args:
            task: The environment.
            make_policy: From weights to a policy.
            steps: Control steps of each environment in one call.
            record: Whether transitions are wanted.
            simulations: Makes environments.
            outcome: What an episode is worth, if not the sum of its rewards.

        Raises:
            ValueError: If there are several processes.
        """
        if jax.process_count() > 1:
            raise ValueError("Such environments unroll in a single process only.")
        self._task = task
        self._make_policy = make_policy
        self._steps = steps
        self._record = record
        self._make = simulations
        self._outcome = outcome
        self._simulations: Simulations | None = None
        self._at: tuple[Any, int] | None = None
        self._form: Any = None
        self._policies: Any = None
        self._act: Any = None
        self._judge: Any = None
        self._end: Any = jax.jit(end_unroll)
        self._keys: Any = jax.jit(jax.vmap(episode_key, in_axes=(None, 0, 0)))

    @property
    def is_repeatable(self) -> bool:
        """No: the environments go on by themselves."""
        return False

    def init(self, environments: int, *, key: PRNGKeyArray) -> HostUnrollState:
        """As of `AbstractUnroll`; ends the environments of an earlier call."""
        at_least_1(environments=environments)
        if self._simulations is not None:
            self._simulations.close()
        self._simulations = self._make(self._task, environments)
        numbers, episode = np.arange(environments), np.zeros(environments, np.int32)
        seeds = seeds_of(self._task, self._keys(key, numbers, episode))
        observation = self._simulations.reset(numbers, np.asarray(seeds))
        start = lambda x: EpisodeTally.start(x, self._task.horizon, self._outcome)
        tally = jax.vmap(start)(jnp.asarray(observation))
        state = HostUnrollState(observation, tally, episode, key, 0)
        self._at = (jr.key_data(key).tobytes(), 0)
        return state

    def __call__(
        self,
        population: Population,
        rows: Int[Array | np.ndarray, " environments"],
        state: HostUnrollState,
    ) -> tuple[Unrolled, HostUnrollState]:
        """As of `AbstractUnroll`.

        Raises:
            ValueError: If the environments have gone on since the state was given, or
                are not those of this unroll.
        """
        token = jr.key_data(state.key).tobytes()
        if self._simulations is None or self._at != (token, state.steps):
            raise ValueError(
                "The environments do not stand where this state was given: use each "
                "state once, and with the unroll that gave it."
            )
        self._compile(population)
        own, simulations = np.asarray(rows), self._simulations
        numbers, episode = np.arange(len(own)), state.episode
        observation, tally = state.observation, begin_unroll(state.tally)
        policies = self._policies(population, own)
        keys = self._keys(state.key, numbers, episode)
        happened = []
        for _ in range(self._steps):
            decision = self._act(policies, keys, tally.length, observation)
            found = simulations.step(numbers, np.asarray(decision.action))
            tally, finished, transitions = self._judge(tally, decision, own, *found)
            happened.append((finished, transitions))
            ended = np.flatnonzero(finished.ended)
            observation = np.array(found[0])
            if len(ended):
                episode = episode + np.asarray(finished.ended)
                keys = self._keys(state.key, numbers, episode)
                seeds = np.asarray(seeds_of(self._task, keys))[ended]
                observation[ended] = simulations.reset(ended, seeds)
        finished, transitions = jax.tree.map(lambda *x: jnp.stack(x), *happened)
        steps = state.steps + self._steps
        self._at = (token, steps)
        unrolled, tally = self._end(tally, finished, transitions)
        return unrolled, HostUnrollState(observation, tally, episode, state.key, steps)

    def _compile(self, population: Population) -> None:
        form = tuple(leaf.shape for leaf in jax.tree.leaves(population))
        if form == self._form:
            return
        rows = PolicyRows(self._task.action_space, self._make_policy, population)

        def of_one(tally, decision, row, observation, reward, terminated, truncated):
            return judge(
                tally,
                decision,
                reward=reward,
                next_observation=observation,
                terminated=terminated,
                truncated=truncated,
                finite=all_finite((decision.output, observation, reward)),
                policy=row,
            )

        def judged(*arguments: Any) -> Any:
            tally, finished, transitions = jax.vmap(of_one)(*arguments)
            return tally, finished, transitions if self._record else None

        self._policies = jax.jit(lambda *arguments: rows.policies(*arguments))
        self._act = jax.jit(lambda *arguments: rows.act(*arguments))
        self._judge, self._form = jax.jit(judged), form


def seeds_of(task: Any, keys: Key[Array, " rows"]) -> UInt32[Array, " rows"]:
    """Seeds of episodes, drawn from their keys."""
    return jax.vmap(lambda key: task.seed(key=key))(keys)
