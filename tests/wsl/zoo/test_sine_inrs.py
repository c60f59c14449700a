"""Sine INRs: a small zoo, from few steps, against its own description."""

import jax
import numpy as np
import pytest

from wsl.zoo import render, sine_inrs
from wsl.zoo._sine_inrs import make_sine_inrs, Settings


@pytest.fixture(scope="module")
def zoo():
    return make_sine_inrs(Settings(40, 0, steps=20, num_points=64), cache=False)


def test_splits(zoo):
    counts = {name: len(zoo.split(name)) for name in set(zoo.parts.tolist())}
    assert counts == {"train": 28, "validation": 4, "test": 8, "out_of_range": 8}
    inside = zoo.split("train", "validation", "test").labels
    assert 0 <= inside["b"].min() < 2 and 8 < inside["b"].max() <= 10
    assert 0 <= zoo.labels["a"].min() < 2 and 8 < zoo.labels["a"].max() <= 10
    beyond = zoo.split("out_of_range").labels["b"]
    assert 10 <= beyond.min() < beyond.max() <= 12
    assert abs(np.corrcoef(inside["a"], inside["b"])[0, 1]) < 0.5


def test_errors_are_those_of_the_networks(zoo):
    points = zoo.data["coordinates"]
    assert points.shape == (64, 1)
    np.testing.assert_allclose(points[[0, -1], 0], [-np.pi, np.pi], rtol=1e-6)
    shapes = [x.weight.shape[1:] for x in zoo.networks.layers]
    assert shapes == [(32, 1), (32, 32), (1, 32)]
    answers = np.asarray(render(zoo.networks, points), float)[:, :, 0]
    a, b = zoo.labels["a"][:, None], zoo.labels["b"][:, None]
    error = np.mean((answers - a * np.sin(b * points[:, 0])) ** 2, axis=1)
    np.testing.assert_allclose(zoo.labels["mse"], error, rtol=1e-3, atol=1e-6)
    # Even 20 steps fit something: the zero function has an error of a²/2 or so.
    assert np.median(error / (a[:, 0] ** 2 / 2)) < 0.9


@pytest.mark.nightly
def test_same_seed_same_bits(zoo):
    settings = Settings(40, 0, steps=20, num_points=64)
    again = make_sine_inrs(settings, cache=False)
    for x, y in zip(
        jax.tree.leaves((zoo.networks, zoo.labels)),
        jax.tree.leaves((again.networks, again.labels)),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


def test_arguments():
    with pytest.raises(ValueError, match="must be 10 or more"):
        sine_inrs(num_networks=5, cache=False)
