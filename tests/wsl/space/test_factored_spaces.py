"""Axes that are products, fixed names, groups nested in the blocks of others."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.helpers import act_on_tree, assert_same, draw_element, make_space
from wsl import Factor, Slot, WeightSpace


_HEADS, _UNITS, _RES = 2, 3, 4


def _attention_weights(seed=0):
    """Queries, keys, values and output of an attention layer, with numbers in them."""
    random = np.random.default_rng(seed)
    shapes = {
        "q": (_HEADS * _UNITS, _RES),
        "k": (_HEADS * _UNITS, _RES),
        "v": (_HEADS * _UNITS, _RES),
        "o": (_RES, _HEADS * _UNITS),
    }
    return {
        name: jnp.asarray(random.standard_normal(shape), jnp.float32)
        for name, shape in shapes.items()
    }


def _attention_space(*, nested=True):
    inner = {"q": "qk", "k": "qk", "v": "vo"}
    spec = {f"['{name}']": (("heads", unit), "x") for name, unit in inner.items()}
    return WeightSpace.from_spec(
        _attention_weights(),
        {**spec, "['o']": ("y", ("heads", "vo"))},
        fixed=["x", "y"],
        nested={"qk": "heads", "vo": "heads"} if nested else None,
        sizes={"heads": _HEADS},
    )


def _attention(weights, tokens):
    """In numpy, float64: the function whose symmetry the space names."""
    w = {name: np.asarray(leaf, np.float64) for name, leaf in weights.items()}
    q, k, v = (
        (tokens @ w[name].T).reshape(-1, _HEADS, _UNITS).swapaxes(0, 1)
        for name in "qkv"
    )
    scores = np.exp(q @ k.swapaxes(1, 2))
    mixed = scores / scores.sum(-1, keepdims=True) @ v
    return mixed.swapaxes(0, 1).reshape(len(tokens), -1) @ w["o"].T


@pytest.mark.parametrize("nested", [True, False])
def test_heads_and_their_units_may_move(nested):
    space = _attention_space(nested=nested)
    for seed in range(5):
        weights = _attention_weights(seed)
        tokens = np.random.default_rng(seed).standard_normal((5, _RES))
        permuted = space.permute(weights, draw_element(space, seed))
        np.testing.assert_allclose(
            _attention(permuted, tokens), _attention(weights, tokens), atol=1e-6
        )


def test_units_may_not_leave_their_head():
    weights = _attention_weights()
    wrong = WeightSpace.from_spec(
        weights,
        {
            **{f"['{name}']": ("units", None) for name in "qkv"},
            "['o']": (None, "units"),
        },
    )
    tokens = np.random.default_rng(0).standard_normal((5, _RES))
    # Units 0 and 3 are in different heads.
    permuted = wrong.permute(weights, {"units": jnp.array([3, 1, 2, 0, 4, 5])})
    moved = _attention(permuted, tokens) - _attention(weights, tokens)
    assert np.abs(moved).max() > 1e-2


def test_nested_group_has_one_permutation_for_each_block():
    space = _attention_space()
    assert space.groups == {"heads": 2, "qk": 3, "vo": 3}
    assert space.index_sets == {"heads": 2, "qk": 3, "x": 4, "vo": 3, "y": 4}
    assert space.element_shapes() == {"heads": (2,), "qk": (2, 3), "vo": (2, 3)}
    # By hand: entry (i, j) of the result is entry (heads[i], qk[i, j]).
    element = {
        "heads": jnp.array([1, 0]),
        "qk": jnp.array([[0, 2, 1], [1, 2, 0]]),
        "vo": jnp.tile(jnp.arange(3), (2, 1)),
    }
    rows = jnp.tile(jnp.arange(6.0)[:, None], (1, _RES))
    weights = {"q": rows, "k": rows, "v": rows, "o": rows.T}
    permuted = space.permute(weights, element)
    np.testing.assert_array_equal(permuted["q"][:, 0], [3, 5, 4, 1, 2, 0])
    np.testing.assert_array_equal(permuted["k"][:, 0], [3, 5, 4, 1, 2, 0])
    np.testing.assert_array_equal(permuted["v"][:, 0], [3, 4, 5, 0, 1, 2])
    np.testing.assert_array_equal(permuted["o"][0], [3, 4, 5, 0, 1, 2])


def _nested_twice():
    axis = ("a", "b", "c")
    weights = {"m": jnp.arange(48.0).reshape(12, 4), "v": jnp.arange(12.0)}
    return weights, WeightSpace.from_spec(
        weights,
        {"['m']": (axis, "r"), "['v']": (axis,)},
        nested={"c": "b", "b": "a"},
        sizes={"a": 2, "b": 3},
    )


@pytest.mark.parametrize("deep", [True, False])
def test_laws_of_nested_groups(deep):
    weights, space = (
        _nested_twice() if deep else (_attention_weights(), _attention_space())
    )
    for seed in range(5):
        a, b = draw_element(space, seed), draw_element(space, seed + 100)
        assert_same(
            space.permute(space.permute(weights, a), b),
            space.permute(weights, space.compose(a, b)),
        )
        back = space.permute(space.permute(weights, a), space.inverse(a))
        assert_same(back, weights)
        assert_same(space.compose(a, space.inverse(a)), space.identity())
        assert_same(space.compose(space.inverse(a), a), space.identity())
        # By its definition.
        assert_same(space.permute(weights, a), act_on_tree(space, weights, a))


def test_samples_of_nested_groups_reach_every_element():
    # (2!)^2 arrangements inside two blocks, times 2! of the blocks.
    weights = {"w": jnp.arange(4.0)}
    space = WeightSpace.from_spec(
        weights,
        {"['w']": (("block", "unit"),)},
        nested={"unit": "block"},
        sizes={"block": 2},
    )
    keys = jax.random.split(jax.random.key(0), 200)
    draw = jax.jit(jax.vmap(lambda key: space.permute(weights, space.sample(key=key))))
    found = set(map(tuple, np.asarray(draw(keys)["w"]).tolist()))
    inside = list(itertools.product([(0, 1), (1, 0)], [(2, 3), (3, 2)]))
    expected = {(*a, *b) for a, b in inside} | {(*b, *a) for a, b in inside}
    assert found == expected


def test_parts_of_an_axis():
    # Three gates times units; channels times pixels; a fixed part in front and behind.
    weights = {"w": jnp.arange(12.0).reshape(6, 2), "f": jnp.arange(12.0)}
    space = WeightSpace.from_spec(
        weights, {"['w']": ((3, "units"), "units"), "['f']": ((2, "channels", 3),)}
    )
    first, second = space.leaves
    assert first.axes == ((Factor(2), Factor(2, "channels"), Factor(3)),)
    assert second.axes == ((Factor(3), Factor(2, "units")), (Factor(2, "units"),))
    assert first.slots == (Slot(1, 2, "channels", None),)
    assert second.slots == (Slot(1, 2, "units", None), Slot(2, 2, "units", None))
    swap = jnp.array([1, 0])
    permuted = space.permute(weights, {"units": swap, "channels": swap})
    np.testing.assert_array_equal(
        permuted["w"], [[3, 2], [1, 0], [7, 6], [5, 4], [11, 10], [9, 8]]
    )
    np.testing.assert_array_equal(permuted["f"], [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8])


def test_fixed_names_do_not_move_until_they_are_unfixed():
    weights = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(2.0)}
    space = WeightSpace.from_spec(
        weights, {"['w']": ("out", "in"), "['b']": ("out",)}, fixed=["in", "out"]
    )
    assert space.groups == {} and space.fixed == {"in", "out"}
    assert_same(space.permute(weights, space.sample(key=jax.random.key(0))), weights)
    free = space.unfix("out")
    assert free.groups == {"out": 2} and free.fixed == {"in"} and free != space
    swapped = free.permute(weights, {"out": jnp.array([1, 0])})
    np.testing.assert_array_equal(swapped["w"], [[3, 4, 5], [0, 1, 2]])
    np.testing.assert_array_equal(swapped["b"], [1, 0])
    with pytest.raises(ValueError) as caught:
        free.unfix("out")
    assert str(caught.value) == "'out' is not fixed in this space; fixed: ['in']."


def test_table_of_a_nested_space():
    expected = """\
