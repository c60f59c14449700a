"""Tasks for the algorithms in `brax.training`."""

import contextlib
import io
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from applications.envs._outcome_task import refuse_outcome
from applications.envs._spaces import Discrete
from applications.envs._task import AbstractEnvironment, AbstractTask


def to_brax(task: AbstractEnvironment) -> Any:
    """A task as an environment of Brax, for the algorithms in `brax.training`.

    Their actions lie within 1; here they stand for the box of the task. Of discrete
    actions the one of the largest component is taken. The time limit is not in it:
    Brax's own wrapper has one, `episode_length`, which is to be the task's `horizon`.

    Args:
        task: The task, which must be in JAX.

    Returns:
        A `brax.envs.base.Env`.

    Raises:
        ImportError: If Brax is not installed.
        ValueError: If the task is not in JAX.
    """
    with quiet_import():
        from brax.envs.base import (  # pyright: ignore[reportMissingImports]
            Env,
            State as BraxState,
        )

    refuse_outcome(task)
    if not isinstance(task, AbstractTask):
        raise ValueError(
            f"{type(task).__name__} is not in JAX; make the task with physics='mjx'."
        )
    space = task.action_space

    def to_action(raw: Array) -> Array:
        if isinstance(space, Discrete):
            return space.select(raw)
        low, high = (jnp.asarray(x, raw.dtype) for x in (space.low, space.high))
        return (low + high) / 2 + (high - low) / 2 * raw

    class BraxTask(Env):
        def reset(self, rng: Array) -> Any:
            state = task.reset(key=_typed(rng))
            zero = jnp.zeros(())
            return BraxState(state, task.observe(state), zero, zero)

        def step(self, state: Any, action: Array) -> Any:
            after, reward, terminated = task.step(
                state.pipeline_state, to_action(action)
            )
            return state.replace(
                pipeline_state=after,
                obs=task.observe(after),
                reward=reward,
                done=terminated.astype(reward.dtype),
            )

        @property
        def observation_size(self) -> int:
            return task.observation_size

        @property
        def action_size(self) -> int:
            return space.output_size

        @property
        def backend(self) -> str:
            return "wsl"

    return BraxTask()


@contextlib.contextmanager
def quiet_import():
    """Brax imports a library that warns of its own age, and MJX misses Warp aloud."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _typed(key: Array) -> PRNGKeyArray:
    """Brax's keys are plain integers."""
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jr.wrap_key_data(key)
