"""Convolutional networks: channels, pooling, flattening, groups of channels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from tests.wsl.infer.helpers import assert_preserved, check, check_module, draw, numbers
from wsl import infer_weight_space


_KEY = jax.random.key(0)


class _Net(eqx.Module):
    """Layers one after the other, and a linear layer on all that is left."""

    layers: list
    head: eqx.nn.Linear
    features: int = eqx.field(static=True)

    def __init__(self, layers, shape):
        self.layers = layers
        left = jax.eval_shape(lambda x: _features(layers, x), jnp.zeros(shape))
        self.features = left.size
        self.head = eqx.nn.Linear(left.size, 2, key=_KEY)

    def __call__(self, x):
        return self.head(_features(self.layers, x))


def _features(layers, x):
    for layer in layers:
        x = layer(x)
    return x.ravel()


def _conv_spec(dims, out, into, index=0, *, bias=True):
    ones = (None,) * dims
    spec = {f".layers[{index}].weight": (out, into, *ones)}
    if bias:
        spec[f".layers[{index}].bias"] = (out, *ones)
    return spec


def _head_spec(*axis):
    return {".head.weight": (None, axis), ".head.bias": (None,)}


@pytest.mark.parametrize(
    ("dims", "pool"),
    [
        (1, eqx.nn.AvgPool1d(2)),
        (1, eqx.nn.AdaptiveAvgPool1d(3)),
        (2, eqx.nn.MaxPool2d(2, 2)),
        (2, eqx.nn.AdaptiveMaxPool2d(2)),
        (3, eqx.nn.MaxPool3d(2, 2)),
    ],
)
def test_convolution_pooling_and_flattening(dims, pool):
    shape = (2, *(9 - dims,) * dims)
    layers = [
        eqx.nn.Conv(dims, 2, 3, 3, key=_KEY),
        jax.nn.relu,
        pool,
        eqx.nn.Conv(dims, 3, 4, 2, key=_KEY, padding=1),
    ]
    model = _Net(layers, shape)
    spec = {
        **_conv_spec(dims, "a", None),
        **_conv_spec(dims, "b", "a", 3),
        **_head_spec("b", model.features // 4),
    }
    check_module(model, [numbers(*shape)], spec)


@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
def test_strided_and_dilated_convolutions(padding):
    layers = [
        eqx.nn.Conv2d(1, 4, 3, 2, padding, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(4, 5, 2, padding=padding, dilation=2, use_bias=False, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(5, 3, 1, key=_KEY),
    ]
    model = _Net(layers, (1, 9, 8))
    spec = {
        **_conv_spec(2, "a", None),
        **_conv_spec(2, "b", "a", 2, bias=False),
        **_conv_spec(2, "c", "b", 4),
        **_head_spec("c", model.features // 3),
    }
    check_module(model, [numbers(1, 9, 8)], spec)


def test_transposed_convolution():
    layers = [
        eqx.nn.ConvTranspose2d(2, 4, 3, 2, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(4, 3, 3, key=_KEY),
    ]
    model = _Net(layers, (2, 4, 4))
    spec = {
        **_conv_spec(2, "a", None),
        **_conv_spec(2, "b", "a", 2),
        **_head_spec("b", model.features // 3),
    }
    check_module(model, [numbers(2, 4, 4)], spec)


def test_channels_last():
    def fn(w, x):
        dims = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x[None], w["a"], (1, 1), "SAME", dimension_numbers=dims
        )
        x = jax.lax.conv_general_dilated(
            jnp.tanh(x), w["b"], (2, 1), "SAME", dimension_numbers=dims
        )
        return x.mean((0, 1, 2)) @ w["c"]

    weights = {"a": numbers(3, 3, 2, 4), "b": numbers(2, 2, 4, 5), "c": numbers(5, 2)}
    spec = {
        "['a']": (None, None, None, "a"),
        "['b']": (None, None, "a", "b"),
        "['c']": ("b", None),
    }
    check(fn, weights, [numbers(6, 5, 2)], spec)


def test_depthwise_separable_convolutions():
    layers = [
        eqx.nn.Conv2d(2, 6, 1, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(6, 6, 3, groups=6, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(6, 4, 1, key=_KEY),
    ]
    model = _Net(layers, (2, 5, 5))
    spec = {
        **_conv_spec(2, "a", None),
        **_conv_spec(2, "a", None, 2),
        **_conv_spec(2, "b", "a", 4),
        **_head_spec("b", 9),
    }
    check_module(model, [numbers(2, 5, 5)], spec)


def test_channel_multiplier_of_a_depthwise_convolution():
    layers = [
        eqx.nn.Conv1d(2, 3, 1, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv1d(3, 6, 3, groups=3, key=_KEY),
    ]
    model = _Net(layers, (2, 5))
    spec = {
        **_conv_spec(1, "a", None),
        **_conv_spec(1, ("a", "m"), None, 2),
        **_head_spec("a", "m", 3),
    }
    check_module(model, [numbers(2, 5)], spec, nested={"m": "a"})


def test_grouped_convolution_moves_groups_and_channels_inside():
    layers = [
        eqx.nn.Conv2d(2, 6, 2, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(6, 4, 2, groups=2, key=_KEY),
        jnp.tanh,
        eqx.nn.Conv2d(4, 3, 1, key=_KEY),
    ]
    model = _Net(layers, (2, 5, 5))
    spec = {
        **_conv_spec(2, ("group", "in"), None),
        **_conv_spec(2, ("group", "out"), "in", 2),
        **_conv_spec(2, "c", ("group", "out"), 4),
        **_head_spec("c", 9),
    }
    check_module(
        model,
        [numbers(2, 5, 5)],
        spec,
        nested={"in": "group", "out": "group"},
        sizes={"group": 2},
    )


def test_normalised_residual_convolutions():
    class Net(eqx.Module):
        first: eqx.nn.Conv2d
        norm: eqx.nn.GroupNorm
        block: eqx.nn.Conv2d
        head: eqx.nn.Linear

        def __init__(self):
            self.first = eqx.nn.Conv2d(1, 4, 3, key=_KEY)
            self.norm = eqx.nn.GroupNorm(2, 4)
            self.block = eqx.nn.Conv2d(4, 4, 3, padding=1, key=_KEY)
            self.head = eqx.nn.Linear(4, 2, key=_KEY)

        def __call__(self, x):
            x = self.first(x)
            x = x + self.block(jax.nn.relu(self.norm(x)))
            return self.head(x.mean((1, 2)))

    axis = ("group", "unit")
    spec = {
        ".first.weight": (axis, None, None, None),
        ".first.bias": (axis, None, None),
        ".norm.weight": (axis,),
        ".norm.bias": (axis,),
        ".block.weight": (axis, axis, None, None),
        ".block.bias": (axis, None, None),
        ".head.weight": (None, axis),
        ".head.bias": (None,),
    }
    check_module(
        Net(), [numbers(1, 6, 6)], spec, nested={"unit": "group"}, sizes={"group": 2}
    )


def test_batch_of_networks_under_vmap():
    # Mapped over weights, a convolution becomes a grouped one.
    def fn(weights, x):
        def one(w):
            y = jax.lax.conv(x[None], w["a"], (1, 1), "VALID")
            return jnp.tanh(y).sum((0, 2, 3)) @ w["b"]

        return jax.vmap(one)(weights).sum(0)

    weights = {"a": numbers(3, 4, 2, 2, 2), "b": numbers(3, 4, 2)}
    space = check(
        fn,
        weights,
        [numbers(2, 4, 4)],
        {"['a']": ("net", "unit", None, None, None), "['b']": ("net", "unit", None)},
        nested={"unit": "net"},
    )
    assert space.element_shapes()["g1"] == (3, 4)


def test_convolution_along_hidden_units_fixes_them():
    def fn(w, x):
        h = jnp.tanh(w["a"] @ x)
        h = jax.lax.conv(h[None, None], w["k"][None, None], (1,), "SAME")
        return w["b"] @ h[0, 0]

    weights = draw({"a": numbers(6, 3), "k": numbers(3), "b": numbers(2, 6)})
    space = infer_weight_space(fn, weights, numbers(3))
    assert space.groups == {}
    assert "convolution" in dict(space.reasons).values()
    assert_preserved(space, fn, weights, [numbers(3)])
