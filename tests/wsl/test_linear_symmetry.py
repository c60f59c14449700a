"""Linear maps of index sets, beyond permutations: found, acted with, undone."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.nn.helpers import without_type_checks as unchecked
from wsl.matching import canonical_weights, invariants, match_linear
from wsl.matching._linear_maps import nearest_maps


_KEY = jr.key(0)
_WIDTH, _KV, _GROUPS, _SIZE = 8, 2, 2, 4


def _rotary(x):
    """Turns pairs (i, i + 2) of a head, by an angle for each position and frequency."""
    half = x.shape[-1] // 2
    angles = jnp.arange(1.0 * x.shape[0])[:, None] * jnp.array([[1.0, 0.3]])
    angles = angles.reshape(len(x), *[1] * (x.ndim - 2), half)
    one, two = x[..., :half], x[..., half:]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([one * cos - two * sin, two * cos + one * sin], axis=-1)


def _attention(weights, x, *, rotary):
    """Heads that share keys and values two by two; biases on queries and keys.

    Without rotary embeddings softmax takes off what the keys' bias does.
    """
    q = x @ weights["q"].T + weights["q bias"][None]
    k = x @ weights["k"].T + weights["k bias"][None]
    v = x @ weights["v"].T
    q = q.reshape(len(x), _KV, _GROUPS, _SIZE)
    k, v = (y.reshape(len(x), _KV, _SIZE) for y in (k, v))
    if rotary:
        q, k = _rotary(q), _rotary(k)
    seen = jax.nn.softmax(jnp.einsum("thgd,shd->hgts", q, k), axis=-1)
    mixed = jnp.einsum("hgts,shd->thgd", seen, v).reshape(len(x), -1)
    return mixed @ weights["o"].T


def _weights(key):
    heads, kv = _KV * _GROUPS * _SIZE, _KV * _SIZE
    shapes = {
        "q": (heads, _WIDTH),
        "q bias": (heads,),
        "k": (kv, _WIDTH),
        "k bias": (kv,),
        "v": (kv, _WIDTH),
        "o": (_WIDTH, heads),
    }
    keys = jr.split(key, len(shapes))
    return {
        name: jr.normal(key, shape) / 3
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "rotary"])
def attention(request):
    def function(weights, x):
        return _attention(weights, x, rotary=request.param)

    weights, x = _weights(_KEY), jr.normal(jr.key(1), (5, _WIDTH))
    space = wsl.infer_weight_space(function, weights, x)
    found = wsl.infer_linear_symmetry(space, function, weights, x, key=_KEY)
    return request.param, jax.jit(function), weights, x, found


def _euclidean(a, b):
    squares = jax.tree.map(lambda x, y: jnp.sum(jnp.square(x - y)), a, b)
    return jnp.sqrt(sum(jax.tree.leaves(squares)))


def _distance(a, b):
    return max(float(jnp.abs(a[name] - b[name]).max()) for name in a)


def test_groups_of_attention(attention):
    rotary, _, _, _, symmetry = attention
    by_leaf = {frozenset(at.path for at in g.places): g for g in symmetry.groups}
    values = by_leaf.pop(frozenset({"['v']", "['o']"}))
    assert (values.kind, values.shape) == ("invertible", (_KV, _SIZE, _SIZE))
    ((paths, scores),) = by_leaf.items()
    assert paths == {"['q']", "['q bias']", "['k']", "['k bias']"}
    # With rotary embeddings, a complex number for each of two frequencies of a head.
    kind, shape = ("rotary", (2, 2, 2, 2)) if rotary else ("invertible", (2, 4, 4))
    assert (scores.kind, scores.shape) == (kind, shape)
    sides = {at.path: at.inverted for at in scores.places}
    assert sides["['q']"] == sides["['q bias']"] != sides["['k']"]


def test_the_function_stays_and_the_weights_do_not(attention):
    _, function, weights, x, symmetry = attention
    element = symmetry.sample(key=jr.key(2))
    acted = symmetry.act(weights, element)
    assert _distance(weights, acted) > 0.1
    np.testing.assert_allclose(function(acted, x), function(weights, x), atol=1e-5)
    # By the other side it is another function.
    turned = tuple(
        dataclasses.replace(
            group,
            places=tuple(at._replace(inverted=False) for at in group.places),
        )
        for group in symmetry.groups
    )
    wrong = dataclasses.replace(symmetry, groups=turned).act(weights, element)
    assert float(jnp.abs(function(wrong, x) - function(weights, x)).max()) > 0.01


def test_gauges_are_undone(attention):
    _, function, weights, x, symmetry = attention
    acted = symmetry.act(weights, symmetry.sample(key=jr.key(3)))
    match = match_linear(symmetry, weights, acted)
    assert match.distance < 1e-4 < 1 < match.distance_before
    assert _distance(match.aligned, weights) < 1e-4
    again = symmetry.act(acted, match.element)
    assert _distance(again, match.aligned) < 1e-4
    one, other = (canonical_weights(symmetry, w) for w in (weights, acted))
    assert _distance(one, other) < 1e-4
    np.testing.assert_allclose(function(one, x), function(weights, x), atol=1e-5)
    for name, values in invariants(symmetry, weights).items():
        seen = invariants(symmetry, acted)[name]
        np.testing.assert_allclose(seen, values, rtol=1e-4)
    # Of another network nothing of this is so.
    stranger = _weights(jr.key(4))
    match = match_linear(symmetry, weights, stranger)
    # What is no copy comes closer, too, but not to 0.
    assert 1 < match.distance < match.distance_before
    elements = [symmetry.sample(key=jr.key(5 + i)) for i in range(3)]
    for element in elements:
        other = symmetry.act(match.aligned, element)
        assert match.distance < _euclidean(weights, other)
    assert _distance(one, canonical_weights(symmetry, stranger)) > 0.1


class _Stream(eqx.Module):
    """A residual stream with a norm, a block with gates, and a low-rank adapter."""

    embed: jax.Array
    up: jax.Array
    down: jax.Array
    left: jax.Array
    right: jax.Array
    unembed: jax.Array
    centred: bool = eqx.field(static=True)

    def __init__(self, *, centred=False, key):
        shapes = ((6, 4), (5, 6), (6, 5), (5, 2), (2, 6), (7, 6))
        keys = jr.split(key, len(shapes))
        drawn = [jr.normal(k, s) / 2 for k, s in zip(keys, shapes, strict=True)]
        self.embed, self.up, self.down, self.left, self.right, self.unembed = drawn
        self.centred = centred

    def __call__(self, x):
        def norm(y):
            y = y - y.mean() if self.centred else y
            return y / jnp.sqrt(jnp.mean(jnp.square(y)) + 1e-6)

        y = self.embed @ x
        hidden = jax.nn.silu(self.up @ norm(y) + self.left @ (self.right @ norm(y)))
        return self.unembed @ norm(y + self.down @ hidden)


@pytest.mark.parametrize("centred", [False, True])
def test_a_stream_turns_where_its_norm_is_the_root_mean_square(centred):
    model, x = _Stream(centred=centred, key=_KEY), jr.normal(jr.key(1), (4,))
    space = wsl.infer_weight_space(model, x)
    symmetry = wsl.infer_linear_symmetry(space, model, x, key=_KEY)
    found = {group.kind: group for group in symmetry.groups}
    # A norm that takes off the mean keeps the first axis apart. The units between
    # `up` and `down` are permuted, no more.
    assert set(found) == ({"invertible"} if centred else {"invertible", "orthogonal"})
    factors = found["invertible"]
    assert {at.path for at in factors.places} == {".left", ".right"}
    if centred:
        return
    acted = symmetry.act(model, symmetry.sample(key=jr.key(2)))
    assert isinstance(acted, _Stream)
    np.testing.assert_allclose(acted(x), model(x), atol=1e-4)
    match = match_linear(symmetry, model, acted)
    assert match.distance < 1e-3 < 1 < match.distance_before
    one, other = (canonical_weights(symmetry, w) for w in (model, acted))
    np.testing.assert_allclose(one.up, other.up, atol=1e-3)
    np.testing.assert_allclose(one.left, other.left, atol=1e-3)


def test_by_hand():
    """A layer without an activation: W₁ <- G W₁, b <- G b, W₂ <- W₂ G⁻¹."""
    weights = {"one": jnp.eye(2), "b": jnp.array([1.0, 2.0]), "two": jnp.ones((1, 2))}
    spec = {"['one']": ("g", None), "['b']": ("g",), "['two']": (None, "g")}
    space = wsl.WeightSpace.from_spec(weights, spec)
    symmetry = wsl.LinearSymmetry.from_space(
        space, {"g": "invertible"}, inverted={"g": ["['two']"]}
    )
    acted = symmetry.act(weights, {"g": jnp.array([[0.0, 2.0], [1.0, 1.0]])})
    np.testing.assert_allclose(acted["one"], [[0, 2], [1, 1]])
    np.testing.assert_allclose(acted["b"], [4, 3])
    # The inverse is [[-1/2, 1], [1/2, 0]].
    np.testing.assert_allclose(acted["two"], [[0, 1]], atol=1e-6)
    assert "g" in str(symmetry) and "invertible" in str(symmetry)


def test_mistakes():
    weights = {"a": jnp.ones((2, 3))}
    space = wsl.WeightSpace.from_spec(weights, {"['a']": ("g", None)})
    with pytest.raises(ValueError, match="'h' is not a group"):
        wsl.LinearSymmetry.from_space(space, {"h": "orthogonal"})
    kinds: Any = {"g": "affine"}
    with unchecked(), pytest.raises(ValueError, match="'affine'"):
        wsl.LinearSymmetry.from_space(space, kinds)
    with pytest.raises(ValueError, match="names \\['b'\\] for 'g'"):
        wsl.LinearSymmetry.from_space(space, {"g": "invertible"}, inverted={"g": ["b"]})
    symmetry = wsl.LinearSymmetry.from_space(space, {"g": "orthogonal"})
    with pytest.raises(ValueError, match="matrices of shape"):
        symmetry.act(weights, {"g": jnp.eye(3)})
    with pytest.raises(ValueError, match="rounds=0"):
        match_linear(symmetry, weights, weights, rounds=0)
    with pytest.raises(ValueError, match="num_samples=0"):
        wsl.infer_linear_symmetry(space, lambda w: w, weights, key=_KEY, num_samples=0)


def _gained(weights, x, *, offset):
    """A stream with a norm before each of its readers, with gains."""

    def norm(y, name):
        y = y / jnp.sqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + 1e-6)
        y = y * weights[f"{name} gain"]
        return y + weights["offset"] if offset else y

    with jax.numpy_rank_promotion("allow"):
        y = x @ weights["stem"]
        read = norm(y, "first")
        hidden = jax.nn.relu(read @ weights["up"] + weights["bias"])
        hidden = hidden * jax.nn.silu(read @ weights["gate"])
        return norm(y + hidden @ weights["down"], "last") @ weights["head"]


def _gained_weights():
    shapes = {
        "stem": (3, 4),
        "first gain": (4,),
        "up": (4, 5),
        "gate": (4, 5),
        "bias": (5,),
        "down": (5, 4),
        "last gain": (4,),
        "head": (4, 3),
        "offset": (4,),
    }
    keys = jr.split(jr.key(7), len(shapes))
    pairs = zip(keys, shapes.items(), strict=True)
    return {name: jr.normal(key, shape) for key, (name, shape) in pairs}


def test_gains_go_into_what_reads_them():
    weights, x = _gained_weights(), jr.normal(jr.key(8), (6, 3))
    del weights["offset"]

    def function(weights, x):
        return _gained(weights, x, offset=False)

    space = wsl.infer_weight_space(function, weights, x)
    folded = wsl.fold_gains(space, function, weights, x, key=_KEY)
    # The bias of ReLUs is one with the matrix before it, and with the gate's: no gain.
    assert folded.gains == {
        "['first gain']": ("['gate']", "['up']"),
        "['last gain']": ("['head']",),
    }
    np.testing.assert_array_equal(folded.weights["first gain"], 1)
    np.testing.assert_array_equal(folded.weights["stem"], weights["stem"])
    by_hand = weights["last gain"][:, None] * weights["head"]
    np.testing.assert_allclose(folded.weights["head"], by_hand, rtol=1e-6)
    np.testing.assert_allclose(
        function(folded.weights, x), function(weights, x), atol=1e-4
    )
    symmetry = wsl.infer_linear_symmetry(
        space, function, folded.weights, x, key=_KEY, constant=folded.gains
    )
    (stream,) = symmetry.groups
    assert (stream.kind, stream.shape) == ("orthogonal", (4, 4))
    turned = symmetry.act(folded.weights, symmetry.sample(key=_KEY))
    np.testing.assert_allclose(function(turned, x), function(weights, x), atol=1e-4)
    # With gains that may be anything there is none.
    assert not wsl.infer_linear_symmetry(space, function, weights, x, key=_KEY).groups
    with pytest.raises(ValueError, match="No leaf of the space is at \\['gain'\\]"):
        wsl.infer_linear_symmetry(
            space, function, weights, x, key=_KEY, constant=["gain"]
        )


def test_gains_with_an_offset_stay():
    weights, x = _gained_weights(), jr.normal(jr.key(8), (6, 3))

    def function(weights, x):
        return _gained(weights, x, offset=True)

    space = wsl.infer_weight_space(function, weights, x)
    folded = wsl.fold_gains(space, function, weights, x, key=_KEY)
    assert folded.gains == {}
    assert _distance(folded.weights, weights) == 0


def test_a_vector_that_rotations_turn_is_no_gain():
    """Of W v there is all of GL(3): v in W would leave nothing."""
    weights = {"w": jr.normal(_KEY, (4, 3)), "v": jr.normal(jr.key(1), (3,))}
    x = jr.normal(jr.key(2), (5, 4))

    def function(weights, x):
        return jnp.tanh((x @ weights["w"]) @ weights["v"])

    space = wsl.infer_weight_space(function, weights, x)
    folded = wsl.fold_gains(space, function, weights, x, key=_KEY)
    assert folded.gains == {}
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights)
    coarse = wsl.infer_weight_space(function, half, x.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="'v'.*bfloat16.*float32 first"):
        wsl.fold_gains(coarse, function, half, x, key=_KEY)


def test_networks_with_other_constants_are_not_alike():
    weights = {"gain": jnp.ones(2), "w": jnp.eye(2)}
    spec = {"['gain']": ("g",), "['w']": ("g", None)}
    space = wsl.WeightSpace.from_spec(weights, spec)
    symmetry = wsl.LinearSymmetry.from_space(space, {"g": "orthogonal"})
    symmetry = dataclasses.replace(symmetry, constant=("['gain']",))
    assert match_linear(symmetry, weights, weights).distance == 0
    other = weights | {"gain": jnp.array([1.0, 2.0])}
    with pytest.raises(ValueError, match="differ in .*gain.*Fold the gains of both"):
        match_linear(symmetry, weights, other)


def test_no_network_gets_further_away():
    """The leaf that no other group maps is small, and says little."""
    shapes = {"stem": (3, 6), "a": (6, 2), "b": (2, 5)}
    keys = jr.split(jr.key(3), 4)
    weights = {
        n: jr.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=False)
    }
    weights["stem"] *= 0.01
    spec = {"['stem']": (None, "s"), "['a']": ("s", "h"), "['b']": ("h", None)}
    space = wsl.WeightSpace.from_spec(weights, spec)
    symmetry = wsl.LinearSymmetry.from_space(
        space, {"s": "orthogonal", "h": "invertible"}, inverted={"h": ["['b']"]}
    )
    other = weights | {"stem": 0.01 * jr.normal(keys[0], (3, 6))}
    match = match_linear(symmetry, weights, other)
    assert match.distance <= match.distance_before < 0.1


def test_rotary_factors_of_any_size():
    """Two pairs a side, one of them a thousand times as large in the other gauge."""
    left = jr.normal(_KEY, (2, 5, 2))
    right = jr.normal(jr.key(1), (2, 5, 2))
    maps = jnp.array([[[600.0, -800.0], [800.0, 600.0]], [[0.0, -1.0], [1.0, 0.0]]])
    other = left @ jnp.swapaxes(maps, -1, -2), right @ jnp.linalg.inv(maps)
    found = nearest_maps("rotary", (left, right), other)
    np.testing.assert_allclose(found @ maps, jnp.stack([jnp.eye(2)] * 2), atol=1e-4)
