"""Tasks that JAX can step: one program for everything, on all devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from applications.envs import AbstractOutcome, AbstractTask
from applications.rollout._devices import mesh_of, on_all_devices, replicate
from applications.rollout._jax_rollout import rollout
from applications.rollout._jax_unroll import start, unroll, UnrollState
from applications.rollout.engine import (
    AbstractEngine,
    AbstractUnroll,
    MakePolicy,
    Metrics,
    Population,
    State,
)
from applications.rollout.episode import Episode
from applications.rollout.options import at_least_1, RolloutOptions
from applications.rollout.transitions import Unrolled


@final
class JAXEngine(AbstractEngine):
    """Steps a task inside `jax.jit`, and shares populations out over devices."""

    def __init__(
        self,
        task: AbstractTask,
        *,
        outcome: AbstractOutcome | None = None,
        devices: Sequence[Any] | None = None,
    ):
        """Makes the engine.

        Args:
            task: The task.
            outcome: What its episodes are worth, if not the sum of their rewards.
            devices: The devices of iterations and unrolls; all devices of all processes
                unless given.
        """
        self._task = task
        self._outcome = outcome
        self._mesh = mesh_of(devices)

    def compile_rollout(
        self,
        make_policy: MakePolicy,
        options: RolloutOptions = RolloutOptions(),
    ) -> Callable[..., Episode]:
        """As of `AbstractEngine`; runs on one device."""
        run = eqx.filter_jit(rollout)
        return functools.partial(
            run,
            self._task,
            make_policy,
            options=options,
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
        """As of `AbstractEngine`; one program from a state to the next."""
        step: Any = self.iteration(
            propose,
            learn,
            make_policy,
            options,
        )
        mesh = self._mesh
        # The task may hold arrays of its own (a physics model); only the state's
        # buffers are given away.
        if mesh is None:
            jitted: Any = eqx.filter_jit(_apply, donate="all-except-first")
            compiled = jitted.lower(step, state).compile()
            return lambda state: compiled(step, state)
        jitted = eqx.filter_jit(
            lambda step, state: on_all_devices(step, state, mesh),
            donate="all-except-first",
        )
        step = replicate(step, mesh)
        compiled = jitted.lower(step, replicate(state, mesh)).compile()
        return lambda state: compiled(step, replicate(state, mesh))

    def iteration(
        self,
        propose: Callable[[State], Any],
        learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
        make_policy: MakePolicy,
        options: RolloutOptions = RolloutOptions(),
    ) -> Callable[..., tuple[State, Metrics]]:
        """An iteration as a pure function, to be compiled by the caller.

        Args:
            propose: As of `AbstractEngine.compile_iteration`.
            learn: As of `AbstractEngine.compile_iteration`.
            make_policy: From weights to a policy, for instance `FlatView.to_policy`.
            options: Episodes of each policy, and how they are run.

        Returns:
            From a state, and inside `jax.shard_map` the name of the axis over which
            populations are shared out, to the next state and metrics.
        """
        return _Iteration(
            self._task,
            propose,
            learn,
            make_policy,
            options,
            self._outcome,
        )

    def compile_unroll(
        self, make_policy: MakePolicy, *, steps: int, record: bool = True
    ) -> AbstractUnroll:
        """As of `AbstractEngine`; the environments are shared out over the devices."""
        at_least_1(steps=steps)
        return _Unroll(
            self._task, make_policy, steps, record, self._outcome, self._mesh
        )


@final
class _Iteration(eqx.Module):
    task: AbstractTask
    propose: Callable
    learn: Callable
    make_policy: MakePolicy
    options: RolloutOptions = eqx.field(static=True)
    outcome: AbstractOutcome | None = eqx.field(static=True)

    def __call__(self, state: Any, axis: str | None = None) -> tuple[Any, Metrics]:
        proposal = self.propose(state)
        episodes = rollout(
            self.task,
            self.make_policy,
            proposal.acting,
            options=self.options,
            outcome=self.outcome,
            axis=axis,
            key=proposal.key,
        )
        return self.learn(state, proposal, episodes)


@final
class _Steps(eqx.Module):
    task: AbstractTask
    make_policy: MakePolicy
    population: Population
    rows: Int[Array, " environments"]
    steps: int = eqx.field(static=True)
    record: bool = eqx.field(static=True)

    def __call__(self, state: UnrollState, axis: str | None = None) -> Any:
        unrolled, after = unroll(
            self.task,
            self.make_policy,
            self.population,
            self.rows,
            state,
            steps=self.steps,
            record=self.record,
            axis=axis,
        )
        return after, unrolled


@final
class _Unroll(AbstractUnroll):
    def __init__(
        self,
        task: AbstractTask,
        make_policy: MakePolicy,
        steps: int,
        record: bool,
        outcome: AbstractOutcome | None,
        mesh: Mesh | None,
    ):
        self._task = task
        self._outcome = outcome
        self._make_policy = make_policy
        self._options = (steps, record)
        self._mesh = mesh
        self._start: Any = eqx.filter_jit(start)
        self._run: Any = eqx.filter_jit(
            lambda steps, state: (
                steps(state) if mesh is None else on_all_devices(steps, state, mesh)
            )
        )

    @property
    def is_repeatable(self) -> bool:
        """Yes: a state has everything."""
        return True

    def init(self, environments: int, *, key: PRNGKeyArray) -> UnrollState:
        at_least_1(environments=environments)
        return self._start(self._task, environments, self._outcome, key=key)

    def __call__(
        self,
        population: Population,
        rows: Int[Array | np.ndarray, " environments"],
        state: UnrollState,
    ) -> tuple[Unrolled, UnrollState]:
        rows = jnp.asarray(rows)
        steps: Any = _Steps(
            self._task, self._make_policy, population, rows, *self._options
        )
        if self._mesh is not None:
            steps, state = replicate((steps, state), self._mesh)
        after, unrolled = self._run(steps, state)
        return unrolled, after


def _apply(step: Callable[[Any], Any], state: Any) -> Any:
    return step(state)
