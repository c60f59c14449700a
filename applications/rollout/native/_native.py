import functools
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from applications.envs import AbstractOutcome, count_cores
from applications.envs.native import NativeTask
from applications.rollout._devices import gather_parts
from applications.rollout._iteration import compile_in_parts
from applications.rollout._population import count_policies, take_policies
from applications.rollout.engine import (
    AbstractEngine,
    AbstractUnroll,
    MakePolicy,
    Metrics,
    Population,
    State,
)
from applications.rollout.episode import Episode
from applications.rollout.native._blocks import (
    Block,
    block_size,
    run_blocks,
    sizes_of_derived,
    smaller,
)
from applications.rollout.native._rows import RowFunctions, Rows
from applications.rollout.native._unroll import NativeUnroll
from applications.rollout.options import at_least_1, RolloutOptions
from applications.rollout.visits import visit_times, VisitLog


@final
class NativeEngine(AbstractEngine):
    """Steps a task in C, on the cores that this process may use."""

    def __init__(
        self,
        task: NativeTask,
        *,
        outcome: AbstractOutcome | None = None,
        threads: int | None = None,
    ):
        """Makes the engine.

        Args:
            task: The task.
            outcome: What its episodes are worth, if not the sum of their rewards.
            threads: How many threads; unless given, one for each core that this
                process may use.
        """
        at_least_1(threads=threads)
        self._task = task
        self._outcome = outcome
        self._threads = count_cores() if threads is None else threads

    def compile_rollout(
        self,
        make_policy: MakePolicy,
        options: RolloutOptions = RolloutOptions(),
    ) -> "NativeRollout":
        """As of `AbstractEngine`."""
        return self._rollout(make_policy, options, part=(0, 1))

    def compile_iteration(
        self,
        propose: Callable[[State], Any],
        learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
        make_policy: MakePolicy,
        state: State,
        options: RolloutOptions = RolloutOptions(),
    ) -> Callable[[State], tuple[State, Metrics]]:
        """As of `AbstractEngine`.

        Everything but the physics is compiled. Every process runs its part of the
        population on its cores, and learns on its first device.
        """
        part = (jax.process_index(), jax.process_count())
        run = self._rollout(make_policy, options, part=part)
        return compile_in_parts(run, propose, learn, state, self._task, options)

    def compile_unroll(
        self, make_policy: MakePolicy, *, steps: int, record: bool = True
    ) -> AbstractUnroll:
        """As of `AbstractEngine`, in a single process."""
        at_least_1(steps=steps)
        return NativeUnroll(
            self._task, make_policy, steps, record, self._threads, self._outcome
        )

    def _rollout(
        self,
        make_policy: MakePolicy,
        options: RolloutOptions,
        *,
        part: tuple[int, int],
    ) -> "NativeRollout":
        return NativeRollout(
            self._task,
            make_policy,
            options,
            threads=self._threads,
            outcome=self._outcome,
            part=part,
        )


