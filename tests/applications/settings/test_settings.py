"""Settings that say what they may be, schedules, and keys."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.random as jr
import numpy as np
import pytest

from applications.settings import (
    AtLeast,
    check_settings,
    Count,
    OptionalCount,
    Rate,
    Seed,
    settings_from_json,
    settings_to_json,
    Steps,
    UserError,
    Widths,
)
from applications.training import key_for, Purpose
from applications.values import schedule


@dataclasses.dataclass(frozen=True)
class _Settings:
    count: Count = 3
    limit: OptionalCount = None
    depth: Annotated[int, AtLeast(0)] = 0
    widths: Widths = (4, 5)
    steps: Steps = 2**53
    low: float | None = None
    rate: Rate = 0.5
    seed: Seed = 7
    kind: Literal["a", "b"] = "a"
    on: bool = False
    place: Path | None = None


def test_settings_survive_json():
    settings = _Settings(limit=2, widths=(), kind="b", on=True, place=Path("x/y"))
    content = settings_to_json(settings)
    assert content["widths"] == [] and content["place"] == "x/y"
    assert settings_from_json(_Settings, content) == settings
    assert settings_from_json(_Settings, {}) == _Settings()
    assert settings_from_json(_Settings, {"rate": 1}) == _Settings(rate=1)
    check_settings(settings)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"count": 0}, "--count must be at least 1; got 0."),
        ({"count": 2**31}, "--count must be at most 2**31 - 1; got 2147483648."),
        ({"limit": 10**20}, "--limit must be at most 2**31 - 1; got 1000"),
        ({"widths": (4, 10**20)}, "--widths must be at most 2**31 - 1; got 1000"),
        ({"steps": 2**53 + 1}, "--steps must be at most 9007199254740992; got"),
        ({"rate": 1e39}, "--rate must be positive and finite; got 1e+39."),
        ({"low": float("nan")}, "--low must be finite, also in single precision; got"),
        ({"low": float("-inf")}, "--low must be finite, also in single precision"),
        ({"low": -1e39}, "--low must be finite, also in single precision; got -1e+39"),
        ({"limit": 0}, "--limit must be at least 1; got 0."),
        ({"depth": -1}, "--depth must be at least 0; got -1."),
        ({"widths": (4, 0)}, "--widths must be at least 1; got 0."),
        ({"rate": 0.0}, "--rate must be positive and finite; got 0.0."),
        ({"rate": float("inf")}, "--rate must be positive and finite; got inf."),
        ({"rate": float("nan")}, "--rate must be positive and finite; got nan."),
        ({"seed": -1}, "--seed must be from 0 to 2**32 - 1; got -1."),
        ({"seed": 2**32}, "--seed must be from 0 to 2**32 - 1; got 4294967296."),
    ],
)
def test_ranges(change, message):
    with pytest.raises(UserError) as caught:
        check_settings(_Settings(**change))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"count": "3"}, "--count must be of type int; got '3'."),
        ({"count": 3.0}, "--count must be of type int; got 3.0."),
        ({"count": True}, "--count must be of type int; got True."),
        ({"on": 1}, "--on must be of type bool; got 1."),
        ({"kind": "c"}, "--kind must be one of a, b; got 'c'."),
        ({"widths": 4}, "--widths must be of type tuple[int, ...]; got 4."),
        ({"width": 4, "a": 1}, "Unknown settings: a, width."),
        (None, "Settings are a JSON object; got None."),
    ],
)
def test_types(content, message):
    with pytest.raises(UserError) as caught:
        settings_from_json(_Settings, content)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "kind, values",
    [
        ("constant", [2.0, 2.0, 2.0]),
        ("linear", [2.0, 1.0, 0.0]),
        ("cosine", [2.0, 1.0, 0.0]),
    ],
)
def test_schedules(kind, values):
    rate = schedule(2.0, kind, 40)
    with jax.numpy_dtype_promotion("standard"):
        given = [np.asarray(rate(count)) for count in (0, 20, 40)]
    np.testing.assert_allclose(given, values, atol=1e-6)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_schedules_longer_than_any_count(kind):
    rate = schedule(2.0, kind, 10**12)
    with jax.numpy_dtype_promotion("standard"):
        given = [np.asarray(rate(np.int32(count))) for count in (0, 2**31 - 1)]
    np.testing.assert_allclose(given, [2.0, 2.0 if kind == "constant" else 0.0])


def test_keys_of_different_purposes_and_seeds():
    keys = [key_for(seed, purpose) for seed in (0, 1, 2**32 - 1) for purpose in Purpose]
    data = {tuple(jr.key_data(key).tolist()) for key in keys}
    # Nor is one the beginning of another one's stream.
    split = {tuple(row.tolist()) for key in keys for row in jr.key_data(jr.split(key))}
    assert len(data) == len(keys) == 12
    assert len(data | split) == 12 + 24
