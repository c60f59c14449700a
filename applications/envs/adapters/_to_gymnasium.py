"""Tasks as Gymnasium environments, one episode at a time."""

import os
import sys
from typing import Any

import equinox as eqx
import gymnasium
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.envs._outcome_task import refuse_outcome
from applications.envs._spaces import Discrete
from applications.envs._task import AbstractEnvironment, AbstractTask
from applications.envs.native import NativeTask


class GymnasiumTask(gymnasium.Env[Any, Any]):
    """A task as a Gymnasium environment, one episode at a time.

    The time limit is in it: an episode that reaches it is truncated, not terminated.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, task: AbstractEnvironment):
        """Wraps a task.

        Args:
            task: The task, on either engine.

        Raises:
            ValueError: If it is of neither kind.
        """
        refuse_outcome(task)
        if not isinstance(task, AbstractTask | NativeTask):
            raise ValueError(f"{type(task).__name__} cannot be stepped.")
        self._task = task
        self.observation_space, self.action_space = gymnasium_spaces(task)
        compiled = eqx.filter_jit if isinstance(task, AbstractTask) else _as_it_is
        self._reset = compiled(task.reset)
        self._observe = compiled(task.observe)
        self._step = compiled(task.step)
        self._state: Any = None
        self._length = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seeds the start states from here on.
            options: Not used.

        Returns:
            The first observation, and nothing else to know.

        Raises:
            RuntimeError: In a process forked from one in which JAX was running.
        """
        _must_not_be_forked()
        super().reset(seed=seed)
        key = jr.key(int(self.np_random.integers(2**32)))
        self._state, self._length = self._reset(key=key), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advances one control step.

        Args:
            action: One of the action space. Vectors outside the box are the task's
                business, which clips them.

        Returns:
            Observation, reward, whether the task ended, whether time is up, and
            nothing else to know.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
            gymnasium.error.InvalidAction: If the action is of another shape, or not
                one of those that can be chosen from.
            RuntimeError: In a process forked from one in which JAX was running.
        """
        _must_not_be_forked()
        if self._state is None:
            raise gymnasium.error.ResetNeeded("Call reset before the first step.")
        self._state, reward, terminated = self._step(self._state, self._given(action))
        self._length += 1
        truncated = self._length >= self._task.horizon
        return self._seen(), float(reward), bool(terminated), truncated, {}

    def _seen(self) -> np.ndarray:
        # A copy, which can be written to.
        return np.array(self._observe(self._state), np.float32)

    def _given(self, action: Any) -> Any:
        """The action, checked, as the task takes it."""
        space = self._task.action_space
        given = np.asarray(action)
        if isinstance(space, Discrete):
            whole = given.shape == () and np.issubdtype(given.dtype, np.integer)
            if not whole or not 0 <= given < space.count:
                raise gymnasium.error.InvalidAction(
                    f"{action!r} is not an action; there are the integers from 0 to "
                    f"{space.count - 1}."
                )
            return jnp.asarray(given, jnp.int32)
        if given.shape != (space.output_size,):
            raise gymnasium.error.InvalidAction(
                f"An action has the shape ({space.output_size},); got {given.shape}."
            )
        return jnp.asarray(given, jnp.float32)


def to_gymnasium(task: AbstractEnvironment) -> GymnasiumTask:
    """A task as a Gymnasium environment.

    Args:
        task: The task, on either engine.

    Returns:
        The environment.

    Raises:
        ValueError: If the task cannot be stepped one episode at a time.
    """
    return GymnasiumTask(task)


def gymnasium_spaces(
    task: AbstractEnvironment,
) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Space[Any]]:
    """What a task shows and takes, as Gymnasium's spaces.

    Args:
        task: The task.

    Returns:
        The spaces of observations and of actions, in single precision.
    """
    box = gymnasium.spaces.Box
    seen = box(-np.inf, np.inf, (task.observation_size,), np.float32)
    space = task.action_space
    if isinstance(space, Discrete):
        return seen, gymnasium.spaces.Discrete(space.count)
    low, high = (np.array(x, np.float32) for x in (space.low, space.high))
    return seen, box(low, high, dtype=np.float32)


def _as_it_is(function: Any) -> Any:
    return function


_forked = False


def _note_fork() -> None:
    global _forked
    # Not public, but nothing public tells without starting JAX.
    bridge = sys.modules.get("jax._src.xla_bridge")
    was_running = getattr(bridge, "backends_are_initialized", lambda: True)
    _forked = _forked or was_running()


os.register_at_fork(after_in_child=_note_fork)


def _must_not_be_forked() -> None:
    """JAX's threads do not survive a fork; whoever waits for them waits for ever."""
    if _forked:
        raise RuntimeError(
            "This process was forked from one in which JAX was running, so JAX would "
            "hang here. Use gymnasium.vector.SyncVectorEnv, or "
            'AsyncVectorEnv(..., context="spawn").'
        )
