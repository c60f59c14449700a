"""Digits' MLPs: small zoos, from few steps, against their own description."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from wsl.zoo import digits_mlps
from wsl.zoo._digits_mlps import make_digits_mlps, Settings


SMALL = Settings(20, (8, 4), 0, steps=60)


@pytest.fixture(scope="module")
def zoo():
    return make_digits_mlps(SMALL, cache=False)


def test_groups_and_splits(zoo):
    assert [group.layers[1].weight.shape[1:] for group in zoo.groups] == [
        (4, 4),
        (8, 8),
        (24, 24),
    ]
    counts = {name: len(zoo.split(name)) for name in set(zoo.parts.tolist())}
    assert counts == {"train": 14, "validation": 2, "test": 4, "out_of_range": 8}
    for name in ("train", "validation", "test"):
        part = zoo.split(name).labels
        assert set(part["width"].tolist()) == {4, 8}
        assert part["learning_rate"].min() >= 1e-3
        assert part["learning_rate"].max() <= 1
    widths = [x.layers[0].weight.shape[1] for x in zoo.groups]
    sizes = [len(x.layers[0].weight) for x in zoo.groups]
    np.testing.assert_array_equal(zoo.labels["width"], np.repeat(widths, sizes))


def test_out_of_range(zoo):
    beyond = zoo.split("out_of_range").labels
    fast = beyond["width"] != 24
    assert fast.sum() == (~fast).sum() == 4
    assert (beyond["learning_rate"][fast] > 1).all()
    assert (beyond["learning_rate"][fast] <= 3).all()
    assert (beyond["learning_rate"][~fast] <= 1).all()


def test_settings_are_spread(zoo):
    labels = zoo.split("train", "validation", "test").labels
    for values, low, high in (
        (labels["learning_rate"], 1e-3, 1),
        (labels["scale"], 0.3, 3),
    ):
        place = np.log(values / low) / np.log(high / low)
        assert 0 <= place.min() < 0.3 and 0.7 < place.max() <= 1
        # Log-uniform: 20 numbers have mean 1/2 within 4 standard errors.
        assert abs(place.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 20)


def test_labels_are_those_of_the_networks(zoo):
    images = zoo.data["images"][zoo.data["parts"] == "test"].reshape(-1, 64)
    digits = zoo.data["digits"][zoo.data["parts"] == "test"]
    assert len(digits) == 397
    i = 0
    for group in zoo.groups:
        for member in range(len(group.layers[0].weight)):
            x = images.astype(float)
            for layer in group.layers:
                weight = np.asarray(layer.weight[member], float)
                x = x @ weight.T + np.asarray(layer.bias[member], float)
                if layer is not group.layers[-1]:
                    x = np.maximum(x, 0)
            accuracy = np.mean(x.argmax(axis=1) == digits)
            loss = -np.mean(x[np.arange(397), digits] - np.logaddexp.reduce(x, axis=1))
            # A tie may be broken otherwise by rounding.
            assert abs(zoo.labels["accuracy"][i] - accuracy) < 1.5 / 397
            np.testing.assert_allclose(zoo.labels["loss"][i], loss, rtol=1e-4)
            i += 1
    assert i == len(zoo)
    assert zoo.labels["accuracy"].max() > 0.3


@pytest.mark.nightly
def test_no_weight_is_beyond_the_limit():
    settings = dataclasses.replace(SMALL, largest_weight=0.7)
    zoo = make_digits_mlps(settings, cache=False)
    stopped = zoo.labels["diverged"]
    assert 0 < stopped.sum() < len(zoo)
    place = 0
    for group in zoo.groups:
        leaves = [
            np.asarray(x) for x in jax.tree.leaves(eqx.filter(group, eqx.is_array))
        ]
        number = len(leaves[0])
        largest = np.max([np.abs(x).reshape(number, -1).max(1) for x in leaves], axis=0)
        assert (largest[~stopped[place : place + number]] <= 0.7).all()
        place += number


@pytest.mark.nightly
def test_same_seed_same_bits(zoo):
    again = make_digits_mlps(SMALL, cache=False)
    for x, y in zip(
        jax.tree.leaves(eqx.filter(zoo.groups, eqx.is_array)),
        jax.tree.leaves(eqx.filter(again.groups, eqx.is_array)),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)
    for name, values in zoo.labels.items():
        np.testing.assert_array_equal(values, again.labels[name])


@pytest.mark.parametrize("widths", [(), (0,), (16, 24)])
def test_arguments(widths):
    with pytest.raises(ValueError, match="`widths` must be positive numbers other"):
        digits_mlps(widths=widths, cache=False)