leaf   shape   axes
['k']  (6, 4)  heads x qk, x
['o']  (4, 6)  y, heads x vo
['q']  (6, 4)  heads x qk, x
['v']  (6, 4)  heads x vo, x
groups: heads (2), qk (3, in each of heads), vo (3, in each of heads)
fixed: x (4), y (4)"""
    assert _attention_space().table() == expected


def test_permuting_features_is_permuting_each_channel():
    space, weights = _attention_space(), _attention_weights()
    other = _attention_weights(1)
    features = jax.tree.map(lambda *leaves: jnp.stack(leaves, -1), weights, other)
    element = draw_element(space, 3)
    permuted = space.permute_features(features, element)
    assert_same(
        jax.tree.map(lambda leaf: leaf[..., 1], permuted), space.permute(other, element)
    )
    # Leaves may have channels in different numbers.
    features["q"] = features["q"][..., :1]
    uneven = space.permute_features(features, element)
    np.testing.assert_array_equal(uneven["q"], permuted["q"][..., :1])
    with pytest.raises(ValueError) as caught:
        space.feature_leaves(features, (2, 2, 2, 2))
    assert str(caught.value) == (
        "The features of leaf \"['q']\" have shape (6, 4, 1); expected (6, 4, 2). A "
        "batch goes through `jax.vmap`."
    )
    with pytest.raises(ValueError, match=r"expected \(6, 4, channels\)"):
        space.permute_features(weights, element)


def test_folding_features():
    # A leaf with every kind of part: 2 fixed, a group of 3, 2 fixed; one fixed axis.
    space = make_space({"w": (12, 2)}, {"w": ((2, "g", 2), None)})
    layout = space.leaves[0].layout
    features = jnp.arange(12 * 2 * 5.0).reshape(12, 2, 5)
    folded = np.asarray(layout.fold(features))
    assert folded.shape == (3, 2 * 2 * 2 * 5)
    known = np.asarray(features)
    for a, i, b, c, d in [(0, 2, 1, 0, 4), (1, 0, 0, 1, 3), (1, 1, 1, 1, 0)]:
        position = ((a * 2 + b) * 2 + c) * 5 + d
        assert folded[i, position] == known[(a * 3 + i) * 2 + b, c, d]
    np.testing.assert_array_equal(layout.unfold(layout.fold(features)), features)


@pytest.mark.parametrize(
    ("spec", "keywords", "message"),
    [
        (
            {"['w']": (("a", "b"),)},
            {},
            "The spec of leaf \"['w']\" splits an axis of length 6 into ('a', 'b'), "
            "which leaves the sizes open. Say them: `sizes={name: n}`.",
        ),
        (
            {"['w']": ((4, "a"),)},
            {},
            "The spec of leaf \"['w']\" splits an axis of length 6 into (4, 'a'), that "
            "is 4 x 1.",
        ),
        (
            {"['w']": ("a",)},
            {"sizes": {"a": 5}},
            "Group 'a' has size 5 in `sizes` but 6 on leaf \"['w']\".",
        ),
        (
            {"['w']": ("a",)},
            {"fixed": ["b"]},
            "`fixed` names ['b'], which no axis has. Names: ['a'].",
        ),
        (
            {"['w']": (("a", 2),)},
            {"nested": {"b": "a"}},
            "'b' cannot be nested in 'a': both must be names of axes that may move. "
            "Names: ['a']; fixed: [].",
        ),
        (
            {"['w']": (("a", 2),)},
            {"nested": {"a": "a"}},
            "Group 'a' is nested in itself: ['a'].",
        ),
        (
            {"['w']": (("a", 2),)},
            {"nested": {"a": "b"}, "fixed": []},
            "'a' cannot be nested in 'b': both must be names of axes that may move. "
            "Names: ['a']; fixed: [].",
        ),
    ],
)
def test_wrong_specs_of_parts(spec, keywords, message):
    with pytest.raises(ValueError) as caught:
        WeightSpace.from_spec({"w": jnp.zeros(6)}, spec, **keywords)
    assert str(caught.value) == message


def test_a_nested_name_needs_its_block_on_every_leaf():
    weights = {"v": jnp.zeros(3), "w": jnp.zeros(6)}
    with pytest.raises(ValueError) as caught:
        WeightSpace.from_spec(
            weights,
            {"['v']": ("unit",), "['w']": (("head", "unit"),)},
            nested={"unit": "head"},
        )
    assert str(caught.value) == (
        "Group 'unit' is nested in 'head', so that every leaf with an axis of the one "
        "needs an axis of the other beside it; leaf \"['v']\" has 0."
    )
