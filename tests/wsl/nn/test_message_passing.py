"""Message passing on the parameter graph."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import examples
from tests.wsl.helpers import array, call, draw_element
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    BLOCKS,
    broken_by_most,
    distance,
    draw_features,
    MLP,
    MOVED,
    RECURRENT,
    SAME,
    SHALLOW,
    SMALL,
    SPACES,
    uneven,
    without_type_checks,
)
from wsl import WeightSpace
from wsl.nn import (
    GraphFeatures,
    GraphInput,
    GraphNetwork,
    GraphOutput,
    MessagePassing,
    ParameterGraph,
)


def _mlp_space(*widths, fixed=True):
    """A perceptron's space; its hidden units may move."""
    names = ["in", *(f"h{i}" for i in range(len(widths) - 2)), "out"]
    weights, spec = {}, {}
    for i in range(len(widths) - 1):
        shape = widths[i + 1], widths[i]
        weights[f"w{i}"] = jax.ShapeDtypeStruct(shape, jnp.float32)
        weights[f"b{i}"] = jax.ShapeDtypeStruct(shape[:1], jnp.float32)
        spec[f"['w{i}']"] = names[i + 1], names[i]
        spec[f"['b{i}']"] = names[i + 1 : i + 2]
    return WeightSpace.from_spec(weights, spec, fixed=["in", "out"] if fixed else [])


def _random_graph(space, channels, seed):
    random = np.random.default_rng(seed)
    graph = ParameterGraph.from_space(space)

    def draw(*shape):
        return array(random.standard_normal((*shape, channels)))

    return GraphFeatures(
        {one.label: draw(one.size) for one in graph.node_sets},
        {one.path: draw(*one.sizes) for one in graph.edges},
        draw(),
    )


# By hand: one node, one edge at a time.


def _rms(x):
    return x / np.sqrt(np.mean(np.square(x)) + 1e-6)


def _silu(x):
    return x / (1 + np.exp(-x))


def _reference(layer, graph, weights=None):
    """The layer's equations over single nodes and edges, on graphs with two-ended
    edges and no containments. With `weights`, edges where they are zero are masked."""
    numbers = jax.tree.map(lambda x: np.asarray(x, np.float64), graph)
    params = jax.tree.map(
        lambda x: np.asarray(x, np.float64) if eqx.is_array(x) else x, layer
    )

    def hidden(update, *inputs):
        total = update.offset
        for matrix, x in zip(update.ins, inputs, strict=True):
            total = total + _rms(x) @ matrix
        return _silu(total)

    def at_nodes(update, *inputs):  # states are normalised, messages are not
        total = update.offset
        for matrix, x in zip(update.ins, inputs, strict=True):
            total = total + x @ matrix
        return _silu(total)

    u = numbers.globals
    edges, to_graph = {}, []
    received = {label: [] for label in numbers.nodes}
    for incidence, update in zip(layer.graph.edges, params.edge_updates, strict=True):
        target, source = incidence.ends
        e = numbers.edges[incidence.path]
        edges[incidence.path] = e.copy()
        kept = np.ones(e.shape[:2], bool)
        if weights is not None:
            kept = np.asarray(weights[incidence.path.strip("[']")]) != 0
        h = {}
        for i in range(e.shape[0]):
            for j in range(e.shape[1]):
                if kept[i, j]:
                    x_i, x_j = numbers.nodes[target][i], numbers.nodes[source][j]
                    h[i, j] = hidden(update, e[i, j], x_i, x_j, u)
                    edges[incidence.path][i, j] += h[i, j] @ update.outs[0]
        for end, axis, matrix in [
            (target, 0, update.outs[1]),
            (source, 1, update.outs[2]),
        ]:
            messages = np.zeros_like(numbers.nodes[end])
            for node in range(e.shape[axis]):
                mine = [x @ matrix for at, x in h.items() if at[axis] == node]
                messages[node] = np.mean(mine, 0) if mine else 0
            received[end].append(messages)
        to_graph.append(np.mean([x @ update.outs[3] for x in h.values()], 0))
    nodes = {}
    labels = [one.label for one in layer.graph.node_sets]
    for label, update in zip(labels, params.node_updates, strict=True):
        x = numbers.nodes[label]
        nodes[label] = x.copy()
        for node in range(len(x)):
            message = np.mean([m[node] for m in received[label]], 0)
            zero = np.zeros_like(message)
            h = at_nodes(update, _rms(x[node]), message, zero, zero, _rms(u))
            nodes[label][node] += h @ update.outs[0]
    from_nodes = [np.mean([_rms(x) for x in xs], 0) for xs in numbers.nodes.values()]
    h = at_nodes(
        params.global_update, _rms(u), np.mean(from_nodes, 0), np.mean(to_graph, 0)
    )
    result = nodes, edges, u + h @ params.global_update.outs[0]
    return GraphFeatures(*jax.tree.map(array, result))


