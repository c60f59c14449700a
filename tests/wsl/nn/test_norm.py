"""Norms over channels and over leaves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    distance,
    draw_features,
    MOVED,
    SMALL,
    SPACES,
    uneven,
    without_type_checks,
)
from wsl.nn import ChannelNorm, LeafNorm


def _with_drawn_affine(layer):
    """Scales and offsets as after training, so that each has an effect."""
    random = np.random.default_rng(7)
    draw = lambda x: jnp.asarray(1 + random.standard_normal(x.shape), x.dtype)
    return eqx.tree_at(
        lambda l: (l.scales, l.offsets),
        layer,
        replace_fn=lambda x: jax.tree.map(draw, x),
    )


_LAYERS = {
    "channel": ChannelNorm,
    "leaf": LeafNorm,
    "orbit": lambda *args: LeafNorm(*args, over="orbit"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("channel", "mlp"), ("leaf", "recurrent"), *(("orbit", name) for name in SPACES)],
)
def test_commutes(kind, name):
    space = SPACES[name]
    channels = uneven(space)
    layer = _with_drawn_affine(_LAYERS[kind](space, channels))
    assert_commutes(layer, space, draw_features(space, channels, 0))


@pytest.mark.parametrize(
    ("kind", "channels"), [("channel", 1), ("channel", 3), ("leaf", 1), ("orbit", 1)]
)
def test_health(kind, channels):
    assert_healthy(_LAYERS[kind](SMALL, channels), SMALL, channels)


def test_channel_norm_against_numpy():
    space = SPACES["mlp"]
    layer = _with_drawn_affine(ChannelNorm(space, 4, epsilon=0.1))
    features = draw_features(space, 4, 0)
    result = call(layer, features)
    for i, leaf in enumerate(space.leaves):
        path = leaf.path
        x = np.asarray(features[path[2:-2]], float)
        expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(
            x.var(-1, keepdims=True) + 0.1
        )
        expected = expected * np.asarray(layer.scales[i]) + np.asarray(layer.offsets[i])
        np.testing.assert_allclose(result[path[2:-2]], expected, atol=1e-5)


def test_one_channel_is_the_offset():
    space = SPACES["mlp"]
    layer = _with_drawn_affine(ChannelNorm(space, 1))
    result = call(layer, draw_features(space, 1, 0))
    for x, offset in zip(jax.tree.leaves(result), layer.offsets, strict=True):
        np.testing.assert_array_equal(x, np.broadcast_to(offset, x.shape))


def test_leaf_norm_against_numpy():
    space = SPACES["factored"]
    features = draw_features(space, 4, 0)
    x = np.asarray(features["gates"], float)  # (3 x h, h), that is (9, 3)
    layer = _with_drawn_affine(LeafNorm(space, 4, epsilon=0.1))
    scale, offset = (
        np.asarray(part[[x.path for x in space.leaves].index("['gates']")])
        for part in (layer.scales, layer.offsets)
    )
    expected = (x - x.mean()) / np.sqrt(x.var() + 0.1) * scale + offset
    np.testing.assert_allclose(call(layer, features)["gates"], expected, atol=1e-5)
    # Orbits: each gate and each channel by itself.
    layer = _with_drawn_affine(LeafNorm(space, 4, over="orbit", epsilon=0.1))
    x = x.reshape(3, 3, 3, 4)
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = ((x - mean) / np.sqrt(variance + 0.1) * scale + offset).reshape(9, 3, 4)
    np.testing.assert_allclose(call(layer, features)["gates"], expected, atol=1e-5)


def test_single_numbers_are_left_as_they_are():
    space = SPACES["mlp"]
    features = draw_features(space, 2, 0)
    result = call(LeafNorm(space, 2, over="orbit"), features)
    # The last bias has no axis that moves: every orbit is a number.
    np.testing.assert_array_equal(result["b2"], features["b2"])
    assert distance(result["b1"], features["b1"]) > MOVED
    scalar = {"s": array([3.0])}
    frozen = SPACES["frozen"]
    features = {**draw_features(frozen, 1, 0), **scalar}
    np.testing.assert_array_equal(call(LeafNorm(frozen, 1), features)["s"], [3.0])


def test_errors():
    space = SPACES["mlp"]
    with without_type_checks(), pytest.raises(ValueError, match="orbit"):
        LeafNorm(space, 2, over="coordinate")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="every leaf"):
        ChannelNorm(space, {"['w0']": 2})
    with pytest.raises(ValueError, match="'b0'"):
        ChannelNorm(space, 2)(draw_features(space, 3, 0))
