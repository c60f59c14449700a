"""One iteration of an algorithm, on whatever steps its task."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, AbstractTask
from applications.rollout._devices import (
    gather_parts,
    mesh_of_all,
    on_all_devices,
    replicate,
)
from applications.rollout._rollout import Episode


State = TypeVar("State")
Metrics = dict[str, Any]


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


@runtime_checkable
class Iterated(Protocol):
    """An algorithm that tries policies and learns from how they did; a pytree."""

    @property
    def task(self) -> AbstractEnvironment:
        """What the policies act in."""
        ...

    def step(self, state: Any, axis: str | None = None) -> tuple[Any, Metrics]:
        """One iteration in JAX; `axis` as `rollout` has it."""
        ...

    def propose(self, state: Any) -> Any:
        """The `Trial` of an iteration."""
        ...

    def learn(self, state: Any, trial: Any, episodes: Episode) -> tuple[Any, Metrics]:
        """What comes after its episodes."""
        ...


def compile_iteration(
    algorithm: Iterated,
    make_policy: Callable[[Float[Array, " weights"]], Callable],
    state: State,
    *,
    episodes: int,
    chunk: int | None,
) -> Callable[[State], tuple[State, Metrics]]:
    """Compiles an iteration for all devices of all processes.

    On a task in JAX that is the whole of it. On a task of the C engine it is all but
    the physics: every process runs its part of the population on its cores, and learns
    on its first device.

    Args:
        algorithm: The algorithm.
        make_policy: From weights to a policy.
        state: A state, for its form.
        episodes: Episodes of each policy.
        chunk: Policies simulated at once; all of them, or as many as `NativeRollout`
            takes by itself, unless given.

    Returns:
        One iteration. The state that it is given is used up.
    """
    if isinstance(algorithm.task, AbstractTask):
        return _compile_in_jax(algorithm, state)
    return _compile_native(algorithm, make_policy, state, episodes, chunk)


def _compile_in_jax(
    algorithm: Iterated, state: State
) -> Callable[[State], tuple[State, Metrics]]:
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


def _compile_native(
    algorithm: Iterated,
    make_policy: Callable[[Float[Array, " weights"]], Callable],
    state: State,
    episodes: int,
    chunk: int | None,
) -> Callable[[State], tuple[State, Metrics]]:
    # Here, for mujoco takes long to import.
    from applications.envs.native import NativeTask
    from applications.rollout.native import NativeRollout

    assert isinstance(algorithm.task, NativeTask)
    part = (jax.process_index(), jax.process_count())
    block = {} if chunk is None else {"block": chunk * episodes}
    run = NativeRollout(
        algorithm.task, make_policy, episodes=episodes, part=part, **block
    )
    proposed: Any = eqx.filter_jit(lambda state: algorithm.propose(state))
    learned: Any = eqx.filter_jit(
        lambda tried, state: algorithm.learn(state, *tried), donate="all-except-first"
    )
    propose = proposed.lower(state).compile()
    trial: Trial = propose(state)
    run.compile(trial.acting)
    learn = learned.lower((trial, run.shape(trial.acting)), state).compile()

    def step(state: State) -> tuple[State, Metrics]:
        trial: Trial = propose(state)
        tried = run(trial.acting, key=trial.key)
        if part[1] > 1:
            tried = gather_parts(tried, len(trial.acting))
        return learn((trial, tried), state)

    return step


def _apply(step: Callable[[State], Any], state: State) -> Any:
    return step(state)
