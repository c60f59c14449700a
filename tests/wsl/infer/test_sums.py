"""Axes that are sums of index sets: the whole group by hand, copies matched back."""

import itertools

import jax
import jax.extend.core
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.helpers import nightly
from tests.wsl.helpers import act, make_space
from tests.wsl.infer.helpers import assert_preserved, check, draw, numbers
from wsl import infer_weight_space, match_weights, Stacked, Sum, verify_symmetry
from wsl._infer import _sums


def _relu(x):
    return jnp.maximum(x, 0.0)


def _critic(p, x):
    hidden = _relu(x @ p["a"])
    return _relu(jnp.concatenate([hidden, x[:2]]) @ p["b"]) @ p["out"]


def _dense(p, x):
    parts = [x]
    for i in range(3):
        parts.append(_relu(jnp.concatenate(parts) @ p[f"w{i}"]))
    return jnp.concatenate(parts) @ p["out"]


def _unet(p, x):
    def conv(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME")

    a = _relu(conv(x, p["a"]))
    window = (1, 1, 2, 2)
    low = jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, window, window, "VALID")
    b = jnp.repeat(jnp.repeat(_relu(conv(low, p["b"])), 2, 2), 2, 3)
    return conv(jnp.concatenate([a, b], 1), p["out"])


def _halves(p, x):
    hidden = _relu(x @ p["a"] + p["b"])
    return hidden[:6] @ p["u"] + hidden[6:] @ p["v"]


def _lstm(p, xs):
    def cell(carry, x):
        h, c = carry
        gates = jnp.concatenate([x, h]) @ p["w"] + p["b"]
        i, f, o, u = jnp.split(gates, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    (h, _), _ = jax.lax.scan(cell, (jnp.zeros(3), jnp.zeros(3)), xs)
    return h @ p["out"]


def _attend(q, k, v):
    scores = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k))
    return jnp.einsum("hts,shd->thd", scores, v).reshape(len(q), -1)


def _fused(p, x):
    x = x @ p["in"]
    parts = jnp.split(x @ p["qkv"] + p["b"][None], 3, axis=1)
    y = _attend(*(part.reshape(len(x), 2, 3) for part in parts))
    return (x + y @ p["o"]) @ p["out"]


def _interleaved(p, x):
    x = x @ p["in"]
    parts = (x @ p["qkv"] + p["b"][None]).reshape(len(x), 2, 3, 3)
    y = _attend(*(parts[:, :, i] for i in range(3)))
    return (x + y @ p["o"]) @ p["out"]


def _grouped(p, x):
    """Four heads of queries, two of keys and values, in one matrix."""
    x, n = x @ p["in"], len(x)
    y = x @ p["qkv"]
    q = y[:, :12].reshape(n, 2, 2, 3)
    k, v = y[:, 12:18].reshape(n, 2, 3), y[:, 18:].reshape(n, 2, 3)
    scores = jax.nn.softmax(jnp.einsum("tgqd,sgd->gqts", q, k))
    y = jnp.einsum("gqts,sgd->tgqd", scores, v).reshape(n, 12)
    return (x + y @ p["o"]) @ p["out"]


def _scanned(p, x):
    def layer(h, w):
        return _relu(h @ w["w"] + w["b"]), None

    h, _ = jax.lax.scan(layer, _relu(x @ p["in"]), p["layers"])
    return h @ p["out"]


def _ensemble(p, x):
    member = lambda w, b, out: _relu(x @ w + b) @ out
    return jax.vmap(member)(p["w"], p["b"], p["out"])


def _depthwise(p, x):
    """Channels of two convolutions side by side, each filtered by itself."""

    def conv(x, w, groups=1):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", feature_group_count=groups
        )

    a, b = _relu(conv(x, p["a"])), _relu(conv(x, p["b"]))
    h = _relu(conv(jnp.concatenate([a, b], 1), p["each"], 7))
    return conv(h, p["out"]).sum((2, 3))


_HEADS = {"sizes": {"heads": 2}, "nested": {"qk": "heads", "vo": "heads"}}