@pytest.mark.parametrize("space", [_mlp_space(2, 3, 2)])
def test_one_round_by_hand(space):
    layer = MessagePassing(space, 3, hidden_channels=4, key=jr.key(0))
    layer = eqx.tree_at(
        lambda x: [u.offset for u in (*x.edge_updates, *x.node_updates)],
        layer,
        replace_fn=lambda x: x + jnp.arange(x.size, dtype=x.dtype) / 4,
    )
    graph = _random_graph(space, 3, 0)
    assert distance(call(layer, graph), _reference(layer, graph)) < SAME


def test_input_and_output_by_hand():
    space = _mlp_space(2, 1, 1)
    features = draw_features(space, 2, 0)
    lift = GraphInput(space, 2, 3, key=jr.key(0))
    at = {leaf.path: i for i, leaf in enumerate(space.leaves)}
    w, b = lift.weights, lift.offsets
    graph = call(lift, features)
    i = at["['w0']"]
    np.testing.assert_allclose(
        graph.edges["['w0']"][0, 1], features["w0"][0, 1] @ w[i] + b[i], atol=SAME
    )
    i = at["['b0']"]
    np.testing.assert_allclose(
        graph.nodes["h0"][0],
        features["b0"][0] @ w[i] + b[i] + lift.embeddings["h0"][0],
        atol=SAME,
    )
    # Inputs have no bias: they start from embeddings of their own.
    np.testing.assert_allclose(graph.nodes["in"], lift.embeddings["in"], atol=SAME)
    assert lift.embeddings["in"].shape == (2, 3)
    lower = GraphOutput(space, 3, 2, key=jr.key(1))
    i = at["['b0']"]
    np.testing.assert_allclose(
        call(lower, graph)["b0"][0],
        _rms(graph.nodes["h0"][0]) @ lower.weights[i],
        atol=SAME,
    )


def test_zero_weights_keep_their_messages():
    space = _mlp_space(2, 3, 2)
    lift = GraphInput(space, 1, 4, key=jr.key(0))
    layer = MessagePassing(space, 4, key=jr.key(1))
    features = draw_features(space, 1, 0)
    features["w0"] = features["w0"].at[1, 0].set(0)
    weights = {name: x[..., 0] for name, x in features.items()}
    graph = call(lift, features)
    found = call(layer, graph)
    assert distance(found, _reference(layer, graph)) < SAME
    # Control: with the edges of nonzero weights alone it is another result.
    assert distance(found, _reference(layer, graph, weights)) > MOVED


# Symmetry.


@pytest.mark.parametrize(
    ("name", "tied"),
    [
        *((name, False) for name in ("mlp", "recurrent", "deep", "frozen")),
        ("nested", True),
        *(
            pytest.param(name, False, marks=pytest.mark.nightly)
            for name in ("released", "factored", "nested")
        ),
    ],
)
def test_networks_commute(name, tied):
    space = SPACES[name]
    network = GraphNetwork(
        space, uneven(space), 2, hidden_channels=4, num_layers=1, tied=tied,
        key=jr.key(0),
    )  # fmt: skip
    assert_commutes(network, space, draw_features(space, uneven(space), 0))


