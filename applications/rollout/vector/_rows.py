"""Environments of a task in rows, stepped together by actions from outside."""

from typing import Any, final, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from applications.envs import AbstractEnvironment, AbstractTask
from applications.envs.adapters import GymnasiumEnvironment, HostSimulations
from applications.envs.native import NativeTask, Physics
from applications.rollout._host_unroll import seeds_of
from applications.rollout.episode import all_finite
from applications.rollout.native._blocks import Block, single


class Stepped(NamedTuple):
    """What a control step led to, one row an environment.

    Attributes:
        observation: What there is to see afterwards.
        reward: What the step earned.
        terminated: Whether the task ended the episode there.
        truncated: Whether the environment cut it off, beside the time limit.
        finite: Whether action, reward and the state reached are finite.
    """

    observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    finite: np.ndarray


@runtime_checkable
class Rows(Protocol):
    """Environments in rows."""

    def start(
        self, chosen: Bool[np.ndarray, " rows"], keys: Key[Array, " rows"]
    ) -> np.ndarray:
        """Starts an episode in the chosen rows.

        Args:
            chosen: Which rows; all of them the first time.
            keys: Of each row, the key of its episode.

        Returns:
            Observations of all rows; those of rows that were not chosen mean nothing.
        """
        ...

    def step(self, actions: np.ndarray) -> Stepped:
        """Takes a control step in every row."""
        ...

    def close(self) -> None:
        """Ends what steps them."""
        ...


def make_rows(task: AbstractEnvironment, size: int) -> Rows:
    """Makes the environments that fit a task.

    Args:
        task: The task.
        size: How many.

    Returns:
        The environments, without an episode.

    Raises:
        ValueError: If nothing steps tasks of its kind.
    """
    kinds: dict[Any, Any] = {
        AbstractTask: JAXRows,
        NativeTask: NativeRows,
        GymnasiumEnvironment: HostRows,
    }
    for kind, rows in kinds.items():
        if isinstance(task, kind):
            return rows(task, size)
    raise ValueError(f"{type(task).__name__} cannot be stepped by actions.")


@final
class JAXRows:
    """Environments of a task in JAX: one compiled function steps them all."""

    def __init__(self, task: AbstractTask, size: int):
        """Prepares the functions; they compile at the first calls.

        Args:
            task: The task.
            size: How many environments.
        """
        del size
        self._state: Any = None

        def start(key: Any) -> tuple[Any, Array]:
            state = task.reset(key=key)
            return state, task.observe(state)

        def restart(state: Any, chosen: Array, key: Any) -> tuple[Any, Array]:
            fresh = task.reset(key=key)
            state = jax.tree.map(lambda a, b: jnp.where(chosen, a, b), fresh, state)
            return state, task.observe(state)

        def step(state: Any, action: Array) -> tuple[Any, tuple[Array, ...]]:
            after, reward, terminated = task.step(state, action)
            finite = all_finite((action, after, reward))
            return after, (task.observe(after), reward, terminated, finite)

        self._start: Any = jax.jit(jax.vmap(start))
        self._restart: Any = jax.jit(jax.vmap(restart))
        self._step: Any = jax.jit(jax.vmap(step))

    def start(
        self, chosen: Bool[np.ndarray, " rows"], keys: Key[Array, " rows"]
    ) -> np.ndarray:
        """As of `Rows`."""
        if self._state is None:
            self._state, observation = self._start(keys)
        else:
            self._state, observation = self._restart(self._state, chosen, keys)
        return np.asarray(observation)

    def step(self, actions: np.ndarray) -> Stepped:
        """As of `Rows`."""
        self._state, found = self._step(self._state, actions)
        observation, reward, terminated, finite = map(np.asarray, found)
        cut = np.zeros_like(terminated)
        return Stepped(observation, reward, terminated, cut, finite)

    def close(self) -> None:
        """As of `Rows`: there is nothing to end."""


