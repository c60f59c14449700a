"""Gymnasium's environments as tasks, stepped outside JAX."""

import math
from typing import Any, final

import equinox as eqx
import gymnasium
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, UInt32

from applications.envs._spaces import ActionSpace, Continuous, Discrete
from applications.envs._task import AbstractEnvironment


# The checks of every step are for those who write environments.
_UNCHECKED = {"disable_env_checker": True}


@final
class GymnasiumEnvironment(AbstractEnvironment):
    """Any environment of Gymnasium that shows a box of numbers.

    It says what policies for it look like; `HostSimulations` steps many of it, in
    processes of their own on the CPU. Observations are flattened; actions are one of
    finitely many, or vectors in a box, which are flattened too.

    Attributes:
        id: Its ID in Gymnasium's registry, as `gymnasium.make` takes it:
            `module:Name-v0` imports the module that registers it first.
        options: What `gymnasium.make` takes besides, as pairs of name and value.
        observation_size: How many numbers an observation has.
        action_space: What actions are.
        horizon: The time limit, in steps.
    """

    id: str = eqx.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    observation_size: int = eqx.field(static=True)
    action_space: ActionSpace = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    def __init__(self, id: str, *, horizon: int | None = None, **options: Any):
        """Looks an environment up, by making one.

        Args:
            id: As of `gymnasium.make`.
            horizon: The time limit, in steps; Gymnasium's own unless given.
            **options: What `gymnasium.make` takes besides.

        Raises:
            ValueError: If there is no such environment, it cannot be made here, or
                its spaces or time limit are not of the kinds above.
        """
        self.id = id
        self.options = tuple(sorted(options.items()))
        try:
            env = gymnasium.make(id, **(_UNCHECKED | options))
        except (gymnasium.error.Error, ModuleNotFoundError) as error:
            raise ValueError(f"gymnasium:{id} cannot be made: {error}") from error
        except TypeError as error:
            raise ValueError(f"gymnasium:{id} takes other options: {error}") from error
        with env:
            limit = env.spec.max_episode_steps if env.spec is not None else None
            if horizon is None and limit is None:
                raise ValueError(
                    f"gymnasium:{id} has no time limit; say one, as --horizon or "
                    "horizon=..., in steps."
                )
            self.horizon = int(horizon or limit or 0)
            self.observation_size = _observation_size(id, env.observation_space)
            self.action_space = _action_space(id, env.action_space)

    @property
    def make_options(self) -> dict[str, Any]:
        """All that `gymnasium.make` takes beside the ID."""
        return _UNCHECKED | dict(self.options) | {"max_episode_steps": self.horizon}

    def seed(self, *, key: PRNGKeyArray) -> UInt32[Array, ""]:
        """What an episode is seeded by, drawn from its key."""
        return jr.bits(key, dtype=jnp.uint32)


def _observation_size(id: str, space: Any) -> int:
    if not isinstance(space, gymnasium.spaces.Box):
        raise ValueError(
            f"Observations of gymnasium:{id} are {space}; they must be a Box."
        )
    return math.prod(space.shape)


def _action_space(id: str, space: Any) -> ActionSpace:
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n))
    if not isinstance(space, gymnasium.spaces.Box) or not np.issubdtype(
        space.dtype, np.floating
    ):
        raise ValueError(
            f"Actions of gymnasium:{id} are {space}; they must be Discrete or a Box "
            "of floating-point numbers."
        )
    low, high = (x.ravel().tolist() for x in (space.low, space.high))
    if not np.all(np.isfinite([low, high])):
        raise ValueError(
            f"Actions of gymnasium:{id} have no bounds ({space}), which policies need. "
            "Wrap it in gymnasium.wrappers.RescaleAction or ClipAction, register that "
            "and use its ID."
        )
    return Continuous(tuple(low), tuple(high))
