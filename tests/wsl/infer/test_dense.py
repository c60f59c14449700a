"""Perceptrons, norms, recurrent cells: inferred against written groups."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from tests.wsl.infer.helpers import (
    assert_group,
    assert_preserved,
    check,
    check_module,
    draw,
    numbers,
)
from wsl import infer_weight_space


_KEY = jax.random.key(0)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 4])
def test_mlp(depth, use_bias):
    model = eqx.nn.MLP(
        3, 2, 5, depth, jnp.tanh, use_bias=use_bias, use_final_bias=use_bias, key=_KEY
    )
    names = [None, *(f"h{i}" for i in range(depth)), None]
    spec = {}
    for i in range(depth + 1):
        spec[f".layers[{i}].weight"] = (names[i + 1], names[i])
        if use_bias:
            spec[f".layers[{i}].bias"] = (names[i + 1],)
    space = check_module(model, [numbers(3)], spec)
    assert space.groups == {f"g{i}": 5 for i in range(depth)}
    assert set(dict(space.reasons).values()) == {"input 0", "output"}


def test_activation_with_a_weight_for_each_unit():
    model = eqx.nn.MLP(3, 2, 5, 1, eqx.nn.PReLU(), key=_KEY)
    spec = {
        ".layers[0].weight": ("h", None),
        ".layers[0].bias": ("h",),
        ".layers[1].weight": (None, "h"),
        ".layers[1].bias": (None,),
        ".activation.negative_slope": (None, "h"),
    }
    check_module(model, [numbers(3)], spec)


def test_siren():
    def siren(weights, x):
        for layer in weights[:-1]:
            x = jnp.sin(3.0 * (layer["w"] @ x + layer["b"]))
        return weights[-1]["w"] @ x + weights[-1]["b"]

    sizes = [2, 4, 4, 1]
    weights = [
        {"w": numbers(m, n), "b": numbers(m)}
        for n, m in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    spec = {
        "[0]['w']": ("a", None),
        "[0]['b']": ("a",),
        "[1]['w']": ("b", "a"),
        "[1]['b']": ("b",),
        "[2]['w']": (None, "b"),
        "[2]['b']": (None,),
    }
    check(siren, weights, [numbers(2)], spec)


class _Residual(eqx.Module):
    """Embeds, adds blocks that normalise first, reads out."""

    embed: eqx.nn.Linear
    norms: list
    ups: list
    downs: list
    head: eqx.nn.Linear

    def __init__(self, norm, blocks=2):
        self.embed = eqx.nn.Linear(3, 6, key=_KEY)
        self.norms = [norm() for _ in range(blocks)]
        self.ups = [eqx.nn.Linear(6, 4, key=_KEY) for _ in range(blocks)]
        self.downs = [eqx.nn.Linear(4, 6, key=_KEY) for _ in range(blocks)]
        self.head = eqx.nn.Linear(6, 2, key=_KEY)

    def __call__(self, x):
        x = self.embed(x)
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(jax.nn.gelu(up(norm(x))))
        return self.head(x)


def _residual_spec(stream, norm_leaves):
    spec = {
        ".embed.weight": (stream, None),
        ".embed.bias": (stream,),
        ".head.weight": (None, stream),
        ".head.bias": (None,),
    }
    for i in range(2):
        spec |= {f".norms[{i}].{leaf}": (stream,) for leaf in norm_leaves}
        spec |= {
            f".ups[{i}].weight": (f"h{i}", stream),
            f".ups[{i}].bias": (f"h{i}",),
            f".downs[{i}].weight": (stream, f"h{i}"),
            f".downs[{i}].bias": (stream,),
        }
    return spec


@pytest.mark.parametrize(
    ("norm", "leaves"),
    [
        (lambda: eqx.nn.Identity(), []),
        (lambda: eqx.nn.LayerNorm(6), ["weight", "bias"]),
        (lambda: eqx.nn.RMSNorm(6), ["weight", "bias"]),
        (lambda: eqx.nn.GroupNorm(1, 6), ["weight", "bias"]),
        (lambda: eqx.nn.GroupNorm(6, 6), ["weight", "bias"]),
    ],
)
def test_residual_network_with_norms(norm, leaves):
    model = _Residual(norm)
    check_module(model, [numbers(3)], _residual_spec("r", leaves))


@pytest.mark.parametrize("groups", [2, 3])
def test_group_norm_keeps_units_in_their_group(groups):
    model = _Residual(lambda: eqx.nn.GroupNorm(groups, 6))
    check_module(
        model,
        [numbers(3)],
        _residual_spec(("group", "unit"), ["weight", "bias"]),
        nested={"unit": "group"},
        sizes={"group": groups},
    )


def test_skip_from_the_input_fixes_the_stream():
    def fn(weights, x):
        return x + weights["down"] @ jnp.tanh(weights["up"] @ x)

    weights = {"up": numbers(5, 3), "down": numbers(3, 5)}
    space = check(
        fn, weights, [numbers(3)], {"['up']": ("h", None), "['down']": (None, "h")}
    )
    # What is added to the input has its indices.
    assert space.index_sets == {"f0": 3, "g0": 5}


class _Normalised(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    last: eqx.nn.Linear

    def __init__(self, mode):
        self.first = eqx.nn.Linear(3, 5, key=_KEY)
        self.norm = eqx.nn.BatchNorm(5, "batch", mode=mode)
        self.last = eqx.nn.Linear(5, 2, key=_KEY)

    def __call__(self, x, state):
        x, state = self.norm(self.first(x), state)
        return self.last(jnp.tanh(x)), state


@pytest.mark.parametrize("mode", ["ema", "batch"])
@pytest.mark.parametrize("inference", [True, False])
def test_batch_norm(mode, inference):
    model, state = eqx.nn.make_with_state(_Normalised)(mode)
    if inference:
        model = eqx.nn.inference_mode(model)

    def fn(weights, xs):
        model, state = weights
        batched = jax.vmap(
            model, axis_name="batch", in_axes=(0, None), out_axes=(0, None)
        )
        return batched(xs, state)[0]

    spec = {
        "[0].first.weight": ("h", None),
        "[0].first.bias": ("h",),
        "[0].norm.weight": ("h",),
        "[0].norm.bias": ("h",),
        "[0].last.weight": (None, "h"),
        "[0].last.bias": (None,),
    }
    # The running mean and variance; what is not used has no group.
    unused = mode == "batch" and not inference
    for i in range(2):
        spec[f"[1][<flat index 1>][{i}]"] = (None if unused else "h",)
    space = infer_weight_space(fn, (model, state), numbers(7, 3))
    assert_group(space, spec)
    assert space.unknown_primitives == ()
    weights = draw((model, state))
    # Variances are positive.
    state = jax.tree.map(
        lambda x: x * x + 1.0 if eqx.is_inexact_array(x) else x, weights[1]
    )
    assert_preserved(space, fn, (weights[0], state), [numbers(7, 3)])


class _Recurrent(eqx.Module):
    cell: Any
    head: eqx.nn.Linear
    units: int = eqx.field(static=True)

    def __init__(self, cell):
        self.cell = cell
        self.units = cell.hidden_size
        self.head = eqx.nn.Linear(self.units, 2, key=_KEY)

    def __call__(self, xs):
        start = jnp.zeros((self.units,))
        if isinstance(self.cell, eqx.nn.LSTMCell):
            start = (start, start)
        last, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), start, xs)
        return self.head(last[0] if isinstance(last, tuple) else last)


_GATED = {
    ".cell.weight_ih": (("gates", "h"), None),
    ".cell.weight_hh": (("gates", "h"), "h"),
    ".cell.bias": (("gates", "h"),),
    ".head.weight": (None, "h"),
    ".head.bias": (None,),
}


def _gates(number, spec):
    return {
        path: tuple((number, "h") if axis == ("gates", "h") else axis for axis in axes)
        for path, axes in spec.items()
    }


@pytest.mark.parametrize("units", [3, 4])
def test_gru(units):
    model = _Recurrent(eqx.nn.GRUCell(4, units, key=_KEY))
    spec = _gates(3, _GATED | {".cell.bias_n": ("h",)})
    space = check_module(model, [numbers(5, 4)], spec)
    assert "split" in dict(space.reasons).values()


@pytest.mark.parametrize("units", [4])
def test_lstm(units):
    model = _Recurrent(eqx.nn.LSTMCell(4, units, key=_KEY))
    check_module(model, [numbers(5, 4)], _gates(4, _GATED))


def test_state_that_is_an_input_is_fixed():
    cell = eqx.nn.GRUCell(4, 3, key=_KEY)
    space = infer_weight_space(cell, numbers(4), numbers(3))
    assert space.groups == {}
    assert {"input 0", "input 1"} <= set(dict(space.reasons).values())


def test_deep_recurrent_network_has_a_group_for_each_layer():
    def fn(weights, xs):
        for layer in ("a", "b"):
            w = weights[layer]

            def step(h, x, w=w):
                h = jnp.tanh(w["i"] @ x + w["h"] @ h)
                return h, h

            _, xs = jax.lax.scan(step, jnp.zeros(w["h"].shape[:1]), xs)
        return xs[-1] @ weights["o"]

    weights = {
        "a": {"i": numbers(4, 3), "h": numbers(4, 4)},
        "b": {"i": numbers(5, 4), "h": numbers(5, 5)},
        "o": numbers(5, 2),
    }
    spec = {
        "['a']['i']": ("a", None),
        "['a']['h']": ("a", "a"),
        "['b']['i']": ("b", "a"),
        "['b']['h']": ("b", "b"),
        "['o']": ("b", None),
    }
    check(fn, draw(weights), [numbers(6, 3)], spec)
