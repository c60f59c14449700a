"""Tasks that JAX can step: populations are shared out over all devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray

from applications.envs import AbstractOutcome, AbstractTask
from applications.rollout._devices import (
    mesh_of,
    on_all_devices,
    own_copy,
    replicate,
)
from applications.rollout._iteration import compile_in_parts
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
        """As of `AbstractEngine`; rollouts are shared out over the devices."""
        run = _Rollout(self._task, make_policy, options, self._outcome, self._mesh)
        return compile_in_parts(run, propose, learn, state, self._task, options)

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
        run = _Episodes(self._task, make_policy, options, self._outcome)
        return _Iteration(propose, learn, run)

    def compile_unroll(
        self, make_policy: MakePolicy, *, steps: int, record: bool = True
    ) -> AbstractUnroll:
        """As of `AbstractEngine`; the environments are shared out over the devices."""
        at_least_1(steps=steps)
        return _Unroll(
            self._task, make_policy, steps, record, self._outcome, self._mesh
        )


@final
class _Rollout:
    """Runs populations on all devices."""

    def __init__(
        self,
        task: AbstractTask,
        make_policy: MakePolicy,
        options: RolloutOptions,
        outcome: AbstractOutcome | None,
        mesh: Mesh | None,
    ):
        episodes = _Episodes(task, make_policy, options, outcome)
        # Once: a task may hold the arrays of a physics model.
        self._episodes = episodes if mesh is None else replicate(episodes, mesh)
        self._mesh = mesh
        self._form: Any = None
        self._run: Any = None

    def __call__(self, population: Population, *, key: PRNGKeyArray) -> Episode:
        self.compile(population)
        return own_copy(self._run(*self._placed(population, key)))

    def compile(self, population: Population) -> None:
        form = jax.tree.map(lambda leaf: leaf.shape, population)
        if form == self._form:
            return
        run, mesh = _apply, self._mesh
        jitted: Any = eqx.filter_jit(run if mesh is None else on_all_devices(run, mesh))
        self._run = jitted.lower(*self._placed(population, jr.key(0))).compile()
        self._form = form

    def _placed(self, *arguments: Any) -> tuple[Any, ...]:
        placed = (self._episodes, *arguments)
        return placed if self._mesh is None else replicate(placed, self._mesh)


@final
class _Episodes(eqx.Module):
    task: AbstractTask
    make_policy: MakePolicy
    options: RolloutOptions = eqx.field(static=True)
    outcome: AbstractOutcome | None = eqx.field(static=True)

    def __call__(
        self, population: Population, key: PRNGKeyArray, axis: str | None = None
    ) -> Episode:
        return rollout(
            self.task,
            self.make_policy,
            population,
            options=self.options,
            outcome=self.outcome,
            axis=axis,
            key=key,
        )


@final
class _Iteration(eqx.Module):
    propose: Callable
    learn: Callable
    run: _Episodes

    def __call__(self, state: Any, axis: str | None = None) -> tuple[Any, Metrics]:
        proposal = self.propose(state)
        episodes = self.run(proposal.acting, proposal.key, axis)
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
        # Once, as in a rollout.
        self._everywhere = task if mesh is None else replicate(task, mesh)
        self._outcome = outcome
        self._make_policy = make_policy
        self._options = (steps, record)
        self._mesh = mesh
        self._start: Any = eqx.filter_jit(start)
        run = _apply
        self._run: Any = eqx.filter_jit(
            run if mesh is None else on_all_devices(run, mesh)
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
            self._everywhere, self._make_policy, population, rows, *self._options
        )
        if self._mesh is not None:
            steps, state = replicate((steps, state), self._mesh)
        after, unrolled = self._run(steps, state)
        # Environments stay on their devices.
        return own_copy(unrolled), after


def _apply(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
