"""What tests of several packages share."""

import os
from collections.abc import Container, Iterable
from typing import Any

import hypothesis
import pytest


# Examples of a property, by the profile that WSL_TEST_PROFILE names: a part of them for
# every change, what the tests ask for, and more while nobody waits.
_FACTORS = {"fast": 0.3, "ci": 1.0, "nightly": 5.0}


def examples(number: int) -> hypothesis.settings:
    """Settings of a property's test that draws `number` examples in profile ci."""
    factor = _FACTORS[os.environ.get("WSL_TEST_PROFILE", "fast")]
    return hypothesis.settings(max_examples=max(min(number, 3), round(number * factor)))


def nightly(values: Iterable[Any], slow: Container[Any]) -> list[Any]:
    """Parameters of a test, of which the slow ones run nightly only."""

    def param(value: Any) -> Any:
        given = value if isinstance(value, tuple) else (value,)
        return pytest.param(*given, marks=pytest.mark.nightly)

    return [param(value) if value in slow else value for value in values]
