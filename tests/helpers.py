"""What tests of several packages share."""

import os

import hypothesis


# Examples of a property, by the profile that WSL_TEST_PROFILE names: a part of them for
# every change, what the tests ask for, and more while nobody waits.
_FACTORS = {"fast": 0.3, "ci": 1.0, "nightly": 5.0}


def examples(number: int) -> hypothesis.settings:
    """Settings of a property's test that draws `number` examples in profile ci."""
    factor = _FACTORS[os.environ.get("WSL_TEST_PROFILE", "fast")]
    return hypothesis.settings(max_examples=max(min(number, 3), round(number * factor)))
