"""Weight-space attention: against its definition, and no symmetry too many."""

import functools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import examples
from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    broken_by_most,
    distance,
    draw_features,
    FACTORED,
    MLP,
    MOVED,
    NESTED,
    RECURRENT,
    SMALL,
    SPACES,
    uneven,
)
from wsl import WeightSpace
from wsl.nn import WeightSpaceAttention


def _layer(space, channels, num_heads=2, **kwargs):
    """With biases that are not zero, as after training."""
    layer = WeightSpaceAttention(space, channels, num_heads, key=jr.key(0), **kwargs)
    random = np.random.default_rng(3)
    return eqx.tree_at(
        lambda l: l.biases,
        layer,
        tuple(array(random.standard_normal(b.shape), b.dtype) for b in layer.biases),
    )


def _sharp(features):
    """Features with sharp scores: uniform weights would hide errors in them."""
    return jax.tree.map(lambda x: array(3 * np.asarray(x)), features)


@functools.cache
def _layers(name):
    return _layer(SPACES[name], uneven(SPACES[name]))


@pytest.mark.parametrize(
    "name", ["mlp", "recurrent", "factored", "nested", "deep", "frozen"]
)
@examples(8)
@given(seed=st.integers(0, 2**31 - 1))
def test_commutes(name, seed):
    space = SPACES[name]
    channels = uneven(space)
    features = _sharp(draw_features(space, channels, seed))
    assert_commutes(_layers(name), space, features, [seed])


def test_health():
    assert_healthy(_layer(SMALL, 2), SMALL, 2)
    mixed = draw_features(MLP, 2, 0)
    mixed["w0"] = mixed["w0"].astype(jnp.bfloat16)
    result = jax.eval_shape(_layer(MLP, 2), mixed)
    assert {k: x.dtype for k, x in result.items()} == {
        k: x.dtype for k, x in mixed.items()
    }


def _loosened(space, spec, **kwargs):
    """The same leaves under another group."""
    weights = space.unflatten(jnp.zeros(space.size))
    return WeightSpace.from_spec(weights, spec, **kwargs)


_LOOSER = {
    "inputs": (MLP, MLP.unfix("in")),
    "outputs": (MLP, MLP.unfix("out")),
    # The hidden units of one leaf without those of the others.
    "uncoupled": (
        MLP,
        _loosened(
            MLP,
            {
                "['b0']": ("h0",),
                "['b1']": (None,),
                "['b2']": (None,),
                "['w0']": ("h0", None),
                "['w1']": (None, "alone"),
                "['w2']": (None, None),
            },
        ),
    ),
    # Rows of recurrent weights without their columns.
    "rows": (
        RECURRENT,
        _loosened(
            RECURRENT,
            {
                "['b']": (None,),
                "['o']": (None, None),
                "['s']": (),
                "['u']": (None, None),
                "['w']": ("rows", None),
            },
        ),
    ),
    # The units of one gate by themselves.
    "gates": (
        FACTORED,
        _loosened(
            FACTORED,
            {
                "['bias']": ("any",),
                "['gates']": ("any", None),
                "['head']": (None, None),
                "['one']": (None, None),
            },
        ),
    ),
    # Units in both heads alike on one leaf, but not on the others.
    "heads": (
        NESTED,
        _loosened(
            NESTED,
            {
                "['both']": (None,),
                "['o']": (None, "any"),
                "['pair']": ("any", "any"),
                "['q']": ("any", None),
                "['scale']": (None,),
                "['v']": (None, None),
            },
        ),
    ),
}


@pytest.mark.parametrize("name", _LOOSER)
def test_no_symmetry_too_many(name):
    space, group = _LOOSER[name]
    features = _sharp(draw_features(space, 2, 0))
    layer = _layer(space, 2)
    assert broken_by_most(layer, space, features, group=group) > MOVED


def test_recurrent_weights_are_not_their_transpose():
    layer = _layer(RECURRENT, 2)
    features = draw_features(RECURRENT, 2, 0)
    turned = {**features, "w": array(np.swapaxes(features["w"], 0, 1))}
    result = np.swapaxes(call(layer, features)["w"], 0, 1)
    assert np.abs(call(layer, turned)["w"] - result).max() > MOVED


