"""Tasks by name. A task's module is imported only when that task is asked for."""

import importlib
import inspect
from typing import Any, Literal, TypeAlias

import jax


PhysicsEngine: TypeAlias = Literal["auto", "mjx", "mujoco"]

# Module and name of what makes each task. Not imported here: mujoco and mjx take longer
# to import than a whole cartpole run takes to start.
_CLOSED_FORM = {
    "cartpole": ("cartpole", "CartPole"),
    "lqr": ("lqr", "LQR"),
    "mountain_car_continuous": ("mountain_car_continuous", "MountainCarContinuous"),
}
_MUJOCO = {
    "ant": ("ant", "Ant"),
    "ant_servo": ("ant", "AntServo"),
    "ant_v5": ("ant_v5", "AntV5"),
    "half_cheetah": ("runners", "half_cheetah"),
    "hopper": ("runners", "hopper"),
    "inverted_double_pendulum": ("inverted_double_pendulum", "InvertedDoublePendulum"),
    "inverted_pendulum": ("inverted_pendulum", "InvertedPendulum"),
    "reacher": ("reacher", "Reacher"),
    "swimmer": ("runners", "swimmer"),
    "walker2d": ("runners", "walker2d"),
}


def names() -> tuple[str, ...]:
    """The names `make` knows, in alphabetical order."""
    return tuple(sorted(_CLOSED_FORM | _MUJOCO))


def make(name: str, *, physics: PhysicsEngine = "auto", **options: Any) -> Any:
    """Builds a task.

    Args:
        name: One of `names()`.
        physics: What steps MuJoCo models: `"mjx"`, inside `jax.jit`; `"mujoco"`, the
            engine in C; `"auto"`, that one where JAX has no accelerator. Tasks in
            closed form have no use for it.
        **options: Options of that task. Every task takes `horizon`, the time limit
            in control steps; None or nothing means the task's own.

    Returns:
        The task: an `AbstractTask`, or a `NativeTask` for the engine in C. They have
        the same methods.

    Raises:
        ValueError: If there is no task of that name, it has no such option, the engine
            cannot step it, or the horizon is below 1.
    """
    if name not in names():
        raise ValueError(f"Unknown task {name!r}. Known tasks: {', '.join(names())}.")
    horizon = options.pop("horizon", None)
    if horizon is not None:
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}; it must be at least 1 step.")
        options["horizon"] = horizon
    module, attribute = (_CLOSED_FORM | _MUJOCO)[name]
    factory = getattr(
        importlib.import_module(f"applications.envs.tasks.{module}"), attribute
    )
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        raise ValueError(f"{name} takes other options: {error}.") from error
    task = factory(**options)
    if name in _CLOSED_FORM:
        return task
    if resolve_physics(physics) == "mujoco":
        from applications.envs.native import NativeTask

        return NativeTask(task)
    from applications.envs.mjx import MJXTask

    try:
        return MJXTask(task)
    except NotImplementedError as error:
        raise ValueError(f"MJX cannot step {name} so: {error}.") from error


def resolve_physics(physics: PhysicsEngine) -> PhysicsEngine:
    """The engine that `"auto"` stands for here; any other one as it is."""
    if physics != "auto":
        return physics
    return "mujoco" if jax.default_backend() == "cpu" else "mjx"
