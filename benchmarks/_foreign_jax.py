"""Functions of JAX whose axes are sums of index sets, each with its whole group."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Case(NamedTuple):
    """A model to infer.

    Attributes:
        make: Gives a function, its weights and its inputs.
        groups: Sizes of the groups of its whole group, by hand.
        linear: The groups of linear maps, by hand, once gains are folded.
    """

    make: Callable[[], tuple[Callable[..., Any], Any, tuple[Any, ...]]]
    groups: tuple[int, ...]
    linear: tuple[str, ...] = ()


def _numbers(*shape: int) -> jax.Array:
    random = np.random.default_rng(sum(shape))
    scale = 1 / np.sqrt(shape[-2] if len(shape) > 1 else 4)
    return jnp.asarray(scale * random.standard_normal(shape), jnp.float32)


def _relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0.0)


def _critic() -> Any:
    def fn(p: Any, s: Any, a: Any) -> Any:
        hidden = _relu(s @ p["first"])
        return _relu(jnp.concatenate([hidden, a]) @ p["second"]) @ p["last"]

    weights = {
        "first": _numbers(5, 16),
        "second": _numbers(18, 8),
        "last": _numbers(8, 1),
    }
    return fn, weights, (_numbers(5), _numbers(2))


def _dense() -> Any:
    def fn(p: Any, x: Any) -> Any:
        parts = [x]
        for w in p[:-1]:
            parts.append(_relu(jnp.concatenate(parts) @ w))
        return jnp.concatenate(parts) @ p[-1]

    weights = [_numbers(5 + 8 * i, 8) for i in range(3)] + [_numbers(29, 2)]
    return fn, weights, (_numbers(5),)


def _unet() -> Any:
    def conv(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")

    def fn(p: Any, x: Any) -> Any:
        a = _relu(conv(x, p["a"]))
        window = (1, 1, 2, 2)
        low = jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, window, window, "VALID")
        b = jnp.repeat(jnp.repeat(_relu(conv(low, p["b"])), 2, 2), 2, 3)
        return conv(jnp.concatenate([a, b], 1), p["out"])

    weights = {
        "a": _numbers(8, 3, 3, 3),
        "b": _numbers(16, 8, 3, 3),
        "out": _numbers(2, 24, 1, 1),
    }
    return fn, weights, (_numbers(1, 3, 8, 8),)


def _lstm() -> Any:
    def fn(p: Any, xs: Any) -> Any:
        def cell(carry: Any, x: Any) -> Any:
            h, c = carry
            gates = jnp.concatenate([x, h]) @ p["w"] + p["b"]
            i, f, o, u = jnp.split(gates, 4)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        (h, _), _ = jax.lax.scan(cell, (jnp.zeros(12), jnp.zeros(12)), xs)
        return h @ p["out"]

    weights = {"w": _numbers(17, 48), "b": _numbers(48), "out": _numbers(12, 2)}
    return fn, weights, (_numbers(7, 5),)


def _halves() -> Any:
    def fn(p: Any, x: Any) -> Any:
        h = _relu(x @ p["w"])
        return h[:6] @ p["u"] + h[6:] @ p["v"]

    weights = {"w": _numbers(5, 16), "u": _numbers(6, 2), "v": _numbers(10, 2)}
    return fn, weights, (_numbers(5),)


def _fused() -> Any:
    def fn(p: Any, x: Any) -> Any:
        x = x @ p["in"]
        parts = jnp.split(x @ p["qkv"], 3, axis=1)
        q, k, v = (part.reshape(len(x), 2, 4) for part in parts)
        scores = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k))
        y = jnp.einsum("hts,shd->thd", scores, v).reshape(len(x), 8)
        return (x + y @ p["o"]) @ p["out"]

    weights = {
        "in": _numbers(3, 8),
        "qkv": _numbers(8, 24),
        "o": _numbers(8, 8),
        "out": _numbers(8, 2),
    }
    return fn, weights, (_numbers(5, 3),)


def _grouped() -> Any:
    def fn(p: Any, x: Any) -> Any:
        x, n = x @ p["in"], len(x)
        y = x @ p["qkv"]
        q = y[:, :16].reshape(n, 2, 2, 4)
        k, v = y[:, 16:24].reshape(n, 2, 4), y[:, 24:].reshape(n, 2, 4)
        scores = jax.nn.softmax(jnp.einsum("tgqd,sgd->gqts", q, k))
        y = jnp.einsum("gqts,sgd->tgqd", scores, v).reshape(n, 16)
        return (x + y @ p["o"]) @ p["out"]

    weights = {
        "in": _numbers(3, 8),
        "qkv": _numbers(8, 32),
        "o": _numbers(16, 8),
        "out": _numbers(8, 2),
    }
    return fn, weights, (_numbers(5, 3),)


def _scan() -> Any:
    def fn(p: Any, x: Any) -> Any:
        layer = lambda h, w: (_relu(h @ w), None)
        h, _ = jax.lax.scan(layer, _relu(x @ p["in"]), p["layers"])
        return h @ p["out"]

    weights = {
        "in": _numbers(5, 16),
        "layers": _numbers(4, 16, 16),
        "out": _numbers(16, 2),
    }
    return fn, weights, (_numbers(5),)


def _ensemble() -> Any:
    def fn(p: Any, x: Any) -> Any:
        member = lambda w, b, out: _relu(x @ w + b) @ out
        return jax.vmap(member)(p["w"], p["b"], p["out"])

    weights = {"w": _numbers(4, 5, 8), "b": _numbers(4, 8), "out": _numbers(4, 8, 2)}
    return fn, weights, (_numbers(5),)


JAX_CASES: dict[str, Case] = {
    "critic, action appended to 16 units": Case(_critic, (8, 16)),
    "DenseNet, growth 8": Case(_dense, (8, 8, 8)),
    "U-Net, skip of 8 beside 16": Case(_unet, (8, 16)),
    "LSTM, one matrix on inputs and states": Case(_lstm, (12,)),
    "one layer cut into 6 and 10": Case(_halves, (6, 10)),
    # Without a norm any invertible map of the stream will do.
    "attention, fused QKV": Case(
        _fused, (2, 4, 4, 8), ("GL(8)", "GL(4) in 2", "GL(4) in 2")
    ),
    "attention, fused, grouped queries": Case(
        _grouped, (2, 2, 4, 4, 8), ("GL(8)", "GL(4) in 2", "GL(4) in 2")
    ),
    "scan over four layers, no residual": Case(_scan, (16, 16, 16, 16, 16)),
    "ensemble of four under vmap": Case(_ensemble, (8, 8, 8, 8)),
}