def _softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def test_against_the_equation():
    """One hidden layer, term by term and token by token."""
    space = WeightSpace.from_spec(
        {"b": jnp.zeros(4), "v": jnp.zeros((3, 4)), "w": jnp.zeros((4, 2))},
        {"['b']": ("h",), "['v']": ("g", "h"), "['w']": ("h", None)},
    )
    layer = _layer(space, 2, head_channels=3)
    drawn = draw_features(space, 2, 0)
    features = {k: 2 * np.asarray(x, float) for k, x in drawn.items()}
    inputs, summaries, outputs, biases = (
        dict(zip("bvw", (np.asarray(p, float) for p in part), strict=True))
        for part in (layer.inputs, layer.summaries, layer.outputs, layer.biases)
    )
    heads, d = 2, 3
    # The two inputs of `w` are channels: entry i of it is w[i] as one vector.
    entries = {"b": features["b"], "v": features["v"], "w": features["w"].reshape(4, 4)}

    def project(leaf, x, number, head):
        at = (number * heads + head) * d
        return x @ inputs[leaf][:, at : at + d]

    # Tokens over h: the bias, each row of v, and w with its inputs in channels.
    tokens_h = [("b", 0, entries["b"]), ("w", 0, entries["w"])]
    tokens_h += [("v", 1, entries["v"][row]) for row in range(3)]
    # Tokens over g: each column of v.
    tokens_g = [("v", 0, entries["v"][:, column]) for column in range(4)]

    def attend(tokens, query, head) -> np.ndarray:
        leaf, slot, x = query
        q = project(leaf, x, 3 * slot, head)
        scores = [
            (q * project(other, y, 3 * s + 1, head)).sum() / np.sqrt(q.size)
            for other, s, y in tokens
        ]
        values = [project(other, y, 3 * s + 2, head) for other, s, y in tokens]
        weights = _softmax(np.array(scores))
        return np.tensordot(weights, np.stack(values), 1)

    means = {
        leaf: x.mean(tuple(range(x.ndim - 1))) @ summaries[leaf]
        for leaf, x in entries.items()
    }

    def attend_to_means(leaf, x, head):
        q = project(leaf, x, 3 * (x.ndim and {"b": 1, "v": 2, "w": 1}[leaf]), head)
        at = head * d
        keys = np.stack([means[k][at : at + d] for k in "bvw"])
        values = np.stack(
            [means[k][heads * d + at : heads * d + at + d] for k in "bvw"]
        )
        return _softmax(keys @ q / np.sqrt(d)) @ values

    given = {k: array(x) for k, x in features.items()}
    result = jax.tree.map(np.asarray, call(layer, given))
    both = range(heads)
    for i in range(4):
        for leaf in "bw":
            token = (leaf, 0, entries[leaf])
            terms = [attend(tokens_h, token, head)[i] for head in both]
            terms += [attend_to_means(leaf, entries[leaf][i], head) for head in both]
            expected = np.concatenate(terms) @ outputs[leaf] + biases[leaf]
            np.testing.assert_allclose(
                result[leaf][i].reshape(-1), expected, rtol=1e-4, atol=1e-5
            )
        for row in range(3):
            x = entries["v"]
            terms = [attend(tokens_g, ("v", 0, x[:, i]), head)[row] for head in both]
            terms += [attend(tokens_h, ("v", 1, x[row]), head)[i] for head in both]
            terms += [attend_to_means("v", x[row, i], head) for head in both]
            expected = np.concatenate(terms) @ outputs["v"] + biases["v"]
            np.testing.assert_allclose(
                result["v"][row, i], expected, rtol=1e-4, atol=1e-5
            )


def test_nested_group_by_one_head():
    """With one head, a nested group is a plain one."""
    leaves = {"b": jnp.zeros(3), "w": jnp.zeros((3, 2))}
    nested = WeightSpace.from_spec(
        leaves,
        {"['b']": (("heads", "units"),), "['w']": (("heads", "units"), "g")},
        nested={"units": "heads"},
        sizes={"heads": 1},
    )
    features = draw_features(nested, 2, 0)
    layer = WeightSpaceAttention(nested, 2, 1, key=jr.key(0))
    plain_space = WeightSpace.from_spec(
        leaves, {"['b']": ("units",), "['w']": ("units", "g")}
    )
    plain = WeightSpaceAttention(plain_space, 2, 1, key=jr.key(0))
    # The layer over units, without the term over heads.
    cut = lambda w, drop: array(np.delete(w, np.asarray(drop), axis=1))
    width = 2
    over_heads = np.arange(3 * width)
    kept = lambda w: (np.arange(len(w)) >= width)[:, None]
    silent = jax.tree.map(lambda w: array(np.asarray(w) * kept(w)), layer.outputs)
    layer = eqx.tree_at(lambda l: l.outputs, layer, silent)
    plain = eqx.tree_at(
        lambda l: (l.inputs, l.summaries, l.outputs),
        plain,
        (
            tuple(cut(w, over_heads) for w in layer.inputs),
            layer.summaries,
            tuple(array(np.asarray(w)[width:]) for w in silent),
        ),
    )
    assert distance(call(layer, features), call(plain, features)) < 1e-5


def test_errors():
    with pytest.raises(ValueError, match="3 channels cannot be divided into 2 heads"):
        WeightSpaceAttention(MLP, 3, 2, key=jr.key(0))
    with pytest.raises(ValueError, match="positive"):
        WeightSpaceAttention(MLP, 3, 0, head_channels=2, key=jr.key(0))
    with pytest.raises(ValueError, match="'b0'"):
        _layer(MLP, 2)(draw_features(MLP, 4, 0))