# The function, shapes of its weights and of its input, and the whole group.
_MODELS = {
    "late action": (
        _critic,
        {"a": (5, 4), "b": (6, 3), "out": (3, 1)},
        (5,),
        {"a": (None, "h"), "b": (Sum("h", 2), "k"), "out": ("k", None)},
        {},
    ),
    "densely connected": (
        _dense,
        {"w0": (5, 3), "w1": (8, 3), "w2": (11, 3), "out": (14, 2)},
        (5,),
        {
            "w0": (5, "a"),
            "w1": (Sum(5, "a"), "b"),
            "w2": (Sum(5, "a", "b"), "c"),
            "out": (Sum(5, "a", "b", "c"), None),
        },
        {},
    ),
    "skip of a U-Net": (
        _unet,
        {"a": (3, 2, 3, 3), "b": (5, 3, 3, 3), "out": (2, 8, 1, 1)},
        (1, 2, 4, 4),
        {
            "a": ("a", None, None, None),
            "b": ("b", "a", None, None),
            "out": (None, Sum("a", "b"), None, None),
        },
        {},
    ),
    "one layer cut": (
        _halves,
        {"a": (5, 16), "b": (16,), "u": (6, 2), "v": (10, 2)},
        (5,),
        {
            "a": (None, Sum("u", "v")),
            "b": (Sum("u", "v"),),
            "u": ("u", None),
            "v": ("v", None),
        },
        {},
    ),
    "LSTM on inputs and states": (
        _lstm,
        {"w": (5, 12), "b": (12,), "out": (3, 2)},
        (4, 2),
        {"w": (Sum(2, "h"), (4, "h")), "b": ((4, "h"),), "out": ("h", None)},
        {},
    ),
    "fused attention": (
        _fused,
        {"in": (3, 4), "qkv": (4, 18), "b": (18,), "o": (6, 4), "out": (4, 2)},
        (5, 3),
        {
            "in": (None, "e"),
            "qkv": ("e", Sum(*(("heads", n) for n in ("qk", "qk", "vo")))),
            "b": (Sum(*(("heads", n) for n in ("qk", "qk", "vo"))),),
            "o": (("heads", "vo"), "e"),
            "out": ("e", None),
        },
        _HEADS,
    ),
    "attention fused head by head": (
        _interleaved,
        {"in": (3, 4), "qkv": (4, 18), "b": (18,), "o": (6, 4), "out": (4, 2)},
        (5, 3),
        {
            "in": (None, "e"),
            "qkv": ("e", ("heads", Sum("qk", "qk", "vo"))),
            "b": (("heads", Sum("qk", "qk", "vo")),),
            "o": (("heads", "vo"), "e"),
            "out": ("e", None),
        },
        _HEADS,
    ),
    "grouped queries": (
        _grouped,
        {"in": (3, 4), "qkv": (4, 24), "o": (12, 4), "out": (4, 2)},
        (5, 3),
        {
            "in": (None, "e"),
            "qkv": (
                "e",
                Sum(("heads", "q", "qk"), ("heads", "qk"), ("heads", "vo")),
            ),
            "o": (("heads", "q", "vo"), "e"),
            "out": ("e", None),
        },
        {
            "sizes": {"heads": 2, "q": 2, "qk": 3, "vo": 3},
            "nested": {"q": "heads", "qk": "heads", "vo": "heads"},
        },
    ),
    "scan without residual": (
        _scanned,
        {"in": (3, 4), "layers": {"w": (3, 4, 4), "b": (3, 4)}, "out": (4, 2)},
        (3,),
        {
            "in": (None, "h0"),
            "layers": {
                "w": Stacked(("h0", "h1"), ("h1", "h2"), ("h2", "h3")),
                "b": Stacked(("h1",), ("h2",), ("h3",)),
            },
            "out": ("h3", None),
        },
        {},
    ),
    "ensemble": (
        _ensemble,
        {"w": (3, 2, 4), "b": (3, 4), "out": (3, 4, 2)},
        (2,),
        {
            "w": Stacked(*((None, f"h{i}") for i in range(3))),
            "b": Stacked(*((f"h{i}",) for i in range(3))),
            "out": Stacked(*((f"h{i}", None) for i in range(3))),
        },
        {},
    ),
    "depthwise": (
        _depthwise,
        {
            "a": (3, 2, 1, 1),
            "b": (4, 2, 1, 1),
            "each": (7, 1, 3, 3),
            "out": (2, 7, 1, 1),
        },
        (1, 2, 4, 4),
        {
            "a": ("a", None, None, None),
            "b": ("b", None, None, None),
            "each": (Sum("a", "b"), None, None, None),
            "out": (None, Sum("a", "b"), None, None),
        },
        {},
    ),
}


