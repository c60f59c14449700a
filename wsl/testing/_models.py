"""Small networks of every common kind, whose symmetries are known."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


@final
class Perceptron(eqx.Module):
    """Linear layers of any widths, with silu between them."""

    linears: tuple[eqx.nn.Linear, ...]

    def __init__(self, sizes: tuple[int, ...], use_bias: bool, *, key: PRNGKeyArray):
        keys = jr.split(key, len(sizes) - 1)
        self.linears = tuple(
            eqx.nn.Linear(n, m, use_bias=use_bias, key=subkey)
            for n, m, subkey in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        for linear in self.linears[:-1]:
            x = jax.nn.silu(linear(x))
        return self.linears[-1](x)


@final
class Residual(eqx.Module):
    """A perceptron with a residual stream, and norms before its blocks."""

    embedding: eqx.nn.Linear
    norms: tuple[eqx.nn.LayerNorm | eqx.nn.RMSNorm, ...]
    rises: tuple[eqx.nn.Linear, ...]
    falls: tuple[eqx.nn.Linear, ...]
    readout: eqx.nn.Linear

    def __init__(
        self,
        stream: int,
        hidden: int,
        depth: int,
        norm: type[eqx.nn.LayerNorm] | type[eqx.nn.RMSNorm],
        *,
        key: PRNGKeyArray,
    ):
        first, *keys, last = jr.split(key, 2 * depth + 2)
        self.embedding = eqx.nn.Linear(3, stream, key=first)
        self.norms = tuple(norm(stream) for _ in range(depth))
        self.rises = tuple(eqx.nn.Linear(stream, hidden, key=k) for k in keys[::2])
        self.falls = tuple(eqx.nn.Linear(hidden, stream, key=k) for k in keys[1::2])
        self.readout = eqx.nn.Linear(stream, 2, key=last)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        x = self.embedding(x)
        for norm, rise, fall in zip(self.norms, self.rises, self.falls, strict=True):
            x = x + fall(jax.nn.silu(rise(norm(x))))
        return self.readout(x)


@final
class Convolutional(eqx.Module):
    """Two convolutions, average pooling, and a linear layer on the flat feature map."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    pool: eqx.nn.AvgPool2d
    readout: eqx.nn.Linear

    def __init__(self, channels: tuple[int, int], *, key: PRNGKeyArray):
        one, two, three = jr.split(key, 3)
        self.first = eqx.nn.Conv2d(2, channels[0], 3, padding=1, key=one)
        self.second = eqx.nn.Conv2d(*channels, 3, padding=1, key=two)
        self.pool = eqx.nn.AvgPool2d(2, 2)
        self.readout = eqx.nn.Linear(channels[1] * 4, 2, key=three)

    def __call__(self, image: Float[Array, "2 4 4"]) -> Float[Array, " outputs"]:
        x = jax.nn.silu(self.first(image))
        x = self.pool(jax.nn.silu(self.second(x)))
        return self.readout(x.ravel())


@final
class Recurrent(eqx.Module):
    """A GRU or an LSTM along a sequence, and a linear layer on its last state."""

    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell
    readout: eqx.nn.Linear

    def __init__(
        self,
        cell: type[eqx.nn.GRUCell] | type[eqx.nn.LSTMCell],
        units: int,
        *,
        key: PRNGKeyArray,
    ):
        one, two = jr.split(key)
        self.cell = cell(2, units, key=one)
        self.readout = eqx.nn.Linear(units, 2, key=two)

    def __call__(self, sequence: Float[Array, "time 2"]) -> Float[Array, " outputs"]:
        zero = jnp.zeros(self.cell.hidden_size, sequence.dtype)
        state: Any = (zero, zero) if isinstance(self.cell, eqx.nn.LSTMCell) else zero
        step: Callable = self.cell
        state, _ = jax.lax.scan(lambda s, x: (step(x, s), None), state, sequence)
        return self.readout(state[0] if isinstance(state, tuple) else state)


@final
class Attending(eqx.Module):
    """A transformer block on embedded tokens, and a linear layer on their mean."""

    embedding: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    mlp: Perceptron
    readout: eqx.nn.Linear

    def __init__(self, stream: int, heads: int, head_size: int, *, key: PRNGKeyArray):
        one, two, three, four = jr.split(key, 4)
        self.embedding = eqx.nn.Linear(2, stream, key=one)
        self.norm = eqx.nn.LayerNorm(stream)
        self.attention = eqx.nn.MultiheadAttention(
            heads, stream, qk_size=head_size, vo_size=head_size + 1, key=two
        )
        self.mlp = Perceptron((stream, 5, stream), True, key=three)
        self.readout = eqx.nn.Linear(stream, 2, key=four)

    def __call__(self, tokens: Float[Array, "time 2"]) -> Float[Array, " outputs"]:
        x = jax.vmap(self.embedding)(tokens)
        normed = jax.vmap(self.norm)(x)
        x = x + self.attention(normed, normed, normed)
        x = x + jax.vmap(self.mlp)(x)
        return self.readout(x.mean(0))
