import dataclasses
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64, Int, PRNGKeyArray, PyTree

from applications.envs import AbstractOutcome
from applications.envs.native import NativeTask, Physics
from applications.rollout.engine import (
    AbstractUnroll,
    MakePolicy,
    Population,
)
from applications.rollout.episode import EpisodeTally
from applications.rollout.native._blocks import Block, block_size, run_blocks, single
from applications.rollout.native._rows import RowFunctions, start, start_tallies
from applications.rollout.options import at_least_1
from applications.rollout.transitions import begin_unroll, end_unroll, Unrolled


@final
class NativeUnrollState(eqx.Module):
    """Where environments on the C engine stand between two unrolls.

    Attributes:
        simulations: MuJoCo's arrays by name, in NumPy: JAX would round them.
        tally: The episodes under way.
        episode: How many episodes have ended in each environment.
        key: Source of all randomness.
    """

    simulations: dict[str, Float64[np.ndarray, "environments ..."]]
    tally: EpisodeTally
    episode: Int[np.ndarray, " environments"]
    key: PRNGKeyArray


@final
class NativeUnroll(AbstractUnroll):
    """Control steps of many environments on the C engine."""

    def __init__(
        self,
        task: NativeTask,
        make_policy: MakePolicy,
        steps: int,
        record: bool,
        threads: int,
        outcome: AbstractOutcome | None = None,
    ):
        """Prepares the steps; compiles at the first call.

        Args:
            task: The task.
            make_policy: From weights to a policy.
            steps: Control steps of each environment in one call.
            record: Whether transitions are wanted.
            threads: How many threads.
            outcome: What an episode is worth, if not the sum of its rewards.

        Raises:
            ValueError: If the model has state that is not carried on, or there are
                several processes.
        """
        if task.model.na:
            raise ValueError(
                f"The model has {task.model.na} actuator activations; an unroll "
                "carries on positions, velocities and controls only."
            )
        if jax.process_count() > 1:
            raise ValueError("The C engine unrolls in a single process only.")
        self._task = task
        self._make_policy = make_policy
        self._steps = steps
        self._record = record
        self._threads = threads
        self._outcome = outcome
        self._form: Any = None
        self._start: Any = jax.jit(lambda *arguments: start(task, *arguments))
        self._tallies: Any = jax.jit(
            lambda size: start_tallies(task, size, outcome), static_argnums=0
        )
        self._end: Any = jax.jit(end_unroll)
        self._policies: Any = None
        self._act: Any = None
        self._judge: Any = None

    @property
    def is_repeatable(self) -> bool:
        """Yes: a state has everything."""
        return True

    def init(self, environments: int, *, key: PRNGKeyArray) -> NativeUnrollState:
        """As of `AbstractUnroll`."""
        at_least_1(environments=environments)
        episode = np.zeros(environments, np.int32)
        _, qpos, qvel = self._start(key, jnp.arange(environments), episode)
        block = Block(self._task, environments)
        block.start(slice(None), np.asarray(qpos), np.asarray(qvel))
        return NativeUnrollState(
            block.save(), self._tallies(environments), episode, key
        )

    def __call__(
        self,
        population: Population,
        rows: Int[Array | np.ndarray, " environments"],
        state: NativeUnrollState,
    ) -> tuple[Unrolled, NativeUnrollState]:
        """As of `AbstractUnroll`."""
        count = len(state.episode)
        size = block_size(count, self._threads)
        state = dataclasses.replace(state, tally=begin_unroll(state.tally))
        self._compile(population, np.asarray(rows), state, size)
        parts = run_blocks(
            lambda first: self._run_block(population, rows, state, first, size),
            range(0, count, size),
            self._threads,
        )
        happened, states = zip(*parts, strict=True)

        def join(axis: int, *leaves: np.ndarray) -> np.ndarray:
            whole = np.concatenate(leaves, axis=axis)
            return whole[:, :count] if axis else whole[:count]

        finished, transitions = jax.tree.map(
            lambda *leaves: jnp.asarray(join(1, *leaves)), *happened
        )
        simulations, tally, episode = jax.tree.map(
            lambda *leaves: join(0, *leaves), *states
        )
        tally = jax.tree.map(jnp.asarray, tally)
        unrolled, tally = self._end(tally, finished, transitions)
        return unrolled, NativeUnrollState(simulations, tally, episode, state.key)

    def _compile(
        self,
        population: Population,
        rows: Int[np.ndarray, " environments"],
        state: NativeUnrollState,
        size: int,
    ) -> None:
        """Compiles in this thread, whose settings of JAX count."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(population))
        if self._form == (shapes, size):
            return
        functions = RowFunctions(
            self._task, self._make_policy, population, self._outcome
        )
        record = self._record

        def judge(*arguments: Any) -> Any:
            tally, finished, transitions = functions.judge(*arguments)
            return tally, finished, transitions if record else None

        self._policies = jax.jit(lambda *rest: functions.policies.policies(*rest))
        self._act = jax.jit(lambda *arguments: functions.act(*arguments))
        self._judge = jax.jit(judge)
        self._run_block(population, rows, state, 0, size, steps=1)
        self._form = (shapes, size)

    def _run_block(
        self,
        population: Population,
        rows: Int[Any, " environments"],
        state: NativeUnrollState,
        first: int,
        size: int,
        steps: int | None = None,
    ) -> tuple[PyTree, PyTree]:
        """Takes the steps of the environments from number `first` on.

        Returns:
            What happened, time first, and where the environments stand then.
        """
        # What is beyond the last one fills up.
        numbers = np.minimum(first + np.arange(size), len(state.episode) - 1)
        ids = np.arange(size)
        simulations = {name: x[numbers] for name, x in state.simulations.items()}
        block = Block(self._task, size)
        block.load(simulations)
        own = np.asarray(rows)[numbers]
        tally = jax.tree.map(lambda leaf: leaf[numbers], state.tally)
        episode = state.episode[numbers]
        policies = self._policies(population, own)
        keys, _, _ = self._start(state.key, numbers, episode)
        names = self._task.definition.derived
        derived = {name: single(simulations[name]) for name in names}
        qpos, qvel, _ = block.read(slice(None))
        physics = _physics(block, qpos, qvel, derived)
        happened = []
        for _ in range(self._steps if steps is None else steps):
            decision, ctrl, finite = self._act(policies, keys, tally.length, physics)
            block.step(ids, np.asarray(ctrl))
            after = _physics(block, *block.read(slice(None)))
            tally, finished, transitions = self._judge(
                tally, decision, finite, physics, after, own
            )
            happened.append((finished, transitions))
            ended = np.flatnonzero(finished.ended)
            if len(ended):
                episode = episode + np.asarray(finished.ended)
                keys, qpos, qvel = self._start(state.key, numbers, episode)
                block.start(ended, np.asarray(qpos)[ended], np.asarray(qvel)[ended])
                after = _physics(block, *block.read(slice(None)))
            physics = after
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *happened)
        return stacked, (block.save(), jax.tree.map(np.asarray, tally), episode)


def _physics(block: Block, qpos: Any, qvel: Any, derived: dict[str, Any]) -> Physics:
    ctrl: Any = single(block.state["ctrl"])
    cold: Any = np.zeros_like(qvel)
    return Physics(qpos, qvel, ctrl, cold, derived)
