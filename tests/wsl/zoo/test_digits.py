"""The pictures and their split."""

import hashlib

import numpy as np

from wsl.zoo._digits import choose_images, load_images, split_images


def test_images():
    images, digits = load_images()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert np.array_equal(images * 16, np.round(images * 16))
    assert digits.shape == (1797,) and set(digits.tolist()) == set(range(10))


def test_split_is_of_these_sizes_and_stratified():
    _, digits = load_images()
    parts = split_images(digits)
    sizes = {"train": 1200, "validation": 200, "test": 397}
    assert set(parts.tolist()) == set(sizes)
    total = np.bincount(digits)
    for name, size in sizes.items():
        counts = np.bincount(digits[parts == name])
        assert counts.sum() == size
        # Each digit in its share, but for rounding at both ends of the stretch.
        assert np.abs(counts - total * size / 1797).max() <= 2
    # Pictures of a split are spread over the whole file.
    assert np.flatnonzero(parts == "test").mean() > 700


def test_split_never_changes():
    _, digits = load_images()
    digest = hashlib.sha256("".join(part[:2] for part in split_images(digits)).encode())
    assert digest.hexdigest()[:16] == "1da1950bce567fcf"


def test_first_images_of_a_split():
    parts = np.asarray(["test", "train", "test", "test"])
    assert choose_images(parts, "test", 2).tolist() == [0, 2]
