"""Settings: frozen dataclasses whose fields say what they may be, as flags and JSON."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from beartype.door import is_bearable


Settings = TypeVar("Settings")
_SEEDS = 2**32
# Of JAX's numbers.
_LARGEST_INT = 2**31 - 1
_LARGEST_FLOAT = float(np.finfo(np.float32).max)


class UserError(ValueError):
    """Something that the user can put right; its text is one line that says how."""


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
# Of control steps, which no array counts over a whole run.
Steps: TypeAlias = typing.Annotated[int, AtLeast(1), AtMost(2**53)]
OptionalCount: TypeAlias = typing.Annotated[int | None, AtLeast(1)]
# Of what a number is rounded to.
OptionalLevels: TypeAlias = typing.Annotated[int | None, AtLeast(2)]
Widths: TypeAlias = typing.Annotated[tuple[int, ...], AtLeast(1)]
Rate: TypeAlias = typing.Annotated[float, Positive()]
OptionalRate: TypeAlias = typing.Annotated[float | None, Positive()]
Seed: TypeAlias = typing.Annotated[int, IsSeed()]


def flag(name: str) -> str:
    """The flag that sets a field. Of `lambda_`, otherwise a keyword, it has no end."""
    return "--" + name.rstrip("_").replace("_", "-")


def check_settings(settings: Any) -> None:
    """Checks type and range of every field.

    Numbers must be finite, in single precision too, and whole ones below 2**31, unless
    a mark says how large they may be.

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
        for one in values:
            if one is not None:
                for mark in marks:
                    _check_range(field.name, one, mark)
                _check_size(field.name, one, marks)


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


def _check_size(name: str, value: Any, marks: tuple[Any, ...]) -> None:
    """Checks that JAX has room for a number, unless a mark says how large it may be."""
    if any(isinstance(mark, AtMost | IsSeed) for mark in marks):
        return
    if isinstance(value, float) and not abs(value) <= _LARGEST_FLOAT:
        raise UserError(
            f"{flag(name)} must be finite, also in single precision; got {value}."
        )
    if isinstance(value, int) and not -_LARGEST_INT <= value <= _LARGEST_INT:
        raise UserError(f"{flag(name)} must be at most 2**31 - 1; got {value}.")


def _check_range(name: str, value: Any, mark: Any) -> None:
    match mark:
        case AtLeast(bound):
            holds, allowed = value >= bound, f"at least {bound}"
        case AtMost(bound):
            holds, allowed = value <= bound, f"at most {bound}"
        case Positive():
            holds, allowed = 0 < value <= _LARGEST_FLOAT, "positive and finite"
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


def choose_range(
    own: tuple[float, float] | None, low: float | None, high: float | None
) -> tuple[float, float]:
    """The ends of a range that --low and --high may replace.

    Args:
        own: The ends that a task knows of, if it knows any.
        low: What --low says.
        high: What --high says.

    Returns:
        Lower and upper end.

    Raises:
        UserError: If an end is not known, or the range is empty.
    """
    own_low, own_high = own or (None, None)
    low = own_low if low is None else low
    high = own_high if high is None else high
    if low is None or high is None:
        raise UserError(
            "This task does not say what returns to expect: give --low and --high."
        )
    if low >= high:
        raise UserError(f"--low {low} must be below --high {high}.")
    return low, high
