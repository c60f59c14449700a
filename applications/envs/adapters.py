"""Our tasks as other libraries want them, and theirs as ours."""

import contextlib
import io
import warnings
from typing import Any, final

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._task import (
    AbstractEnvironment,
    AbstractTask,
    Continuous,
    Discrete,
    State,
)
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
        if not isinstance(task, AbstractTask | NativeTask):
            raise ValueError(f"{type(task).__name__} cannot be stepped.")
        self._task = task
        box = gymnasium.spaces.Box
        self.observation_space = box(
            -np.inf, np.inf, (task.observation_size,), np.float32
        )
        space = task.action_space
        if isinstance(space, Discrete):
            self.action_space = gymnasium.spaces.Discrete(space.count)
        else:
            low, high = (np.array(x, np.float32) for x in (space.low, space.high))
            self.action_space = box(low, high, dtype=np.float32)
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
        """
        super().reset(seed=seed)
        key = jr.key(int(self.np_random.integers(2**32)))
        self._state, self._length = self._reset(key=key), 0
        return np.asarray(self._observe(self._state)), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advances one control step.

        Args:
            action: One of the action space.

        Returns:
            Observation, reward, whether the task ended, whether time is up, and
            nothing else to know.
        """
        discrete = isinstance(self._task.action_space, Discrete)
        given = jnp.asarray(action, jnp.int32 if discrete else jnp.float32)
        self._state, reward, terminated = self._step(self._state, given)
        self._length += 1
        observation = np.asarray(self._observe(self._state))
        truncated = self._length >= self._task.horizon
        return observation, float(reward), bool(terminated), truncated, {}


def to_gymnasium(task: AbstractEnvironment) -> GymnasiumTask:
    """A task as a Gymnasium environment.

    Args:
        task: The task, on either engine.

    Returns:
        The environment.
    """
    return GymnasiumTask(task)


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


@final
class PlaygroundTask(AbstractTask):
    """A task of MuJoCo Playground, on its implementation in JAX.

    Attributes:
        env: Playground's environment.
        observation_size: Length of an observation; of several the one named `state`.
        action_space: Within 1, as all of Playground's.
        horizon: The time limit, in control steps.
    """

    env: Any = eqx.field(static=True)
    observation_size: int = eqx.field(static=True)
    action_space: Continuous = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Draws a start state."""
        with _playground_rules():
            return self.env.reset(jr.key_data(key))

    def observe(self, state: State) -> Float[Array, " observation"]:
        """What the policy sees of a state."""
        return state.obs["state"] if isinstance(state.obs, dict) else state.obs

    def step(
        self, state: State, action: Float[Array, " action"]
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Advances one control step.

        Args:
            state: The state before.
            action: Within 1.

        Returns:
            The next state, the reward of this step, and whether the task ended here.
        """
        with _playground_rules():
            after = self.env.step(state, action)
        return after, after.reward, after.done > 0


def from_playground(name: str, *, horizon: int | None = None) -> PlaygroundTask:
    """A task of MuJoCo Playground as one of ours.

    Args:
        name: Its name in Playground's registry, such as `"CartpoleBalance"`.
        horizon: The time limit, in control steps; Playground's own unless given.

    Returns:
        The task.

    Raises:
        ImportError: If Playground is not installed.
    """
    from mujoco_playground import (  # pyright: ignore[reportMissingImports]
        registry,
    )

    with _playground_rules():
        env = registry.load(name, config_overrides={"impl": "jax"})
        size = env.observation_size
    length = size["state"] if isinstance(size, dict) else size
    (length,) = length if isinstance(length, tuple) else (length,)
    limit = int(registry.get_default_config(name).episode_length)
    box = Continuous(env.action_size * (-1.0,), env.action_size * (1.0,))
    return PlaygroundTask(
        env=env,
        observation_size=int(length),
        action_space=box,
        horizon=horizon or limit,
    )


@contextlib.contextmanager
def quiet_import():
    """Brax imports a library that warns of its own age, and MJX misses Warp aloud."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def _playground_rules():
    """Playground mixes dtypes and ranks, as MJX does."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def _typed(key: Array) -> PRNGKeyArray:
    """Brax's keys are plain integers."""
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jr.wrap_key_data(key)


def _as_it_is(function: Any) -> Any:
    return function