def _made(name):
    fn, shapes, given, spec, options = _MODELS[name]
    is_shape = lambda x: isinstance(x, tuple)
    weights = jax.tree.map(lambda shape: numbers(*shape), shapes, is_leaf=is_shape)
    flat = jax.tree_util.tree_leaves_with_path(
        spec, is_leaf=lambda x: not isinstance(x, dict)
    )
    by_path = {jax.tree_util.keystr(path): entry for path, entry in flat}
    return fn, draw(weights), numbers(*given, seed=3), by_path, options


@pytest.mark.parametrize("name", _MODELS)
def test_whole_group_of_sums(name):
    fn, weights, x, spec, options = _made(name)
    space = check(fn, weights, [x], spec, **options)
    assert space.ties == ()
    # A copy under an element of the group is matched back.
    leaves, treedef = jax.tree.flatten(weights)
    cycles = {
        group: np.broadcast_to(np.roll(np.arange(shape[-1]), 1), shape)
        for group, shape in space.element_shapes().items()
    }
    moved = act(space, leaves, cycles)
    moved = jax.tree.unflatten(treedef, [jnp.asarray(leaf) for leaf in moved])
    match = match_weights(space, weights, moved, key=jr.key(0))
    assert match.distance_before > 0.1
    assert match.distance < 1e-6


@pytest.mark.parametrize(
    "name", ["late action", pytest.param("fused attention", marks=pytest.mark.nightly)]
)
def test_verification_of_sums_finds_what_holds_and_what_does_not(name):
    fn, weights, x, _, _ = _made(name)
    space = infer_weight_space(fn, weights, x)
    report = verify_symmetry(space, fn, weights, x, key=jr.key(0), num_samples=1)
    assert report.holds, str(report)


def test_a_wrong_sum_is_blamed():
    fn, weights, x, spec, _ = _made("late action")
    # The units after the inputs, where they come before them.
    shapes = {name: leaf.shape for name, leaf in weights.items()}
    spec = {path[2:-2]: entry for path, entry in spec.items()}
    wrong = make_space(shapes, spec | {"b": (Sum(2, "h"), "k")})
    report = verify_symmetry(wrong, fn, weights, x, key=jr.key(0), num_samples=2)
    assert report.verdict.startswith("broken: group h, leaf")
    with pytest.raises(AssertionError):
        assert_preserved(wrong, fn, weights, [x])


def test_a_stack_that_is_too_long_says_so():
    def fn(p, x):
        h, _ = jax.lax.scan(lambda h, w: (_relu(h @ w), None), x @ p["in"], p["w"])
        return h @ p["out"]

    weights = {"in": numbers(3, 4), "w": numbers(70, 4, 4), "out": numbers(4, 2)}
    space = infer_weight_space(fn, weights, numbers(3))
    assert list(space.groups.values()) == [4]
    assert space.ties == ("a stack of 70, more than the 64 that are told apart",)


def test_cuts_that_tell_nothing_apart_are_taken_back():
    def gates(p, x):
        a, b = jnp.split(x @ p["w"], 2)
        return (a * b) @ p["out"]

    weights = {"w": numbers(3, 8), "out": numbers(4, 2)}
    space = infer_weight_space(gates, weights, numbers(3))
    assert all(leaf.pieces == () for leaf in space.leaves)
    assert space.groups == {"g0": 4} and space.ties == ()


_SLOW = set(_MODELS) - {"late action", "attention fused head by head", "depthwise"}


