"""Our tasks as the vector environments of Stable-Baselines3."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from stable_baselines3.common.vec_env import (  # pyright: ignore[reportMissingImports]
    VecEnv,
)

from applications.envs import AbstractEnvironment
from applications.rollout.vector import to_vector


@final
class SB3Environments(VecEnv):
    """Environments of a task, all stepped in one call.

    Where an episode ends, its last observation is in the environment's `info` as
    `terminal_observation`. `TimeLimit.truncated` says there whether it was cut off, so
    that the value of that observation is bootstrapped, or ended by the task.
    """

    def __init__(self, task: AbstractEnvironment, num_envs: int):
        """Makes the environments.

        Args:
            task: The task.
            num_envs: How many.

        Raises:
            ValueError: If nothing steps tasks of this kind.
        """
        self._environments = to_vector(task, num_envs)
        self._actions: Any = None
        super().__init__(
            num_envs,
            self._environments.single_observation_space,
            self._environments.single_action_space,
        )

    def reset(self) -> np.ndarray:
        """Starts an episode everywhere, by the seed that `seed` has set."""
        observations, _ = self._environments.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Takes the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Any]]:
        """Takes the step."""
        observations, rewards, terminated, truncated, found = self._environments.step(
            self._actions
        )
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            infos[i] = {
                "terminal_observation": found["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
            }
        return observations, rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        """Ends the environments."""
        self._environments.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """What all environments have alike, once for each."""
        return [getattr(self._environments, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuses: environments are not objects of their own."""
        raise AttributeError(f"{attr_name} cannot be set: environments are rows.")

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Refuses: environments are not objects of their own."""
        raise AttributeError(f"{method_name} cannot be called: environments are rows.")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Tells that there are no wrappers."""
        return [False] * len(self._chosen(indices))

    def _chosen(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))
