"""The weight spaces that the layers are measured on."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp

import wsl
from wsl import WeightSpace


def perceptron(sizes: list[int], *, free: bool) -> WeightSpace:
    """Weights `w0, w1, ...` and biases `b0, b1, ...` of a perceptron.

    With `free` all axes may move (NFN's "NP"), else only hidden units ("HNP").
    """
    names = ["in", *(f"hidden{i}" for i in range(1, len(sizes) - 1)), "out"]
    weights, spec = {}, {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        weights[f"w{i}"] = jax.ShapeDtypeStruct((fan_out, fan_in), jnp.float32)
        weights[f"b{i}"] = jax.ShapeDtypeStruct((fan_out,), jnp.float32)
        spec[f"['w{i}']"] = (names[i + 1], names[i])
        spec[f"['b{i}']"] = (names[i + 1],)
    space = WeightSpace.from_spec(weights, spec, fixed=["in", "out"])
    return space.unfix("in", "out") if free else space


class _Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell
    head: eqx.nn.Linear

    def __call__(self, inputs):
        state = jnp.zeros(self.cell.hidden_size)
        state, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), state, inputs)
        return self.head(state)


def gru() -> WeightSpace:
    """A GRU of 32 units on 8 inputs, and a linear head."""
    keys = jax.random.split(jax.random.key(0))
    model = _Recurrent(
        eqx.nn.GRUCell(8, 32, key=keys[0]), eqx.nn.Linear(32, 4, key=keys[1])
    )
    return wsl.infer_weight_space(model, jnp.zeros((5, 8)))


class _Block(eqx.Module):
    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP

    def __init__(self, size, heads, width, *, key):
        keys = jax.random.split(key)
        self.norms = eqx.nn.LayerNorm(size), eqx.nn.LayerNorm(size)
        self.attention = eqx.nn.MultiheadAttention(
            heads,
            size,
            use_query_bias=True,
            use_key_bias=True,
            use_value_bias=True,
            use_output_bias=True,
            key=keys[0],
        )
        self.mlp = eqx.nn.MLP(size, size, width, 1, jax.nn.gelu, key=keys[1])

    def __call__(self, x):
        y = jax.vmap(self.norms[0])(x)
        x = x + self.attention(y, y, y)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norms[1])(x))


class _Transformer(eqx.Module):
    embedding: eqx.nn.Linear
    blocks: list[_Block]
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __call__(self, tokens):
        x = jax.vmap(lambda t: self.embedding.weight @ t)(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean(0)))


def transformer(blocks: int) -> WeightSpace:
    """Blocks of 4 heads on a stream of 16, width 32, with biases everywhere."""
    keys = jax.random.split(jax.random.key(0), blocks + 2)
    model = _Transformer(
        eqx.nn.Linear(8, 16, use_bias=False, key=keys[0]),
        [_Block(16, 4, 32, key=key) for key in keys[2:]],
        eqx.nn.LayerNorm(16),
        eqx.nn.Linear(16, 4, key=keys[1]),
    )
    return wsl.infer_weight_space(model, jnp.zeros((5, 8)))
