"""Message passing that commutes with rescaling neurons."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    broken_by_most,
    distance,
    draw_features,
    MLP,
    MOVED,
    RECURRENT,
    SAME,
    SHALLOW,
    without_type_checks,
)
from wsl import WeightSpace
from wsl.nn import (
    GraphNetwork,
    ScaleEncoding,
    ScaleGraphFeatures,
    ScaleGraphInput,
    ScaleGraphNetwork,
    ScaleGraphOutput,
    ScaleInvariantPool,
    ScaleMessagePassing,
    ScaleSymmetry,
)


# A perceptron whose inputs and outputs have no names: the last matrix lies on duals.
_NAMELESS = WeightSpace.from_spec(
    {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in {
            "b0": (4,), "b1": (3,), "b2": (2,), "w0": (4, 3), "w1": (3, 4), "w2": (2, 3)
        }.items()
    },
    {
        "['b0']": ("h0",),
        "['b1']": ("h1",),
        "['b2']": (None,),
        "['w0']": ("h0", None),
        "['w1']": ("h1", "h0"),
        "['w2']": (None, "h1"),
    },
)  # fmt: skip
_SPACES = {"mlp": MLP, "recurrent": RECURRENT, "nameless": _NAMELESS}


def _network(space, kind, *, num_layers=1, **kwargs):
    symmetry = ScaleSymmetry.from_space(space, kind)
    return ScaleGraphNetwork(
        symmetry,
        2,
        2,
        hidden_channels=3,
        num_layers=num_layers,
        key=jr.key(0),
        **kwargs,
    )


def _relative(a, b):
    """Greatest difference, where each leaf is measured by its largest entry."""
    errors = jax.tree.map(
        lambda x, y: float(
            np.abs(x - np.asarray(y)).max() / max(np.abs(y).max(), 1e-6)
        ),
        a,
        b,
    )
    return max(jax.tree.leaves(errors))


@functools.cache
def _scaling(symmetry):
    def sample(seed):
        q = symmetry.sample(key=jr.key(seed))
        return q, {name: 1 / x for name, x in q.items()}

    return jax.jit(sample), jax.jit(symmetry.act_on_features)


def _broken(layer, symmetry, features, seeds=range(2)):
    """How far a layer is from commuting with drawn multipliers: entry by entry, at the
    scale of the result before they act."""
    before = call(layer, features)
    sample, act = _scaling(symmetry)
    worst = 0.0
    for seed in seeds:
        q, undo = sample(seed)
        after = call(layer, act(features, q))
        if isinstance(before, dict):
            after = act(after, undo)
        worst = max(worst, _relative(after, before))
    return worst


# Symmetry.


@pytest.mark.parametrize(
    ("name", "kind", "bidirectional"),
    [
        ("mlp", "scale", True),
        ("nameless", "sign", False),
        ("recurrent", "nonzero", True),
        *(
            pytest.param(*case, marks=pytest.mark.nightly)
            for case in (
                ("mlp", "scale", False),
                ("mlp", "sign", True),
                ("nameless", "scale", True),
                ("recurrent", "scale", True),
            )
        ),
    ],
)
def test_networks_commute(name, kind, bidirectional):
    space = _SPACES[name]
    network = _network(space, kind, bidirectional=bidirectional)
    features = draw_features(space, 2, 0)
    assert _broken(network, network.lift.symmetry, features) < SAME
    assert_commutes(network, space, features, range(1))


def test_two_rounds_and_mixed_kinds_commute():
    symmetry = ScaleSymmetry.from_space(MLP, {"h0": "sign", "h1": "scale"})
    network = ScaleGraphNetwork(
        symmetry, 2, 2, hidden_channels=3, num_layers=2, aggregation="sum",
        key=jr.key(0),
    )  # fmt: skip
    features = draw_features(MLP, 2, 0)
    assert _broken(network, symmetry, features) < SAME
    # Control: the first layer's units may change signs but not lengths.
    larger = ScaleSymmetry.from_space(MLP, {"h0": "scale", "h1": "scale"})
    assert _broken(network, larger, features) > MOVED


def test_pools_are_invariant():
    symmetry = ScaleSymmetry.from_space(MLP, {"h0": "nonzero", "h1": "scale"})
    keys = jr.split(jr.key(0), 3)
    encoder = eqx.nn.Sequential(
        [
            ScaleGraphInput(symmetry, 1, 3, key=keys[0]),
            ScaleMessagePassing(symmetry, 3, key=keys[1]),
            ScaleInvariantPool(symmetry, 3, 5, key=keys[2]),
        ]
    )
    features = draw_features(MLP, 1, 0)
    assert _broken(encoder, symmetry, features) < SAME
    assert_commutes(encoder, MLP, features, range(1))
    # Control: it does depend on the weights.
    other = call(encoder, draw_features(MLP, 1, 1))
    assert distance(call(encoder, features), other) > MOVED
    free = MLP.unfix("in", "out")
    assert broken_by_most(encoder, MLP, features, group=free, seeds=range(4)) > MOVED


def test_plain_message_passing_does_not_rescale():
    network = GraphNetwork(
        SHALLOW, 2, 2, hidden_channels=3, num_layers=1, key=jr.key(0)
    )
    features = draw_features(SHALLOW, 2, 0)
    for kind in ("scale", "sign"):
        symmetry = ScaleSymmetry.from_space(SHALLOW, kind)
        assert _broken(network, symmetry, features) > MOVED


def test_encodings_must_be_products():
    network = _network(SHALLOW, "scale")
    symmetry = network.lift.symmetry
    features = draw_features(SHALLOW, 2, 0)
    encoding = ScaleEncoding(SHALLOW, 2, key=jr.key(1))
    both = eqx.nn.Sequential([encoding, network])
    assert _broken(both, symmetry, features) < SAME
    assert distance(call(both, features), features) > MOVED
    summed = lambda x: network(
        jax.tree.map(lambda leaf, e: leaf + (e - 1), x, encoding(_ones(SHALLOW, 2)))
    )
    assert _broken(summed, symmetry, features) > MOVED


def _ones(space, channels):
    return jax.tree.map(jnp.ones_like, draw_features(space, channels, 0))


def test_embeddings_of_hidden_neurons_break_it():
    network = _network(SHALLOW, "scale")
    lift = network.lift
    nodes, duals = lift.embeddings
    assert nodes.keys() == duals.keys() == {"in", "out"}

    def embedded(features):
        graph = lift(features)
        moved = graph.nodes | {"h": graph.nodes["h"] + 1.0}
        graph = eqx.tree_at(lambda g: g.nodes, graph, moved)
        return network.lower(network.layers[0](graph))

    assert _broken(embedded, lift.symmetry, draw_features(SHALLOW, 2, 0)) > MOVED


# By hand: one node, one edge at a time.


def _silu(x):
    return x / (1 + np.exp(-x))


def _invariant(mlp, *vectors):
    total = mlp.offset
    for x, kind, w, b, v in zip(
        vectors, mlp.kinds, mlp.weights, mlp.offsets, mlp.mixing, strict=True
    ):
        if kind == "scale":
            length = np.sqrt(np.sum(np.square(x)))
            x = x / length if length > 0 else x
        h = _silu(x @ w + b)
        if kind == "sign":
            h = h + _silu(-x @ w + b)
        total = total + h @ v
    return _silu(total) @ mlp.last + mlp.last_offset


def _equivariant(mlp, x, *others):
    return (x @ mlp.gamma) * _invariant(mlp.invariant, x, *others)


def _product(pair, x, y):
    return (x @ pair.gammas[0]) * (y @ pair.gammas[1])


def _cat(*parts):
    return np.concatenate(parts)


def _bound(x):
    return x / np.sqrt(1 + np.mean(np.square(x), -1, keepdims=True))


def _reference(layer, graph):
    before = jax.tree.map(lambda x: np.asarray(x, np.float64), graph)
    p = jax.tree.map(
        lambda x: np.asarray(x, np.float64) if eqx.is_array(x) else x, layer
    )
    kinds = dict(layer.symmetry.kinds)

    def bounded(x, *ends):
        return x if any(kinds.get(end) == "scale" for end in ends) else _bound(x)

    ends = {one.path: one.ends for one in layer.symmetry.graph.edges}
    x = {label: bounded(a, label) for label, a in before.nodes.items()}
    y = {label: bounded(a, label) for label, a in before.duals.items()}
    e = {path: bounded(a, *ends[path]) for path, a in before.edges.items()}
    u = _bound(before.globals)
    edges = {path: a.copy() for path, a in before.edges.items()}
    m = {label: np.zeros_like(a) for label, a in x.items()}
    n = {label: np.zeros_like(a) for label, a in x.items()}
    for path, (to, of) in ends.items():
        update = p.edge_updates[path]
        targets, sources = len(x[to]), len(x[of])
        for i in range(targets):
            for j in range(sources):
                carried = _product(update.carry, e[path][i, j], x[of][j])
                message = _equivariant(update.forward, _cat(x[to][i], carried))
                m[to][i] += message / sources
                if layer.bidirectional:
                    carried = _product(update.carry_back, e[path][i, j], y[to][i])
                    message = _equivariant(update.backward, _cat(y[of][j], carried))
                    n[of][j] += message / targets
                outer = _product(update.outer, x[to][i], y[of][j])
                edges[path][i, j] += _equivariant(
                    update.update,
                    _cat(e[path][i, j], outer),
                    *(x[to][i], y[to][i], x[of][j], y[of][j], u),
                )
    nodes = {label: a.copy() for label, a in before.nodes.items()}
    duals = {label: a.copy() for label, a in before.duals.items()}
    pooled = []
    for label, update in p.node_updates.items():
        total = 0
        for i in range(len(x[label])):
            x_i, y_i = x[label][i], y[label][i]
            pair = np.arcsinh(_product(update.pairing, x_i, y_i))
            xs, ys = _cat(x_i, m[label][i]), _cat(y_i, n[label][i])
            nodes[label][i] += _equivariant(update.nodes, xs, ys, pair, u)
            duals[label][i] += _equivariant(update.duals, ys, xs, pair, u)
            pair = np.arcsinh(_product(p.pool.pairings[label], x_i, y_i))
            total = total + _invariant(p.pool.from_nodes[label], x_i, y_i, pair)
        pooled.append(total / len(x[label]))
    whole = before.globals + _invariant(p.pool.head, np.mean(pooled, 0), u)
    result = nodes, duals, edges, whole
    return ScaleGraphFeatures(*jax.tree.map(lambda a: array(a), result))


# 2-1-1: two inputs, one hidden neuron, one output.
_TINY = WeightSpace.from_spec(
    {
        "b": jax.ShapeDtypeStruct((1,), jnp.float32),
        "v": jax.ShapeDtypeStruct((1, 1), jnp.float32),
        "w": jax.ShapeDtypeStruct((1, 2), jnp.float32),
    },
    {"['b']": ("h",), "['v']": ("out", "h"), "['w']": ("h", "in")},
    fixed=["in", "out"],
)


@pytest.mark.parametrize(
    ("space", "kind", "bidirectional"),
    [
        (_TINY, "scale", False),
        (SHALLOW, "sign", True),
        pytest.param(MLP, "scale", True, marks=pytest.mark.nightly),
    ],
)
def test_one_round_by_hand(space, kind, bidirectional):
    symmetry = ScaleSymmetry.from_space(space, kind)
    lift = ScaleGraphInput(symmetry, 1, 2, key=jr.key(0))
    layer = ScaleMessagePassing(
        symmetry, 2, hidden_channels=3, bidirectional=bidirectional, key=jr.key(1)
    )
    graph = call(lift, draw_features(space, 1, 0))
    graph = call(layer, graph)  # one round, so that few are zero
    assert distance(call(layer, graph), _reference(layer, graph)) < 5 * SAME


def test_input_by_hand():
    symmetry = ScaleSymmetry.from_space(_NAMELESS, "scale")
    lift = ScaleGraphInput(symmetry, 1, 2, key=jr.key(0))
    features = draw_features(_NAMELESS, 1, 0)
    graph = call(lift, features)
    w = dict(zip([x.path for x in _NAMELESS.leaves], lift.weights, strict=True))
    np.testing.assert_allclose(
        graph.nodes["h0"],
        np.asarray(features["b0"]) @ w["['b0']"]
        + np.asarray(features["w0"])[..., 0] @ np.asarray(w["['w0']"]),
        atol=SAME,
    )
    np.testing.assert_allclose(
        graph.duals["h1"],
        np.asarray(features["w2"])[..., 0].T @ np.asarray(w["['w2']"]),
        atol=SAME,
    )
    assert not np.any(graph.duals["h0"])
    np.testing.assert_allclose(
        graph.edges["['w1']"],
        np.asarray(features["w1"]) @ np.asarray(w["['w1']"]),
        atol=SAME,
    )
    lower = ScaleGraphOutput(symmetry, 2, 1, key=jr.key(1))
    v = dict(zip([x.path for x in _NAMELESS.leaves], lower.weights, strict=True))
    np.testing.assert_allclose(
        np.asarray(call(lower, graph)["w2"])[..., 0],
        (np.asarray(graph.duals["h1"]) @ np.asarray(v["['w2']"])).T,
        atol=SAME,
    )


# What messages carry.


def test_only_bidirectional_layers_carry_backward():
    symmetry = ScaleSymmetry.from_space(SHALLOW, "scale")
    lift = ScaleGraphInput(symmetry, 1, 2, key=jr.key(0))
    features = draw_features(SHALLOW, 1, 0)
    other = features | {"v": array(1 + np.asarray(features["v"]))}

    def reach(bidirectional):
        layer = ScaleMessagePassing(
            symmetry, 2, bidirectional=bidirectional, key=jr.key(1)
        )
        graphs = (call(layer, call(lift, x)) for x in (features, other))
        return distance(*((graph.nodes["h"], graph.duals["h"]) for graph in graphs))

    assert reach(False) == 0
    assert reach(True) > MOVED


def _zeroed(x, at):
    x = np.array(x)
    x[at] = 0
    return array(x)


@pytest.mark.nightly
def test_zero_weights():
    network = _network(SHALLOW, "scale")
    features = draw_features(SHALLOW, 2, 0)
    # One edge, one bias, then a whole matrix and all weights.
    pruned = [
        features | {"w": _zeroed(features["w"], (0, 1))},
        features | {"b": _zeroed(features["b"], 2)},
        features | {"w": _zeroed(features["w"], ...)},
        jax.tree.map(lambda x: _zeroed(x, ...), features),
    ]

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(both):
        network, features = both
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(network(features)))

    for at in pruned:
        for x in jax.tree.leaves(gradient((network, at))):
            assert np.isfinite(x).all()
    # The target's own state still is a message along the edge whose weight is zero:
    # with the edge left out, the mean over edges would be another.
    symmetry = network.lift.symmetry
    layer = network.layers[0]
    graph = call(network.lift, pruned[0])
    assert not np.any(np.asarray(graph.edges["['w']"])[0, 1])
    found = call(layer, graph)
    assert distance(found, _reference(layer, graph)) < 5 * SAME
    assert _broken(network, symmetry, pruned[0]) < SAME


def test_is_healthy():
    assert_healthy(_network(SHALLOW, "sign"), SHALLOW, 2)


def test_errors():
    symmetry = ScaleSymmetry.from_space(MLP, "scale")
    with without_type_checks(), pytest.raises(ValueError, match="aggregation"):
        wrong = "max"
        ScaleMessagePassing(symmetry, 2, aggregation=wrong, key=jr.key(0))  # pyright: ignore
    with pytest.raises(ValueError, match="num_layers"):
        ScaleGraphNetwork(symmetry, 1, 1, num_layers=-1, key=jr.key(0))
    with pytest.raises(ValueError, match="floor"):
        ScaleMessagePassing(symmetry, 2, floor=-1.0, key=jr.key(0))
    with pytest.raises(ValueError, match="w1"):
        ScaleGraphInput(symmetry, 1, 2, key=jr.key(0))(
            draw_features(
                MLP, {x.path: 1 + (x.path == "['w1']") for x in MLP.leaves}, 0
            )
        )
