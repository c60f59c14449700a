"""Tasks by name. A task's module is imported only when that task is asked for."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax

from applications.envs._outcome_task import with_outcome
from applications.envs._task import AbstractEnvironment
from applications.envs._variants import variant_of
from applications.settings import load_factory


PhysicsEngine: TypeAlias = Literal["auto", "mjx", "mujoco"]

# Module and name of what makes each task. Not imported here: mujoco and mjx take longer
# to import than a whole cartpole run takes to start.
_BUILT_IN = {
    "ant": ("ant", "Ant"),
    "ant_servo": ("ant", "AntServo"),
    "ant_v5": ("ant_v5", "AntV5"),
    "cartpole": ("cartpole", "CartPole"),
    "half_cheetah": ("runners", "half_cheetah"),
    "hopper": ("runners", "hopper"),
    "inverted_double_pendulum": ("inverted_double_pendulum", "InvertedDoublePendulum"),
    "inverted_pendulum": ("inverted_pendulum", "InvertedPendulum"),
    "lqr": ("lqr", "LQR"),
    "mountain_car_continuous": ("mountain_car_continuous", "MountainCarContinuous"),
    "reacher": ("reacher", "Reacher"),
    "swimmer": ("runners", "swimmer"),
    "walker2d": ("runners", "walker2d"),
}


def names() -> tuple[str, ...]:
    """The names of the tasks that come along, in alphabetical order."""
    return tuple(sorted(_BUILT_IN))


def make(
    name: str,
    *,
    physics: PhysicsEngine = "auto",
    outcome: str = "reward",
    goal: float | None = None,
    variant: float | None = None,
    **options: Any,
) -> Any:
    """Builds a task.

    Args:
        name: One of `names()`; `package.module:Factory`, a class or function that
            returns an `AbstractTask` or an `AbstractMujocoDefinition`, where the
            module can be imported, the current directory included;
            `gymnasium:ID`, an environment of Gymnasium; or `playground:NAME`, a task
            of MuJoCo Playground, where that is installed.
        physics: What steps MuJoCo definitions: `"mjx"`, inside `jax.jit`; `"mujoco"`,
            the engine in C; `"auto"`, that one where JAX has no accelerator. Other
            tasks have no use for it.
        outcome: What episodes are worth: `reward`, the sum of the rewards, or another
            one, as of `with_outcome`.
        goal: As of `with_outcome`.
        variant: The value of the task's parameter, as of `variant_of`; the task's own
            unless given.
        **options: Options of that task, passed on to what makes it. `horizon`, the
            time limit in control steps, is passed on unless it is None.

    Returns:
        The task: an `AbstractTask`; a `NativeTask`, which has the same methods, for
        the engine in C; or a `GymnasiumEnvironment`, which has none. With another
        outcome than the reward, an `OutcomeTask` around it.

    Raises:
        ValueError: If there is no task of that name, it has no such option, outcome or
            variant, the engine cannot step it, or the horizon is no whole number from 1
            on.
    """
    horizon = options.pop("horizon", None)
    if horizon is not None:
        if type(horizon) is not int or not 1 <= horizon < 2**31:
            raise ValueError(
                f"horizon is {horizon}; it must be a whole number, of at least 1 step "
                "and below 2**31."
            )
        options["horizon"] = horizon
    factory = _find(name)
    _check_options(name, factory, options)
    task = factory(**options)
    if not isinstance(task, AbstractEnvironment):
        task = _on_an_engine(name, task, physics)
    if variant is not None:
        task = variant_of(task, variant)
    return with_outcome(task, outcome, goal=goal)


def resolve_physics(physics: PhysicsEngine) -> PhysicsEngine:
    """The engine that `"auto"` stands for here; any other one as it is."""
    if physics != "auto":
        return physics
    return "mujoco" if jax.default_backend() == "cpu" else "mjx"


def _find(name: str) -> Callable[..., Any]:
    """What makes the task of a name."""
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        found = importlib.import_module(f"applications.envs.tasks.{module}")
        return getattr(found, attribute)
    scheme, _, rest = name.partition(":")
    if not scheme or not rest:
        raise ValueError(
            f"Unknown task {name!r}. Known tasks: {', '.join(names())}. Others are "
            "package.module:Factory, gymnasium:ID or playground:NAME."
        )
    if scheme == "gymnasium":
        from applications.envs.adapters import GymnasiumEnvironment

        # What is left of the options is Gymnasium's business.
        return lambda **options: GymnasiumEnvironment(rest, **options)
    if scheme == "playground":
        return _from_playground(rest)
    return load_factory(name)


def _from_playground(rest: str) -> Callable[..., Any]:
    from applications.envs.adapters import from_playground

    def build(*, horizon: int | None = None) -> Any:
        try:
            return from_playground(rest, horizon=horizon)
        except ImportError as error:
            raise ValueError(str(error)) from error

    return build


def _check_options(
    name: str, factory: Callable[..., Any], options: dict[str, Any]
) -> None:
    """Refuses what a factory has no parameter for, and what is missing."""
    signature = inspect.signature(factory)
    try:
        signature.bind(**options)
    except TypeError as error:
        known = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
        ]
        raise ValueError(
            f"{name} takes other options: {error}. It has "
            f"{', '.join(known) if known else 'none'}."
        ) from error


def _on_an_engine(name: str, definition: Any, physics: PhysicsEngine) -> Any:
    """A MuJoCo definition on the engine that is asked for."""
    from applications.envs.mujoco import AbstractMujocoDefinition

    if not isinstance(definition, AbstractMujocoDefinition):
        raise ValueError(
            f"{name} made a {type(definition).__name__}, which is neither an "
            "AbstractTask nor an AbstractMujocoDefinition."
        )
    if resolve_physics(physics) == "mujoco":
        from applications.envs.native import NativeTask

        return NativeTask(definition)
    from applications.envs.mjx import MJXTask

    try:
        return MJXTask(definition)
    except NotImplementedError as error:
        raise ValueError(f"MJX cannot step {name} so: {error}.") from error
