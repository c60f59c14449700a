"""Tasks of MuJoCo Playground."""

import contextlib
from typing import Any, final

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs._spaces import Continuous
from applications.envs._task import AbstractTask, State


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
    try:
        from mujoco_playground import (  # pyright: ignore[reportMissingImports]
            registry,
        )
    except ModuleNotFoundError as error:
        if error.name != "mujoco_playground":
            raise
        raise ImportError(
            f"{name} is a task of MuJoCo Playground, which is not installed: "
            "pip install playground."
        ) from error

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
def _playground_rules():
    """Playground mixes dtypes and ranks, as MJX does."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
