"""Classifiers of digits, as functions of a dictionary of weights."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr


class Model(NamedTuple):
    """A kind of network.

    Attributes:
        make: From a key to weights; running statistics are under `"stats"`.
        run: From weights and images, `(batch, 8, 8)`, and whether in training, to
            logits and the weights with new statistics.
    """

    make: Callable[[Any], dict[str, Any]]
    run: Callable[..., tuple[jax.Array, dict[str, Any]]]


def _dense(key: Any, *shape: int) -> jax.Array:
    return jr.normal(key, shape) * math.sqrt(2.0 / math.prod(shape[:-1]))


def mlp(width: int) -> Model:
    """Two hidden layers of ReLUs."""

    def make(key: Any) -> dict[str, Any]:
        sizes = [64, width, width, 10]
        keys = jr.split(key, 3)
        return {
            "w": [
                _dense(k, *pair) for k, pair in zip(keys, _pairs(sizes), strict=True)
            ],
            "b": [jnp.zeros(n) for n in sizes[1:]],
        }

    def run(p: Any, x: jax.Array, training: bool = False) -> Any:
        x = x.reshape(len(x), -1)
        for i, (w, b) in enumerate(zip(p["w"], p["b"], strict=True)):
            x = x @ w + b
            x = jax.nn.relu(x) if i < 2 else x
        return x, p

    return Model(make, run)


def _pairs(sizes: list[int]) -> list[tuple[int, int]]:
    return list(zip(sizes[:-1], sizes[1:], strict=True))


def _layer_norm(p: Any, x: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * p["scale"] + p["offset"]


def _norm(size: int) -> dict[str, jax.Array]:
    return {"scale": jnp.ones(size), "offset": jnp.zeros(size)}


def residual(width: int = 64, hidden: int = 128, blocks: int = 3) -> Model:
    """A residual stream with layer norms."""

    def make(key: Any) -> dict[str, Any]:
        stem, head, *keys = jr.split(key, 2 + 2 * blocks)
        return {
            "stem": _dense(stem, 64, width),
            "blocks": [
                {
                    "norm": _norm(width),
                    "up": _dense(keys[2 * i], width, hidden),
                    "bias": jnp.zeros(hidden),
                    "down": 0.5 * _dense(keys[2 * i + 1], hidden, width),
                }
                for i in range(blocks)
            ],
            "norm": _norm(width),
            "head": _dense(head, width, 10),
        }

    def run(p: Any, x: jax.Array, training: bool = False) -> Any:
        x = x.reshape(len(x), -1) @ p["stem"]
        for block in p["blocks"]:
            y = jax.nn.relu(_layer_norm(block["norm"], x) @ block["up"] + block["bias"])
            x = x + y @ block["down"]
        return _layer_norm(p["norm"], x) @ p["head"], p

    return Model(make, run)


def convolutional(channels: int = 32) -> Model:
    """Three convolutions with batch norms, pooled."""

    def make(key: Any) -> dict[str, Any]:
        keys = jr.split(key, 4)
        sizes = [1, channels, channels, 2 * channels]
        return {
            "convs": [
                jr.normal(k, (n, m, 3, 3)) * math.sqrt(2.0 / (9 * m))
                for k, (m, n) in zip(keys, _pairs(sizes), strict=False)
            ],
            "norms": [_norm(n) for n in sizes[1:]],
            "stats": [
                {"mean": jnp.zeros(n), "variance": jnp.ones(n)} for n in sizes[1:]
            ],
            "head": _dense(keys[3], 2 * channels, 10),
            "bias": jnp.zeros(10),
        }

    def run(p: Any, x: jax.Array, training: bool = False) -> Any:
        x, stats = x[:, None], []
        for w, norm, old in zip(p["convs"], p["norms"], p["stats"], strict=True):
            x = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")
            mean, variance = old["mean"], old["variance"]
            if training:
                mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
                new = {"mean": mean, "variance": variance}
                old = jax.tree.map(lambda s, n: 0.9 * s + 0.1 * n, old, new)
            stats.append(old)
            scale = norm["scale"] * jax.lax.rsqrt(variance + 1e-5)
            shift = norm["offset"] - mean * scale
            x = jax.nn.relu(x * scale[:, None, None] + shift[:, None, None])
            if len(stats) < 3:
                window = (1, 1, 2, 2)
                x = jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, window, window, "VALID"
                )
        return x.mean((2, 3)) @ p["head"] + p["bias"], {**p, "stats": stats}

    return Model(make, run)


def transformer(width: int = 32, heads: int = 4, blocks: int = 2) -> Model:
    """Rows of an image as tokens; one matrix for queries, keys and values."""

    def make(key: Any) -> dict[str, Any]:
        stem, places, head, *keys = jr.split(key, 3 + 4 * blocks)
        return {
            "stem": _dense(stem, 8, width),
            "places": 0.1 * jr.normal(places, (8, width)),
            "blocks": [
                {
                    "norms": [_norm(width), _norm(width)],
                    "qkv": 0.7 * _dense(keys[4 * i], width, 3 * width),
                    "out": 0.5 * _dense(keys[4 * i + 1], width, width),
                    "up": _dense(keys[4 * i + 2], width, 2 * width),
                    "bias": jnp.zeros(2 * width),
                    "down": 0.5 * _dense(keys[4 * i + 3], 2 * width, width),
                }
                for i in range(blocks)
            ],
            "norm": _norm(width),
            "head": _dense(head, width, 10),
        }

    def run(p: Any, x: jax.Array, training: bool = False) -> Any:
        x = x @ p["stem"] + p["places"]
        for block in p["blocks"]:
            y = _layer_norm(block["norms"][0], x) @ block["qkv"]
            q, k, v = (
                part.reshape(*part.shape[:2], heads, -1)
                for part in jnp.split(y, 3, axis=-1)
            )
            scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
            y = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
            x = x + y.reshape(x.shape) @ block["out"]
            y = _layer_norm(block["norms"][1], x) @ block["up"] + block["bias"]
            x = x + jax.nn.relu(y) @ block["down"]
        return _layer_norm(p["norm"], x).mean(1) @ p["head"], p

    return Model(make, run)


def turnable(width: int = 32, heads: int = 4, blocks: int = 2) -> Model:
    """A transformer with root-mean-square norms, without gains; a matrix for each part.

    Its stream may be turned, and of a head queries with keys and values with outputs be
    mapped.
    """
    size = width // heads

    def make(key: Any) -> dict[str, Any]:
        stem, places, head, *keys = jr.split(key, 3 + 6 * blocks)

        def read(key: Any) -> jax.Array:
            return 0.7 * _dense(key, width, width).reshape(width, heads, size)

        return {
            "stem": _dense(stem, 8, width),
            "places": 0.1 * jr.normal(places, (8, width)),
            "blocks": [
                {
                    "q": read(keys[6 * i]),
                    "k": read(keys[6 * i + 1]),
                    "v": read(keys[6 * i + 2]),
                    "out": 0.5 * _dense(keys[6 * i + 3], heads, size, width),
                    "up": _dense(keys[6 * i + 4], width, 2 * width),
                    "bias": jnp.zeros(2 * width),
                    "down": 0.5 * _dense(keys[6 * i + 5], 2 * width, width),
                }
                for i in range(blocks)
            ],
            "head": _dense(head, width, 10),
        }

    def norm(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5)

    def run(p: Any, x: jax.Array, training: bool = False) -> Any:
        x = x @ p["stem"] + p["places"]
        for block in p["blocks"]:
            y = norm(x)
            q, k, v = (jnp.einsum("btw,whd->bthd", y, block[name]) for name in "qkv")
            scores = jnp.einsum("bthd,bshd->bhts", q, k) / math.sqrt(size)
            y = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
            x = x + jnp.einsum("bthd,hdw->btw", y, block["out"])
            hidden = jax.nn.relu(norm(x) @ block["up"] + block["bias"])
            x = x + hidden @ block["down"]
        return norm(x).mean(1) @ p["head"], p

    return Model(make, run)


MODELS: dict[str, Model] = {
    "MLP, width 64": mlp(64),
    "MLP, width 256": mlp(256),
    "MLP, width 512": mlp(512),
    "MLP, width 1024": mlp(1024),
    "residual, LayerNorm": residual(),
    "CNN, BatchNorm": convolutional(),
    "transformer": transformer(),
    "transformer, RMSNorm": turnable(),
}
