"""Tasks that JAX can step: one program for everything, on all devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Int, PRNGKeyArray

from applications.envs import AbstractTask
from applications.rollout._devices import mesh_of, on_all_devices, replicate
from applications.rollout._jax_rollout import rollout
from applications.rollout._jax_unroll import start, unroll, UnrollState
from applications.rollout.engine import (
    AbstractEngine,
    AbstractUnroll,
    at_least_1,
    MakePolicy,
    Metrics,
    Population,
    State,
)
from applications.rollout.episode import Episode
from applications.rollout.transitions import Unrolled


@final
class JAXEngine(AbstractEngine):
    """Steps a task inside `jax.jit`, and shares populations out over devices."""

    def __init__(self, task: AbstractTask, *, devices: Sequence[Any] | None = None):
        """Makes the engine.

        Args:
            task: The task.
            devices: The devices of iterations and unrolls. Unless given, all devices of
                all processes; but in a single process, where `jax_default_device` is
                set, that one alone.
        """
        self._task = task
        self._mesh = mesh_of(devices)

    def compile_rollout(
        self, make_policy: MakePolicy, *, episodes: int, chunk: int | None = None
    ) -> Callable[..., Episode]:
        """As of `AbstractEngine`; runs on one device."""
        at_least_1(episodes=episodes, chunk=chunk)
        run = eqx.filter_jit(rollout)
        return functools.partial(
            run, self._task, make_policy, episodes=episodes, chunk=chunk
        )

    def compile_iteration(
        self,
        propose: Callable[[State], Any],
        learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
        make_policy: MakePolicy,
        state: State,
        *,
        episodes: int,
        chunk: int | None = None,
    ) -> Callable[[State], tuple[State, Metrics]]:
        """As of `AbstractEngine`; one program from a state to the next."""
        at_least_1(episodes=episodes, chunk=chunk)
        step: Any = _Iteration(self._task, propose, learn, make_policy, episodes, chunk)
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

    def compile_unroll(
        self, make_policy: MakePolicy, *, steps: int, record: bool = True
    ) -> AbstractUnroll:
        """As of `AbstractEngine`; the environments are shared out over the devices."""
        at_least_1(steps=steps)
        return _Unroll(self._task, make_policy, steps, record, self._mesh)


@final
class _Iteration(eqx.Module):
    task: AbstractTask
    propose: Callable
    learn: Callable
    make_policy: MakePolicy
    episodes: int = eqx.field(static=True)
    chunk: int | None = eqx.field(static=True)

    def __call__(self, state: Any, axis: str | None = None) -> tuple[Any, Metrics]:
        proposal = self.propose(state)
        episodes = rollout(
            self.task,
            self.make_policy,
            proposal.acting,
            episodes=self.episodes,
            chunk=self.chunk,
            axis=axis,
            key=proposal.key,
        )
        return self.learn(state, proposal, episodes)


@final
class _Unroll(AbstractUnroll):
    def __init__(
        self,
        task: AbstractTask,
        make_policy: MakePolicy,
        steps: int,
        record: bool,
        mesh: Any,
    ):
        self._task = task
        self._make_policy = make_policy
        self._mesh = mesh
        step = functools.partial(unroll, steps=steps, record=record)
        self._run: Any = eqx.filter_jit(
            lambda task, make_policy, rest: (
                step(task, make_policy, *rest)
                if mesh is None
                else _shared(step, task, make_policy, rest, mesh)
            )
        )
        self._start: Any = eqx.filter_jit(start)

    def init(self, environments: int, *, key: PRNGKeyArray) -> UnrollState:
        at_least_1(environments=environments)
        return self._start(self._task, environments, key=key)

    def __call__(
        self,
        population: Population,
        rows: Int[Array, " environments"],
        state: UnrollState,
    ) -> tuple[Unrolled, UnrollState]:
        rest = (population, rows, state)
        if self._mesh is None:
            return self._run(self._task, self._make_policy, rest)
        task, make_policy, rest = replicate(
            (self._task, self._make_policy, rest), self._mesh
        )
        return self._run(task, make_policy, rest)


def _shared(step: Any, task: Any, make_policy: Any, rest: Any, mesh: Any) -> Any:
    def on_one(parts: Any, axis: str) -> tuple[Any, Any]:
        task, make_policy, rest = parts
        unrolled, state = step(task, make_policy, *rest, axis=axis)
        return state, unrolled

    state, unrolled = on_all_devices(on_one, (task, make_policy, rest), mesh)
    return unrolled, state


def _apply(step: Callable[[Any], Any], state: Any) -> Any:
    return step(state)
