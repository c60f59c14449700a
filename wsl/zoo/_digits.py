"""The pictures of digits that scikit-learn bundles."""

from typing import Any

import numpy as np
import sklearn.datasets
from jaxtyping import Float, Int, Shaped


NUM_IMAGES = {"train": 1200, "validation": 200, "test": 397}


def load_images() -> tuple[Float[np.ndarray, "images 8 8"], Int[np.ndarray, " images"]]:
    """All 1,797 images, grey values from 0 to 1, and their digits."""
    digits: Any = sklearn.datasets.load_digits()
    return (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)


def split_images(digits: Int[np.ndarray, " images"]) -> Shaped[np.ndarray, " images"]:
    """The split of each image: always the same, with the digits in equal parts."""
    # The stream of this generator is frozen; that of `default_rng` may change.
    shuffled = np.random.RandomState(0).permutation(len(digits))
    place = np.empty(len(digits))
    for digit in range(10):
        members = shuffled[digits[shuffled] == digit]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    # In order of place, every stretch has its share of each digit.
    ordered = shuffled[np.argsort(place[shuffled], kind="stable")]
    parts = np.empty(len(digits), dtype="<U12")
    parts[ordered] = np.repeat(list(NUM_IMAGES), list(NUM_IMAGES.values()))
    return parts


def choose_images(
    parts: Shaped[np.ndarray, " images"], split: str, number: int
) -> Int[np.ndarray, " chosen"]:
    """The first images of a split."""
    return np.flatnonzero(parts == split)[:number]