@final
class NativeRollout:
    """Runs populations of policies, each with its own weights, on the C engine.

    Start states are those that `rollout` draws from the same key. Which thread runs a
    block makes no difference to it. The size of a block may make one, in the last bit
    of what XLA computes, which contacts magnify: it follows from the number of threads,
    unless a chunk is smaller, and from how many policies have come to their end.
    """

    def __init__(
        self,
        task: NativeTask,
        make_policy: MakePolicy,
        options: RolloutOptions = RolloutOptions(),
        *,
        threads: int | None = None,
        outcome: AbstractOutcome | None = None,
        part: tuple[int, int] = (0, 1),
    ):
        """Prepares rollouts; compiles at the first one.

        Args:
            task: The task.
            make_policy: From weights to a policy, for instance `FlatView.to_policy`.
            options: Episodes of each policy, and how they are run. A chunk is what a
                thread runs at once, at most; unless given, all threads get equally
                many.
            threads: How many threads; unless given, one for each core that this
                process may use.
            outcome: What an episode is worth, if not the sum of its rewards.
            part: Which part of a population to run, counted from 0, and of how many
                equal ones. The last one may be filled up.

        Raises:
            ValueError: If a number is below 1, or there is no such part.
        """
        threads = count_cores() if threads is None else threads
        at_least_1(threads=threads)
        if not 0 <= part[0] < part[1]:
            raise ValueError(f"There is no part {part[0]} of {part[1]}.")
        self._task = task
        self._make_policy = make_policy
        self._options = options
        self._part = part
        self._outcome = outcome
        self._threads = threads
        self._compiled: set[Any] = set()
        self._draw: Any = None
        self._first: Any = None
        self._next: Any = None
        self._take = jax.jit(
            lambda policies, rows, at: (
                take_policies(policies, at),
                jax.tree.map(lambda leaf: leaf[at], rows),
            )
        )

    def __call__(self, population: Population, *, key: PRNGKeyArray) -> Episode:
        """Runs a population.

        Args:
            population: The weights, one policy a row.
            key: Source of randomness.

        Returns:
            Episodes of all parts, with a batch shape `(policies, episodes)`.
        """
        count = self._count(population)
        size = count * self._options.episodes
        self.compile(population)
        block = block_size(size, self._threads, self._largest)
        begin = self._part[0] * size
        firsts = range(begin, begin + size, block)
        finished = run_blocks(
            lambda first: self._run_block(population, first, block, key=key),
            firsts,
            self._threads,
        )

        def join(*parts: Array) -> Array:
            whole = np.concatenate(parts)[:size]
            batch = (count, self._options.episodes)
            return jnp.asarray(whole.reshape(*batch, *whole.shape[1:]))

        own = jax.tree.map(join, *finished)
        return gather_parts(own, self._part[1], count_policies(population))

    def compile(self, population: Population) -> None:
        """Compiles what populations of this form need, unless it has been done.

        In this thread, whose settings of JAX count.

        Args:
            population: Such a population.
        """
        form = tuple(leaf.shape for leaf in jax.tree.leaves(population))
        if form in self._compiled:
            return
        if not self._compiled:
            rows = RowFunctions(
                self._task, self._make_policy, population, self._outcome
            )
            self._draw = jax.jit(
                functools.partial(
                    rows.draw,
                    episodes=self._options.episodes,
                    common_starts=self._options.common_starts,
                ),
                static_argnums=3,
            )
            self._first = jax.jit(lambda *arguments: rows.first(*arguments))
            self._next = jax.jit(lambda *arguments: rows.next(*arguments))
        whole = self._count(population) * self._options.episodes
        size = block_size(whole, self._threads, self._largest)
        policies, keys, qpos, qvel = self._draw(population, jr.key(0), 0, size)
        derived = {
            name: jnp.zeros(shape)
            for name, shape in sizes_of_derived(self._task, size).items()
        }
        first, _ = self._first(policies, keys, qpos, qvel, derived)
        self._next(policies, keys, first, qpos, qvel, derived)
        self._compiled.add(form)

    @property
    def _largest(self) -> int | None:
        """Episodes in a block, at most."""
        chunk = self._options.chunk
        return None if chunk is None else chunk * self._options.episodes

    def _count(self, population: Population) -> int:
        """Policies of the part."""
        return -(-count_policies(population) // self._part[1])

    def _run_block(
        self, population: Population, first: int, size: int, *, key: PRNGKeyArray
    ) -> Episode:
        """Runs the episodes from number `first` on, each to its end."""
        block = Block(self._task, size)
        policies, keys, qpos, qvel = self._draw(population, key, first, size)
        block.start(slice(None), np.asarray(qpos), np.asarray(qvel))
        rows, start = self._first(policies, keys, *block.read(slice(None)))
        result = jax.tree.map(np.array, rows.tally)
        log = None
        if self._options.visits:
            times = visit_times(
                first + jnp.arange(size), self._options.visits, self._task.horizon
            )
            log = VisitLog(np.asarray(times), self._task.observation_size)
        # Which simulation each row is of; some at the end may be there to fill up.
        simulations = np.arange(size)

        def store(rows: Rows) -> None:
            def put(mine: np.ndarray, theirs: Array) -> None:
                mine[simulations] = theirs

            jax.tree.map(put, result, rows.tally)

        step = 0
        while True:
            alive = np.asarray(rows.tally.ongoing)
            living = np.flatnonzero(alive)
            if not len(living):
                store(rows)
                visits = None if log is None else log.visits
                return jax.tree.map(jnp.asarray, result).episode(start, visits)
            kept = smaller(alive)
            if kept is not None:
                store(rows)
                policies, (keys, rows) = self._take(policies, (keys, rows), kept)
                simulations = simulations[kept]
                continue
            if log is not None:
                log.keep(step, simulations[living], rows.observation, living)
            step += 1
            block.step(simulations[living], np.asarray(rows.ctrl)[living])
            rows = self._next(policies, keys, rows, *block.read(simulations))
