"""Digits' INRs: small zoos, from few steps, against their own description."""

import equinox as eqx
import jax
import numpy as np
import pytest

from wsl.zoo import digits_inrs, render, Siren
from wsl.zoo._digits import load_images, split_images
from wsl.zoo._digits_inrs import make_digits_inrs, Settings


SMALL = {"steps": 10, "num_images": (5, 3, 4)}


def _make(copies=1, initialisation="independent", shuffle=False, seed=0, **changes):
    settings = Settings(copies, initialisation, shuffle, seed, **{**SMALL, **changes})
    return make_digits_inrs(settings, cache=False)


@pytest.fixture(scope="module")
def zoo():
    return _make(copies=2)


@pytest.fixture(scope="module")
def shared():
    return _make(initialisation="shared")


def _leaves(zoo):
    return [np.asarray(x) for group in zoo.groups for x in jax.tree.leaves(group)]


def test_networks(zoo):
    assert isinstance(zoo.networks, Siren)
    assert zoo.networks.frequencies == (10, 30)
    shapes = [x.weight.shape for x in zoo.networks.layers]
    assert shapes == [(21, 24, 2), (21, 24, 24), (21, 1, 24)]
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in _leaves(zoo))


def test_splits_and_copies(zoo):
    counts = {name: len(zoo.split(name)) for name in set(zoo.parts.tolist())}
    assert counts == {"train": 10, "validation": 3, "test": 4, "out_of_range": 4}
    _, digits = load_images()
    parts = split_images(digits)
    for name in ("train", "validation", "test"):
        assert set(parts[zoo.split(name).labels["image"]]) == {name}
    train = zoo.split("train").labels
    pairs = set(zip(train["image"].tolist(), train["copy"].tolist(), strict=True))
    assert len(pairs) == 10 and set(train["copy"].tolist()) == {0, 1}
    np.testing.assert_array_equal(
        zoo.split("test").labels["image"], zoo.split("out_of_range").labels["image"]
    )


def test_labels_are_those_of_the_networks(zoo):
    pictures = np.asarray(render(zoo.networks, zoo.data["coordinates"]), float)
    truth = zoo.data["images"][zoo.labels["image"]].reshape(-1, 64).astype(float)
    error = np.mean((pictures[:, :, 0] - truth) ** 2, axis=1)
    np.testing.assert_allclose(zoo.labels["psnr"], 10 * np.log10(1 / error), rtol=1e-3)
    # Control: pictures of others are far off.
    others = np.mean((pictures[:, :, 0] - np.roll(truth, 1, axis=0)) ** 2, axis=1)
    assert np.median(others) > 2 * np.median(error)
    _, digits = load_images()
    np.testing.assert_array_equal(zoo.labels["digit"], digits[zoo.labels["image"]])


def test_more_steps_out_of_range(zoo):
    test, beyond = (zoo.split(x).labels["psnr"] for x in ("test", "out_of_range"))
    assert beyond.mean() > test.mean() + 3
    assert beyond.min() > test.min()


def test_copies_differ_and_more_copies_leave_the_first_as_they_are(zoo):
    first = zoo.networks.layers[0].weight
    labels = zoo.labels
    same = np.flatnonzero(
        (labels["image"] == labels["image"][0]) & (zoo.parts == "train")
    )
    assert len(same) == 2
    assert np.abs(np.asarray(first[same[0]] - first[same[1]])).max() > 0.1
    one = _make(copies=1)
    # Chunks of another size may round otherwise.
    np.testing.assert_allclose(
        one.split("train").networks.layers[0].weight, first[:5], atol=1e-4
    )


def test_same_seed_same_bits(zoo):
    again, other = _make(copies=2), _make(copies=2, seed=1)
    for x, y, z in zip(_leaves(zoo), _leaves(again), _leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)
        assert not np.array_equal(x, z)
    for name, values in zoo.labels.items():
        np.testing.assert_array_equal(values, again.labels[name])
    # The split is not of the seed.
    np.testing.assert_array_equal(zoo.labels["image"], other.labels["image"])


def test_shared_initialisation(zoo, shared):
    # Ten steps at a rate of 0.002 take no weight further than 0.02 or so.
    for layer in shared.networks.layers:
        assert np.ptp(np.asarray(layer.weight), axis=0).max() < 0.1
    assert np.ptp(np.asarray(zoo.networks.layers[0].weight), axis=0).min() > 0.1


def test_shuffled_networks_compute_the_same(shared):
    shuffled = _make(initialisation="shared", shuffle=True)
    points = shared.data["coordinates"]
    np.testing.assert_allclose(
        render(shuffled.networks, points), render(shared.networks, points), atol=1e-4
    )
    np.testing.assert_allclose(
        shuffled.labels["psnr"], shared.labels["psnr"], rtol=1e-4
    )
    # Each in its own way.
    ordered = np.asarray(shuffled.networks.layers[0].weight)
    assert len({x.tobytes() for x in np.sign(ordered)}) == len(shuffled)
    aligned = np.asarray(shared.networks.layers[0].weight)
    assert np.abs(ordered - aligned).max(axis=(1, 2)).min() > 0.1
    # Control: without the outgoing signs the function is another.
    flipped = eqx.tree_at(
        lambda x: x.layers[2].weight, shuffled.networks, replace_fn=np.abs
    )
    difference = np.asarray(render(flipped, points) - render(shared.networks, points))
    assert np.abs(difference).max() > 0.05


def test_arguments():
    with pytest.raises(ValueError, match="`copies` must be positive"):
        digits_inrs(copies=0, cache=False)
    with pytest.raises(ValueError, match="'independent' or 'shared'; got 'same'"):
        Settings(1, "same", False, 0)
