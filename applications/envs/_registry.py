"""Tasks by name. A task's module is imported only when that task is asked for."""

from collections.abc import Callable
from typing import Any

from applications.envs._task import AbstractTask


def _ant(**options: Any) -> AbstractTask:
    from applications.envs._mujoco import MJXTask
    from applications.envs.ant import Ant

    return MJXTask(Ant(**options))


def _cartpole(**options: Any) -> AbstractTask:
    from applications.envs.cartpole import CartPole

    return CartPole(**options)


def _inverted_pendulum(**options: Any) -> AbstractTask:
    from applications.envs._mujoco import MJXTask
    from applications.envs.inverted_pendulum import InvertedPendulum

    return MJXTask(InvertedPendulum(**options))


# The imports stay inside the factories: mujoco and mjx take longer to import than a
# whole cartpole run takes to start.
_FACTORIES: dict[str, Callable[..., AbstractTask]] = {
    "ant": _ant,
    "cartpole": _cartpole,
    "inverted_pendulum": _inverted_pendulum,
}


def names() -> tuple[str, ...]:
    """The names `make` knows, in alphabetical order."""
    return tuple(sorted(_FACTORIES))


def make(name: str, **options: Any) -> AbstractTask:
    """Builds a task.

    Args:
        name: One of `names()`.
        **options: Options of that task. Every task takes `horizon`, the time limit
            in control steps; None or nothing means the task's own.

    Returns:
        The task.

    Raises:
        ValueError: If there is no task of that name, or the horizon is below 1.
    """
    if name not in _FACTORIES:
        raise ValueError(f"Unknown task {name!r}. Known tasks: {', '.join(names())}.")
    horizon = options.pop("horizon", None)
    if horizon is not None:
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; it must be at least 1 step.")
        options["horizon"] = horizon
    return _FACTORIES[name](**options)
