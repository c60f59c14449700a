"""Settings: frozen dataclasses whose fields say what they may be, as flags and JSON."""

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import jax
import optax
from beartype.door import is_bearable

from applications.envs import Integrator, PhysicsEngine
from applications.runs._errors import UserError


Schedule: TypeAlias = Literal["constant", "linear", "cosine"]
Settings = TypeVar("Settings")

_SEEDS = 2**32


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """Marks, in an `Annotated` field, the least value of a number or of each one."""

    bound: int


@dataclasses.dataclass(frozen=True)
class AtMost:
    """Marks, in an `Annotated` field, the largest value of a number."""

    bound: int


@dataclasses.dataclass(frozen=True)
class Positive:
    """Marks, in an `Annotated` field, a number that is positive and finite."""


@dataclasses.dataclass(frozen=True)
class IsSeed:
    """Marks, in an `Annotated` field, a number that seeds a random key."""


Count: TypeAlias = typing.Annotated[int, AtLeast(1)]
OptionalCount: TypeAlias = typing.Annotated[int | None, AtLeast(1)]
Widths: TypeAlias = typing.Annotated[tuple[int, ...], AtLeast(1)]
Rate: TypeAlias = typing.Annotated[float, Positive()]
Seed: TypeAlias = typing.Annotated[int, IsSeed()]


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What every trainer can be told; each adds its own fields."""

    env: str = "cartpole"
    """Task to learn: ant, ant_servo, ant_v5, cartpole, half_cheetah, hopper,
    inverted_double_pendulum, inverted_pendulum, lqr, mountain_car_continuous, reacher,
    swimmer or walker2d."""

    physics: PhysicsEngine = "auto"
    """What steps MuJoCo tasks: mjx in JAX, or mujoco in C, which auto takes on CPUs."""

    horizon: OptionalCount = None
    """Time limit of an episode in control steps. The task's own unless given."""

    integrator: Integrator | None = None
    """How MuJoCo tasks are integrated. The task's own way unless given."""

    survival_bonus: bool = True
    """Learn from the reward for not falling too. Evaluation always counts it."""

    num_envs: Count = 128
    """Parallel environments: policies tried in each iteration."""

    iterations: Count = 100
    """Iterations of the whole run. May be raised when a run is resumed."""

    seed: Seed = 0
    """Seed of all randomness."""

    run_dir: Path | None = None
    """Directory for the run; it must not exist. Otherwise a new one in runs."""

    resume: Path | None = None
    """Directory of a run to continue. Its settings stay; --iterations may be raised."""

    checkpoint_every: Count = 10
    """Iterations from one checkpoint to the next."""

    coordinator: str | None = None
    """HOST:PORT at which several processes meet, on the machine of process 0."""

    num_processes: OptionalCount = None
    """How many processes train together. One, or what SLURM says, unless given."""

    process_id: typing.Annotated[int | None, AtLeast(0)] = None
    """Which of them this one is, counted from 0."""

    heartbeat: typing.Annotated[int, AtLeast(5)] = 30
    """Seconds without a sign of life after which a process counts as lost."""


def flag(name: str) -> str:
    """The flag that sets a field."""
    return "--" + name.replace("_", "-")


def check_settings(settings: Any) -> None:
    """Checks type and range of every field.

    Args:
        settings: A dataclass.

    Raises:
        UserError: With the flag, its value and what it may be.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        kind = typing.get_args(hint)[0] if marks else hint
        _check_type(field.name, value, kind)
        values = value if isinstance(value, tuple) else (value,)
        for mark in marks:
            for one in values:
                if one is not None:
                    _check_range(field.name, one, mark)


def _check_type(name: str, value: Any, kind: Any) -> None:
    if is_bearable(value, kind) and not (kind is int and isinstance(value, bool)):
        return
    if kind is float and type(value) is int:
        return
    if typing.get_origin(kind) is Literal:
        allowed = "one of " + ", ".join(map(str, typing.get_args(kind)))
    else:
        plain = isinstance(kind, type) and not typing.get_args(kind)
        allowed = f"of type {kind.__name__ if plain else kind}"
    raise UserError(f"{flag(name)} must be {allowed}; got {value!r}.")


def _check_range(name: str, value: Any, mark: Any) -> None:
    match mark:
        case AtLeast(bound):
            holds, allowed = value >= bound, f"at least {bound}"
        case AtMost(bound):
            holds, allowed = value <= bound, f"at most {bound}"
        case Positive():
            holds, allowed = math.isfinite(value) and value > 0, "positive and finite"
        case IsSeed():
            holds, allowed = 0 <= value < _SEEDS, "from 0 to 2**32 - 1"
        case _:
            return
    if not holds:
        raise UserError(f"{flag(name)} must be {allowed}; got {value}.")


def settings_to_json(settings: Any) -> dict[str, Any]:
    """All fields of a dataclass, as JSON knows them."""

    def convert(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    return {k: convert(v) for k, v in dataclasses.asdict(settings).items()}


def settings_from_json(kind: type[Settings], content: Any) -> Settings:
    """Inverse of `settings_to_json`.

    Args:
        kind: The dataclass.
        content: Its fields; those left out have their defaults.

    Returns:
        The settings.

    Raises:
        UserError: If there is a field of an unknown name, or a bad value.
    """
    if not isinstance(content, dict):
        raise UserError(f"Settings are a JSON object; got {content!r}.")
    hints = typing.get_type_hints(kind)
    unknown = sorted(content.keys() - hints.keys())
    if unknown:
        raise UserError(f"Unknown settings: {', '.join(unknown)}.")

    def convert(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        is_path = Path in (hints[name], *typing.get_args(hints[name]))
        return Path(value) if is_path and isinstance(value, str) else value

    values = {name: convert(name, value) for name, value in content.items()}
    for name, value in values.items():
        _check_type(name, value, hints[name])
    return kind(**values)


def schedule(start: float, kind: Schedule, steps: int) -> optax.Schedule:
    """A rate over a run.

    Args:
        start: Its first value.
        kind: Whether it stays or how it goes to zero.
        steps: When it gets there.

    Returns:
        From the number of steps so far to the rate.
    """
    match kind:
        case "constant":
            rate_at = optax.constant_schedule(start)
        case "linear":
            rate_at = optax.linear_schedule(start, 0.0, steps)
        case "cosine":
            rate_at = optax.cosine_decay_schedule(start, steps)

    def rate(count):
        # Optax divides counts by floats.
        with jax.numpy_dtype_promotion("standard"):
            return rate_at(count)

    return rate
