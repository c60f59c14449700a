"""Attention, transformers, embeddings, tied weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.infer.helpers import assert_preserved, check, check_module, draw, numbers
from wsl import infer_weight_space


_KEY = jax.random.key(0)


def _attention_spec(prefix, stream_in, stream_out, number="", *, bias=False):
    heads, qk, vo = f"heads{number}", f"qk{number}", f"vo{number}"
    spec = {
        f"{prefix}.query_proj.weight": ((heads, qk), stream_in),
        f"{prefix}.key_proj.weight": ((heads, qk), stream_in),
        f"{prefix}.value_proj.weight": ((heads, vo), stream_in),
        f"{prefix}.output_proj.weight": (stream_out, (heads, vo)),
    }
    if bias:
        spec[f"{prefix}.query_proj.bias"] = ((heads, qk),)
        spec[f"{prefix}.key_proj.bias"] = ((heads, qk),)
        spec[f"{prefix}.value_proj.bias"] = ((heads, vo),)
        spec[f"{prefix}.output_proj.bias"] = (stream_out,)
    return spec


def _nesting(numbers_=("",)):
    return {f"{unit}{i}": f"heads{i}" for i in numbers_ for unit in ("qk", "vo")}


@pytest.mark.parametrize("bias", [True, False])
def test_multihead_attention(bias):
    attention = eqx.nn.MultiheadAttention(
        2,
        6,
        qk_size=4,
        vo_size=3,
        use_query_bias=bias,
        use_key_bias=bias,
        use_value_bias=bias,
        use_output_bias=bias,
        key=_KEY,
    )
    space = check(
        lambda m, x: m(x, x, x),
        attention,
        [numbers(5, 6)],
        _attention_spec("", None, None, bias=bias),
        nested=_nesting(),
        sizes={"heads": 2},
    )
    assert space.element_shapes() == {"g0": (2,), "g1": (2, 4), "g2": (2, 3)}


def test_masked_and_cross_attention():
    attention = eqx.nn.MultiheadAttention(2, 4, key_size=3, value_size=5, key=_KEY)
    check_module(
        attention,
        [numbers(5, 4), numbers(6, 3), numbers(6, 5), jnp.tri(5, 6) > 0],
        _attention_spec("", None, None),
        nested=_nesting(),
        sizes={"heads": 2},
    )


def test_one_head_has_units_only():
    attention = eqx.nn.MultiheadAttention(1, 4, key=_KEY)
    check(
        lambda m, x: m(x, x, x),
        attention,
        [numbers(5, 4)],
        {
            ".query_proj.weight": ("qk", None),
            ".key_proj.weight": ("qk", None),
            ".value_proj.weight": ("vo", None),
            ".output_proj.weight": (None, "vo"),
        },
    )


class _Block(eqx.Module):
    norms: list
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, size, hidden):
        self.norms = [eqx.nn.LayerNorm(size), eqx.nn.LayerNorm(size)]
        self.attention = eqx.nn.MultiheadAttention(2, size, key=_KEY)
        self.up = eqx.nn.Linear(size, hidden, key=_KEY)
        self.down = eqx.nn.Linear(hidden, size, key=_KEY)

    def __call__(self, x):
        y = jax.vmap(self.norms[0])(x)
        mask = jnp.tri(len(x)) > 0
        x = x + self.attention(y, y, y, mask=mask)
        y = jax.vmap(self.up)(jax.vmap(self.norms[1])(x))
        return x + jax.vmap(self.down)(jax.nn.gelu(y))


def _block_spec(prefix, number, stream):
    return {
        **{
            f"{prefix}.norms[{i}].{leaf}": (stream,)
            for i in range(2)
            for leaf in ("weight", "bias")
        },
        **_attention_spec(f"{prefix}.attention", stream, stream, number),
        f"{prefix}.up.weight": (f"h{number}", stream),
        f"{prefix}.up.bias": (f"h{number}",),
        f"{prefix}.down.weight": (stream, f"h{number}"),
        f"{prefix}.down.bias": (stream,),
    }


def test_block_with_the_stream_as_input():
    space = check_module(
        _Block(4, 5),
        [numbers(3, 4)],
        _block_spec("", "", None),
        nested=_nesting(),
        sizes={"heads": 2},
    )
    # One name for the stream, wherever it is.
    assert "f0" in space.fixed
    assert len(space.fixed) == 1


class _Transformer(eqx.Module):
    tokens: eqx.nn.Embedding
    positions: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear | None

    def __init__(self, *, tied=False, size=4, hidden=5, blocks=2, length=8):
        self.tokens = eqx.nn.Embedding(7, size, key=_KEY)
        self.positions = numbers(length, size)
        self.blocks = [_Block(size, hidden) for _ in range(blocks)]
        self.norm = eqx.nn.LayerNorm(size)
        self.head = None if tied else eqx.nn.Linear(size, 7, key=_KEY)

    def __call__(self, tokens):
        x = jax.vmap(self.tokens)(tokens) + self.positions[: len(tokens)]
        for block in self.blocks:
            x = block(x)
        x = jax.vmap(self.norm)(x)
        if self.head is None:
            return x @ self.tokens.weight.T
        return jax.vmap(self.head)(x)


@pytest.mark.parametrize("tied", [True, False])
def test_transformer_with_two_blocks(tied):
    spec = {
        ".tokens.weight": (None, "stream"),
        ".positions": (None, "stream"),
        ".norm.weight": ("stream",),
        ".norm.bias": ("stream",),
        **_block_spec(".blocks[0]", 0, "stream"),
        **_block_spec(".blocks[1]", 1, "stream"),
    }
    if not tied:
        spec |= {".head.weight": (None, "stream"), ".head.bias": (None,)}
    check_module(
        _Transformer(tied=tied),
        [jnp.arange(5)],
        spec,
        nested=_nesting((0, 1)),
        sizes={"heads0": 2, "heads1": 2},
    )


def test_axes_of_their_own_for_heads_and_units():
    def fn(w, x):
        q, k, v = (jnp.einsum("te,ehd->thd", x, w[name]) for name in "qkv")
        scores = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k), axis=-1)
        y = jnp.einsum("hts,shd->thd", scores, v) + w["b"][None]
        return jnp.einsum("thd,hde->te", y, w["o"])

    weights = {
        "q": numbers(4, 2, 3),
        "k": numbers(4, 2, 3),
        "v": numbers(4, 2, 3),
        "b": numbers(2, 3),
        "o": numbers(2, 3, 4),
    }
    spec = {
        "['q']": (None, "heads", "qk"),
        "['k']": (None, "heads", "qk"),
        "['v']": (None, "heads", "vo"),
        "['b']": ("heads", "vo"),
        "['o']": ("heads", "vo", None),
    }
    check(fn, draw(weights), [numbers(5, 4)], spec, nested=_nesting())


def test_grouped_queries_lie_in_the_group_of_their_keys():
    def fn(w, x):
        q = (x @ w["q"]).reshape(len(x), 2, 3, 4)  # key heads, queries each, units
        k = (x @ w["k"]).reshape(len(x), 2, 4)
        v = (x @ w["v"]).reshape(len(x), 2, 4)
        scores = jax.nn.softmax(jnp.einsum("tgqd,sgd->gqts", q, k), axis=-1)
        y = jnp.einsum("gqts,sgd->tgqd", scores, v)
        return y.reshape(len(x), -1) @ w["o"]

    weights = {
        "q": numbers(5, 24),
        "k": numbers(5, 8),
        "v": numbers(5, 8),
        "o": numbers(24, 5),
    }
    spec = {
        "['q']": (None, ("group", "query", "qk")),
        "['k']": (None, ("group", "qk")),
        "['v']": (None, ("group", "vo")),
        "['o']": (("group", "query", "vo"), None),
    }
    nested = {"query": "group", "qk": "group", "vo": "group"}
    sizes = {"group": 2, "query": 3, "qk": 4, "vo": 4}
    check(fn, draw(weights), [numbers(6, 5)], spec, nested=nested, sizes=sizes)


def test_scale_shared_by_heads_leaves_a_product():
    def fn(w, x):
        q, k = (
            (x @ w[name]).reshape(len(x), 2, 3) * w["scale"][None, None]
            for name in "qk"
        )
        scores = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k), axis=-1)
        return jnp.einsum("hts,sh->th", scores, x[:, :2]) @ w["o"]

    weights = {
        "q": numbers(4, 6),
        "k": numbers(4, 6),
        "scale": numbers(3),
        "o": numbers(2, 2),
    }
    space = infer_weight_space(fn, draw(weights), numbers(5, 4))
    assert space.nested == ()
    # Heads are the columns of the input here; the units of all heads move together.
    assert list(space.groups.values()) == [3]
    assert_preserved(space, fn, draw(weights), [numbers(5, 4)])


def test_rotary_embedding_fixes_units_and_leaves_heads():
    rope = eqx.nn.RotaryPositionalEmbedding(4)
    attention = eqx.nn.MultiheadAttention(2, 8, key=_KEY)

    def rotate(q, k, v):
        return (
            jax.vmap(rope, in_axes=1, out_axes=1)(q),
            jax.vmap(rope, in_axes=1, out_axes=1)(k),
            v,
        )

    def fn(m, x):
        return m(x, x, x, process_heads=rotate)

    check(
        fn,
        attention,
        [numbers(5, 8)],
        {
            ".query_proj.weight": (("heads", 4), None),
            ".key_proj.weight": (("heads", 4), None),
            ".value_proj.weight": (("heads", "vo"), None),
            ".output_proj.weight": (None, ("heads", "vo")),
        },
        nested={"vo": "heads"},
        sizes={"heads": 2},
    )


def test_bias_that_differs_by_head_fixes_heads():
    slopes = np.array([0.5, 0.25], np.float32)

    def fn(w, x):
        q, k, v = ((x @ w[name]).reshape(len(x), 2, 3) for name in "qkv")
        distance = jnp.arange(len(x))[:, None] - jnp.arange(len(x))[None]
        scores = jnp.einsum("thd,shd->hts", q, k)
        scores = scores - slopes[:, None, None] * distance[None].astype(jnp.float32)
        y = jnp.einsum("hts,shd->thd", jax.nn.softmax(scores, axis=-1), v)
        return y.reshape(len(x), -1) @ w["o"]

    weights = {name: numbers(4, 6) for name in "qkv"} | {"o": numbers(6, 4)}
    space = infer_weight_space(fn, draw(weights), numbers(5, 4))
    # Of both heads, which nothing moves, q with k and v with the output.
    assert list(space.groups.values()) == [3, 3, 3, 3]
    assert space.nested == ()
    assert [piece.path for piece in space.leaves[0].pieces] == [
        "['k'][:, :3]",
        "['k'][:, 3:]",
    ]
    assert_preserved(space, fn, draw(weights), [numbers(5, 4)])


def test_embedding_used_twice_is_one_leaf():
    def fn(w, token):
        hidden = jnp.tanh(w["in"] @ w["table"][token])
        return w["table"] @ (w["out"] @ hidden)

    weights = {"table": numbers(7, 4), "in": numbers(5, 4), "out": numbers(4, 5)}
    spec = {"['table']": (None, "e"), "['in']": ("h", "e"), "['out']": ("e", "h")}
    check(fn, weights, [jnp.array(3)], spec)


def test_shared_node_of_equinox():
    class Model(eqx.Module):
        shared: eqx.nn.Shared

        def __init__(self):
            pair = (eqx.nn.Embedding(6, 4, key=_KEY), eqx.nn.Linear(4, 6, key=_KEY))
            self.shared = eqx.nn.Shared(
                pair, lambda pair: pair[1].weight, lambda pair: pair[0].weight
            )

        def __call__(self, token):
            embedding, linear = self.shared()
            return linear(embedding(token))

    model = Model()
    space = infer_weight_space(model, jnp.array(3))
    assert [x.shape for x in space.leaves] == [(6, 4), (6,)]
    assert space.groups == {"g0": 4}
    assert_preserved(space, lambda m, x: m(x), draw(model), [jnp.array(3)])