@pytest.mark.parametrize("name", nightly(_MODELS, _SLOW))
def test_functions_of_pieces_compute_the_same(name, monkeypatch):
    fn, weights, x, _, _ = _made(name)
    finest = []

    def spy(problem, grids):
        finest[:] = [grids, in_pieces(problem, grids)]
        return finest[1]

    in_pieces = _sums.in_pieces
    # Every cut that was tried, those that are taken back too.
    monkeypatch.setattr(_sums, "in_pieces", spy)
    monkeypatch.setattr(_sums, "useful_grid", lambda analysis, cuts: cuts.axes)
    infer_weight_space(fn, weights, x)
    grids, problem = finest
    blocks = []
    for leaf, axes in zip(jax.tree.leaves(weights), grids, strict=True):
        dims = [dim for cuts in axes for dim in cuts]
        array = np.asarray(leaf).reshape([sum(dim) for dim in dims])
        ends = [np.cumsum([0, *dim]) for dim in dims]
        for key in itertools.product(*(range(len(dim)) for dim in dims)):
            spans = zip(ends, key, strict=True)
            blocks.append(array[tuple(slice(e[i], e[i + 1]) for e, i in spans)])
    assert [block.shape for block in blocks] == list(problem.shapes)
    assert len(blocks) > len(grids)

    def outputs(blocks):
        found = jax.extend.core.jaxpr_as_fun(problem.jaxpr)(*blocks, x)
        return np.sort(np.concatenate([np.ravel(y) for y in found]))

    expected = np.sort(np.ravel(fn(weights, x)))
    np.testing.assert_allclose(outputs(blocks), expected, rtol=1e-4, atol=1e-5)
    # Control: it reads them. One alone may stand before a unit that is off.
    others = [block + 1.0 for block in blocks]
    assert np.abs(outputs(others) - expected).max() > 1e-2


def test_what_cannot_be_written_anew_has_the_group_of_the_whole(monkeypatch):
    fn, weights, x, _, _ = _made("late action")

    def fail(problem, grids):
        raise NotImplementedError

    monkeypatch.setattr(_sums, "in_pieces", fail)
    space = infer_weight_space(fn, weights, x)
    # Concatenated, 4 units and 2 inputs are three pairs, of which nothing is free.
    assert list(space.groups.values()) == [3]
    assert "NotImplementedError" in space.ties[-1]
    assert_preserved(space, fn, weights, [x])


def _packed(p, xs):
    """An LSTM that carries both of its states as one array."""

    def cell(state, x):
        h, c = state[:3], state[3:]
        gates = jnp.concatenate([x, h]) @ p["w"]
        i, f, o, u = jnp.split(gates, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
        return jnp.concatenate([jax.nn.sigmoid(o) * jnp.tanh(c), c]), None

    state, _ = jax.lax.scan(cell, jnp.zeros(6), xs)
    return state[:3] @ p["out"]


def _branched(p, x):
    hidden = jnp.concatenate([jnp.tanh(x @ p["a"]), x])
    branches = [lambda h: h @ p["b"], lambda h: jnp.tanh(2.0 * (h @ p["b"]))]
    return jax.lax.cond(x.sum() > 0, *branches, hidden) @ p["out"]


def _stacked_blocks(p, x):
    """Transformer blocks under scan, with fused projections and a residual stream."""

    def block(x, w):
        parts = jnp.split(x @ w["qkv"], 3, axis=1)
        y = _attend(*(part.reshape(len(x), 2, 2) for part in parts))
        x = x + y @ w["o"]
        return x + jnp.tanh(x @ w["up"]) @ w["down"], None

    x, _ = jax.lax.scan(block, x @ p["in"], p["blocks"])
    return x @ p["out"]


@pytest.mark.parametrize(
    ("fn", "shapes", "given", "groups"),
    [
        (_packed, {"w": (5, 12), "out": (3, 2)}, (4, 2), [3]),
        (_branched, {"a": (3, 4), "b": (7, 5), "out": (5, 1)}, (3,), [4, 5]),
        pytest.param(
            _stacked_blocks,
            {
                "in": (3, 4),
                "blocks": {
                    "qkv": (2, 4, 12),
                    "o": (2, 4, 4),
                    "up": (2, 4, 5),
                    "down": (2, 5, 4),
                },
                "out": (4, 2),
            },
            (6, 3),
            # Of each of two blocks heads, units of both kinds, hidden; the stream.
            [2, 2, 2, 2, 2, 2, 4, 5, 5],
            id="blocks",
        ),
    ],
)
def test_sums_in_loops_and_branches(fn, shapes, given, groups):
    weights = jax.tree.map(
        lambda shape: numbers(*shape), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    weights, x = draw(weights), numbers(*given, seed=3)
    space = infer_weight_space(fn, weights, x)
    assert sorted(space.groups.values()) == groups, space
    assert space.ties == () and space.unknown_primitives == ()
    assert_preserved(space, fn, weights, [x])
