"""Permutations and linear maps undone together."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from wsl.matching import match_activations, match_jointly, match_linear


_SHAPES = {
    "stem": (4, 6),
    "q": (6, 2, 3),
    "k": (6, 2, 3),
    "v": (6, 2, 3),
    "o": (2, 3, 6),
    "up": (6, 5),
    "bias": (5,),
    "down": (5, 6),
    "head": (6, 3),
}


def _norm(x):
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def _transformer(weights, x):
    """A block of attention and one of units on a stream that may be turned."""
    x = x @ weights["stem"]
    q, k, v = (jnp.einsum("tw,whd->thd", _norm(x), weights[name]) for name in "qkv")
    seen = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k), axis=-1)
    x = x + jnp.einsum("hts,shd,hdw->tw", seen, v, weights["o"])
    hidden = jax.nn.relu(_norm(x) @ weights["up"] + weights["bias"][None])
    return _norm(x + hidden @ weights["down"]) @ weights["head"]


def _weights(seed):
    keys = jr.split(jr.key(seed), len(_SHAPES))
    pairs = zip(keys, _SHAPES.items(), strict=True)
    return {name: jr.normal(key, shape) for key, (name, shape) in pairs}


@pytest.fixture(scope="module")
def case():
    weights, x = _weights(0), jr.normal(jr.key(1), (40, 4))
    space = wsl.infer_weight_space(_transformer, weights, x)

    def group(name, place):
        leaf = next(leaf for leaf in space.leaves if leaf.path == f"['{name}']")
        return str(leaf.axes[place][0].name)

    keys, values = group("k", 2), group("v", 2)
    symmetry = wsl.LinearSymmetry.from_space(
        space,
        {group("stem", 1): "orthogonal", keys: "invertible", values: "invertible"},
        inverted={keys: ["['q']"], values: ["['v']"]},
    )
    return weights, x, symmetry


@pytest.mark.parametrize("data", [False, True], ids=["weights", "activations"])
def test_copies_are_matched_back(case, data):
    weights, x, symmetry = case
    space = symmetry.space
    inputs = (x,) if data else ()
    copy = space.permute(weights, space.sample(key=jr.key(2)))
    copy = symmetry.act(copy, symmetry.sample(key=jr.key(3)))
    match = match_jointly(
        symmetry, weights, copy, *inputs, key=jr.key(4), fn=_transformer
    )
    assert match.distance < 1e-3 < 1 < match.distance_before
    again = copy
    for permutation, maps in match.steps:
        again = symmetry.act(space.permute(again, permutation), maps)
    for name, array in again.items():
        np.testing.assert_allclose(array, match.aligned[name], atol=1e-4)
    # Neither does it alone.
    alone = match_activations(space, weights, copy, x, fn=_transformer)
    assert alone.distance > 1
    assert match_linear(symmetry, weights, copy).distance > 1


@pytest.mark.parametrize("data", [False, True], ids=["weights", "activations"])
def test_of_a_stranger_the_function_stays(case, data):
    weights, x, symmetry = case
    stranger = _weights(5)
    inputs = (x,) if data else ()
    match = match_jointly(
        symmetry, weights, stranger, *inputs, key=jr.key(4), fn=_transformer
    )
    assert 1 < match.distance < match.distance_before
    np.testing.assert_allclose(
        _transformer(match.aligned, x), _transformer(stranger, x), atol=1e-3
    )


def test_what_the_data_does_not_reach_is_turned_by_weights(case):
    weights, x, symmetry = case
    copy = symmetry.act(weights, symmetry.sample(key=jr.key(3)))
    match = match_jointly(
        symmetry, weights, copy, x[:2], key=jr.key(4), fn=_transformer
    )
    assert match.distance < 1e-2 < 1 < match.distance_before


def test_where_there_is_no_canonical_form():
    """A layer wider than what it reads, and factors of which one is zero."""
    weights = {"a": jnp.ones((8, 3)), "b": jnp.zeros((4, 8))}
    space = wsl.WeightSpace.from_spec(
        weights, {"['a']": ("g", None), "['b']": (None, "g")}
    )
    symmetry = wsl.LinearSymmetry.from_space(
        space, {"g": "invertible"}, inverted={"g": ["['b']"]}
    )
    other = {"a": -jnp.ones((8, 3)), "b": jnp.zeros((4, 8))}
    match = match_jointly(symmetry, weights, other, key=jr.key(0))
    assert match.distance < 1e-3 < match.distance_before


def test_mistakes(case):
    weights, _, symmetry = case
    with pytest.raises(ValueError, match="rounds=0"):
        match_jointly(symmetry, weights, weights, key=jr.key(0), rounds=0)