@pytest.mark.nightly
@examples(5)
@given(
    st.lists(st.sampled_from([1, 3]), min_size=1, max_size=2),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_random_perceptrons_commute(hidden, fixed, seed):
    space = _mlp_space(2, *hidden, 2, fixed=fixed)
    network = GraphNetwork(
        space, 1, 1, hidden_channels=4, num_layers=1, key=jr.key(seed)
    )
    assert_commutes(network, space, draw_features(space, 1, seed), range(2))


def test_layers_commute_with_the_action_on_graphs():
    graph = ParameterGraph.from_space(BLOCKS)
    layer = eqx.Partial(call, MessagePassing(BLOCKS, 3, key=jr.key(0)))
    states = _random_graph(BLOCKS, 3, 0)
    permute = jax.jit(graph.permute)
    element = draw_element(BLOCKS, 1)
    moved = permute(layer(states), element)
    assert distance(layer(permute(states, element)), moved) < SAME
    # Control: units may not leave their heads.
    roll = lambda nodes, by: {
        label: array(np.roll(x, by, axis=0)) for label, x in nodes.items()
    }
    swapped = roll(states.nodes, 1)
    other = layer(GraphFeatures(swapped, states.edges, states.globals))
    back = roll(other.nodes, -1)
    assert distance(back, layer(states).nodes) > MOVED


def test_weights_for_positions_break_it(monkeypatch):
    def weighted(self, x, axes):
        if not axes or x.shape[axes[-1]] < 2:
            return jnp.mean(x, axes)
        n = x.shape[axes[-1]]
        others = [d for d in range(x.ndim) if d != axes[-1]]
        x = x * jnp.expand_dims(jnp.linspace(0.5, 1.5, n), others)
        return jnp.mean(x, axes)

    features = draw_features(SHALLOW, 1, 0)
    network = GraphNetwork(
        SHALLOW, 1, 1, hidden_channels=4, num_layers=2, key=jr.key(0)
    )
    monkeypatch.setattr(MessagePassing, "_pool", weighted)
    # Not the function that other tests have compiled.
    assert broken_by_most(lambda x: network(x), SHALLOW, features) > MOVED


def test_larger_groups_are_not_respected():
    # Inputs and outputs have identities, recurrent rows and columns belong together.
    features = draw_features(MLP, 1, 0)
    network = GraphNetwork(MLP, 1, 1, hidden_channels=4, num_layers=1, key=jr.key(0))
    free = MLP.unfix("in", "out")
    assert broken_by_most(network, MLP, features, group=free) > MOVED
    spec = {
        "['b']": ("h",),
        "['o']": (None, "h"),
        "['s']": (),
        "['u']": ("h", None),
        "['w']": ("h", "g"),
    }
    weights = {
        path.strip("[']"): jax.ShapeDtypeStruct(shape, jnp.float32)
        for path, shape in ((x.path, x.shape) for x in RECURRENT.leaves)
    }
    uncoupled = WeightSpace.from_spec(weights, spec)
    features = draw_features(RECURRENT, 1, 0)
    network = GraphNetwork(
        RECURRENT, 1, 1, hidden_channels=4, num_layers=1, key=jr.key(0)
    )
    assert broken_by_most(network, RECURRENT, features, group=uncoupled) > MOVED


def _doubled(features):
    """Every hidden unit twice."""
    return {
        "b0": np.repeat(features["b0"], 2, 0),
        "b1": features["b1"],
        "w0": np.repeat(features["w0"], 2, 0),
        "w1": np.repeat(features["w1"], 2, 1),
    }


@pytest.mark.parametrize("aggregation", ["mean", "sum"])
def test_width_generalisation(aggregation):
    narrow, wide = _mlp_space(2, 3, 2), _mlp_space(2, 6, 2)
    # The numbers of parameters do not depend on widths that may move.
    networks = [
        GraphNetwork(
            space, 1, 1, hidden_channels=4, num_layers=1, aggregation=aggregation,
            key=jr.key(0),
        )
        for space in (narrow, wide)
    ]  # fmt: skip
    features = draw_features(narrow, 1, 0)
    expected = _doubled(call(networks[0], features))
    found = distance(call(networks[1], _doubled(features)), expected)
    assert found < SAME if aggregation == "mean" else found > MOVED


def test_information_reaches_every_leaf():
    # One round from edges to the global state, one from there to all the rest.
    network = GraphNetwork(MLP, 1, 1, hidden_channels=4, num_layers=2, key=jr.key(0))
    features = draw_features(MLP, 1, 0)
    result = call(network, features)
    for name, leaf in features.items():
        changed = call(network, features | {name: array(1 + np.asarray(leaf))})
        for reached in result:
            assert distance(changed[reached], result[reached]) > 1e-6, (name, reached)


def test_heads_connect_their_parts():
    # Queries and values share nothing but the head they are in.
    weights = {k: jax.ShapeDtypeStruct((2, 3), jnp.float32) for k in "qv"}
    space = WeightSpace.from_spec(
        weights,
        {"['q']": ("heads", "units"), "['v']": ("heads", "values")},
        nested={"units": "heads", "values": "heads"},
    )
    network = GraphNetwork(space, 1, 1, hidden_channels=4, num_layers=2, key=jr.key(0))
    features = draw_features(space, 1, 0)

    def reached(head):
        """How far a value of this head moves a query of the first."""
        v = np.array(features["v"])
        v[head, 0] += 1
        both = (call(network, x)["q"] for x in (features, features | {"v": array(v)}))
        before, after = (np.asarray(q)[0, 0, 0] for q in both)
        return after - before

    assert abs(reached(0) - reached(1)) > 1e-6


def test_is_healthy():
    network = GraphNetwork(SMALL, 2, 2, hidden_channels=4, num_layers=1, key=jr.key(0))
    assert_healthy(network, SMALL, 2)


def test_tied_parameters_do_not_grow():
    def count(depth, tied):
        layer = MessagePassing(
            _mlp_space(*[2] * (depth + 1)), 4, tied=tied, key=jr.key(0)
        )
        return sum(x.size for x in jax.tree.leaves(eqx.filter(layer, eqx.is_array)))

    assert count(2, True) == count(5, True)
    assert count(2, False) < count(5, False)


def test_errors():
    with without_type_checks(), pytest.raises(ValueError, match="aggregation"):
        MessagePassing(MLP, 2, aggregation="max", key=jr.key(0))  # pyright: ignore
    with pytest.raises(ValueError, match="channels"):
        MessagePassing(MLP, 0, key=jr.key(0))
    with pytest.raises(ValueError, match="num_layers"):
        GraphNetwork(MLP, 1, 1, num_layers=-1, key=jr.key(0))
    network = GraphNetwork(MLP, 1, 1, num_layers=0, key=jr.key(0))
    with pytest.raises(ValueError, match="w1"):
        network(
            draw_features(
                MLP, {x.path: 1 + (x.path == "['w1']") for x in MLP.leaves}, 0
            )
        )