@final
class NativeRows:
    """Environments on the C engine: one call steps them all, on one thread.

    A batch is too small for a second thread to gain anything.
    """

    def __init__(self, task: NativeTask, size: int):
        """Makes the simulations; functions compile at the first calls.

        Args:
            task: The task.
            size: How many environments.

        Raises:
            ValueError: If the model has state that a new episode would not reset.
        """
        if task.model.na:
            raise ValueError(
                f"The model has {task.model.na} actuator activations; only positions, "
                "velocities and controls start anew here."
            )
        definition = task.definition
        self._block = Block(task, size)
        self._ids = np.arange(size)
        self._before: Any = None

        def control(action: Array) -> tuple[Array, Array]:
            finite = all_finite(action)
            # MuJoCo would print what it thinks of other controls.
            return jnp.where(finite, definition.control(action), 0.0), finite

        def judge(
            before: Physics, after: Physics, action: Array, finite: Array
        ) -> tuple[Array, ...]:
            reward = definition.reward(before, after, action)
            finite = finite & all_finite((after, reward))
            ended = definition.terminated(after)
            return definition.observe(after), reward, ended, finite

        self._initial: Any = jax.jit(jax.vmap(lambda key: definition.initial(key=key)))
        self._observe: Any = jax.jit(jax.vmap(definition.observe))
        self._control: Any = jax.jit(jax.vmap(control))
        self._judge: Any = jax.jit(jax.vmap(judge))

    def start(
        self, chosen: Bool[np.ndarray, " rows"], keys: Key[Array, " rows"]
    ) -> np.ndarray:
        """As of `Rows`."""
        qpos, qvel = map(np.asarray, self._initial(keys))
        self._block.start(np.flatnonzero(chosen), qpos[chosen], qvel[chosen])
        self._before = self._read()
        return np.asarray(self._observe(self._before))

    def step(self, actions: np.ndarray) -> Stepped:
        """As of `Rows`."""
        ctrl, finite = self._control(actions)
        self._block.step(self._ids, np.asarray(ctrl))
        after = self._read()
        found = self._judge(self._before, after, actions, finite)
        self._before = after
        observation, reward, terminated, finite = map(np.asarray, found)
        cut = np.zeros_like(terminated)
        return Stepped(observation, reward, terminated, cut, finite)

    def close(self) -> None:
        """As of `Rows`: there is nothing to end."""

    def _read(self) -> Physics:
        read: Any = self._block.read(slice(None))
        qpos, qvel, derived = read
        ctrl: Any = single(self._block.state["ctrl"])
        cold: Any = np.zeros_like(qvel)
        return Physics(qpos, qvel, ctrl, cold, derived)


@final
class HostRows:
    """Environments of Gymnasium, in worker processes."""

    def __init__(self, task: GymnasiumEnvironment, size: int):
        """Starts the workers.

        Args:
            task: The environment.
            size: How many.
        """
        self._task = task
        self._simulations = HostSimulations(task, size)
        self._ids = np.arange(size)
        self._seeds: Any = jax.jit(lambda keys: seeds_of(task, keys))

    def start(
        self, chosen: Bool[np.ndarray, " rows"], keys: Key[Array, " rows"]
    ) -> np.ndarray:
        """As of `Rows`."""
        rows, seeds = np.flatnonzero(chosen), np.asarray(self._seeds(keys))
        observation = np.zeros((len(chosen), self._task.observation_size), np.float32)
        observation[rows] = self._simulations.reset(rows, seeds[rows])
        return observation

    def step(self, actions: np.ndarray) -> Stepped:
        """As of `Rows`."""
        found = self._simulations.step(self._ids, actions)
        observation, reward, _, _ = found
        finite = np.isfinite(observation).all(axis=1) & np.isfinite(reward)
        return Stepped(*found, finite)

    def close(self) -> None:
        """As of `Rows`."""
        self._simulations.close()
