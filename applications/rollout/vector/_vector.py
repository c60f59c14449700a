from typing import Any, final

import gymnasium
import jax
import jax.random as jr
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from applications.envs import (
    AbstractEnvironment,
    AbstractOutcome,
    Discrete,
    split_outcome,
)
from applications.envs.adapters import gymnasium_spaces
from applications.rollout.episode import where
from applications.rollout.options import at_least_1
from applications.rollout.transitions import episode_key
from applications.rollout.vector._rows import make_rows, Rows


@final
class VectorTask(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Environments of a task as one vector environment of Gymnasium.

    All are stepped in one call. Where an episode ends, the next one starts in the same
    step (`AutoresetMode.SAME_STEP`): the observation is the new episode's first one,
    and `infos["final_obs"]` has the last one of the episode that ended. An episode that
    reaches the time limit is truncated; where the task ends in that very step it is
    terminated too.

    A step in which a number is not finite earns nothing, shows what was seen before it
    and truncates the episode, so that nothing is made of it but a value expected.

    Where a task has another outcome than the sum of its rewards, that is the reward of
    an episode's last step, and the others have 0.

    Start states are folded from the seed, the number of the environment and that of its
    episode, as in unrolls.
    """

    def __init__(self, task: AbstractEnvironment, num_envs: int):
        """Makes the environments.

        Args:
            task: The task: in JAX, on the C engine, or one of Gymnasium's.
            num_envs: How many.

        Raises:
            ValueError: If there is none, or nothing steps tasks of this kind.
        """
        at_least_1(num_envs=num_envs)
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = gymnasium_spaces(task)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._task = task
        bare, outcome = split_outcome(task)
        self._rows: Rows = make_rows(bare, num_envs)
        self._worth = None if outcome is None else _Worth(outcome)
        self._keys: Any = jax.jit(jax.vmap(episode_key, in_axes=(None, 0, 0)))
        self._key: Any = None
        self._seen: Any = None
        self._episode = np.zeros(num_envs, np.int32)
        self._length = np.zeros(num_envs, np.int32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode in every environment.

        Args:
            seed: Seeds all episodes from here on.
            options: Not used.

        Returns:
            The first observations `(environments, observation)`, and nothing else to
            know.
        """
        super().reset(seed=seed)
        self._key = jr.key(int(self.np_random.integers(2**32)))
        self._episode[:] = 0
        self._length[:] = 0
        self._seen = self._start(np.ones(self.num_envs, bool))
        return self._seen.copy(), {}

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one control step in every environment.

        Args:
            actions: One of the action space for each, `(environments, action)` or
                `(environments,)`. Vectors outside the box are the task's business,
                which clips them.

        Returns:
            Observations, rewards, whether the task ended, whether the episode was cut
            off, and where any did, `final_obs` with the mask `_final_obs`.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
            gymnasium.error.InvalidAction: If the actions are of another shape, or not
                among those that can be chosen from.
        """
        if self._seen is None:
            raise gymnasium.error.ResetNeeded("Call reset before the first step.")
        stepped = self._rows.step(self._given(actions))
        finite = stepped.finite
        observations = np.where(finite[:, None], stepped.observation, self._seen)
        rewards = np.where(finite, stepped.reward, 0.0).astype(np.float64)
        self._length += 1
        terminated = stepped.terminated & finite
        truncated = stepped.truncated | ~finite | (self._length >= self._task.horizon)
        ended = terminated | truncated
        if self._worth is not None:
            worth = self._worth.step(observations, stepped.reward, finite)
            rewards = np.where(ended, worth, 0.0).astype(np.float64)
        infos: dict[str, Any] = {}
        if ended.any():
            last = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                last[i] = observations[i].copy()
            infos = {"final_obs": last, "_final_obs": ended}
            self._episode += ended
            self._length[ended] = 0
            observations = np.where(ended[:, None], self._start(ended), observations)
        self._seen = observations
        return observations.copy(), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Ends what steps the environments; `close` calls it."""
        self._rows.close()

    def _start(self, chosen: np.ndarray) -> np.ndarray:
        numbers = np.arange(self.num_envs, dtype=np.int32)
        keys = self._keys(self._key, numbers, self._episode)
        observations = self._rows.start(chosen, keys)
        if self._worth is not None:
            self._worth.start(observations, chosen)
        return observations

    def _given(self, actions: Any) -> np.ndarray:
        """The actions, checked, as the task takes them."""
        given = np.asarray(actions)
        if given.shape != self.action_space.shape:
            raise gymnasium.error.InvalidAction(
                f"Actions have the shape {self.action_space.shape}; got {given.shape}."
            )
        space = self._task.action_space
        if not isinstance(space, Discrete):
            return given.astype(np.float32)
        whole = np.issubdtype(given.dtype, np.integer)
        if not whole or np.any((given < 0) | (given >= space.count)):
            raise gymnasium.error.InvalidAction(
                f"Actions are integers from 0 to {space.count - 1}; got {given}."
            )
        return given.astype(np.int32)


@final
class _Worth:
    """What the episodes under way are worth so far, one row an environment."""

    def __init__(self, outcome: AbstractOutcome):
        self._accumulated: Any = None
        self._value: Any = jax.jit(jax.vmap(outcome.value))
        self._begin: Any = jax.jit(jax.vmap(outcome.start))
        choose = jax.vmap(where)

        def step(accumulated: Any, seen: Any, reward: Any, finite: Any) -> Any:
            after = jax.vmap(outcome.step)(accumulated, seen, reward)
            return choose(finite, after, accumulated)

        self._choose: Any = jax.jit(choose)
        self._step: Any = jax.jit(step)

    def start(self, observations: np.ndarray, chosen: np.ndarray) -> None:
        """Starts the episodes in the chosen rows; all of them the first time."""
        fresh = self._begin(observations)
        if self._accumulated is not None:
            fresh = self._choose(chosen, fresh, self._accumulated)
        self._accumulated = fresh

    def step(
        self, observations: np.ndarray, rewards: np.ndarray, finite: np.ndarray
    ) -> np.ndarray:
        """Takes in a step, but where it was not finite; outcomes if all ended here."""
        self._accumulated = self._step(self._accumulated, observations, rewards, finite)
        return np.asarray(self._value(self._accumulated))


def to_vector(task: AbstractEnvironment, num_envs: int) -> VectorTask:
    """Environments of a task as one vector environment of Gymnasium.

    Args:
        task: The task: in JAX, on the C engine, or one of Gymnasium's.
        num_envs: How many.

    Returns:
        The environment.

    Raises:
        ValueError: If there is none, or nothing steps tasks of this kind.
    """
    return VectorTask(task, num_envs)
