"""`ParameterGraph`: what is a node, what an edge, and that nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.helpers import call, draw_element
from tests.wsl.nn.helpers import (
    distance,
    draw_features,
    MLP,
    NESTED,
    RECURRENT,
    SPACES,
    uneven,
)
from wsl import WeightSpace
from wsl.nn import Containment, NodeSet, ParameterGraph


def _space(shapes, spec, **kwargs):
    weights = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()}
    spec = {f"['{k}']": v for k, v in spec.items()}
    return WeightSpace.from_spec(weights, spec, **kwargs)


def test_mlp_graph():
    graph = ParameterGraph.from_space(MLP)
    # Fixed names are nodes too; in the order in which leaves (by key) name them.
    assert graph.node_sets == (
        NodeSet(("h0",), (4,)),
        NodeSet(("h1",), (3,)),
        NodeSet(("out",), (2,)),
        NodeSet(("in",), (3,)),
    )
    ends = {one.path: one.ends for one in graph.incidences}
    assert ends == {
        "['b0']": ("h0",),
        "['b1']": ("h1",),
        "['b2']": ("out",),
        "['w0']": ("h0", "in"),
        "['w1']": ("h1", "h0"),
        "['w2']": ("out", "h1"),
    }
    assert [one.path for one in graph.edges] == ["['w0']", "['w1']", "['w2']"]
    assert graph.containments == ()
    assert hash(graph) == hash(ParameterGraph.from_space(MLP))


def test_targets_and_sources():
    ends = {
        one.path: (one.ends, one.target)
        for one in ParameterGraph.from_space(RECURRENT).incidences
    }
    assert ends == {
        "['b']": (("h",), True),
        "['o']": (("h",), False),  # (None, "h"): signals leave the units
        "['s']": ((), False),
        "['u']": (("h",), True),
        "['w']": (("h", "h"), True),
    }
    transposed = ParameterGraph.from_space(MLP, transposed=["['w1']"])
    assert transposed.incidences[4].ends == ("h0", "h1")
    features = draw_features(MLP, 1, 0)
    np.testing.assert_array_equal(
        transposed.to_graph(features).edges["['w1']"],
        np.swapaxes(features["w1"], 0, 1),
    )
    flipped = ParameterGraph.from_space(RECURRENT, transposed=["['o']"])
    assert flipped.incidences[1].target


def test_values_lie_where_their_axes_say():
    space = _space(
        {"a": (2, 6), "b": (3,), "c": (2, 3), "s": ()},
        {"a": ("x", ("y", 2)), "b": ("y",), "c": (None, "y"), "s": ()},
    )
    features = draw_features(space, 2, 0)
    graph = call(ParameterGraph.from_space(space).to_graph, features)
    graph, features = jax.tree.map(np.asarray, (graph, features))
    for x in range(2):
        for y in range(3):
            # Two weights on each edge, with two channels each.
            expected = [features["a"][x, 2 * y + t, c] for t in (0, 1) for c in (0, 1)]
            np.testing.assert_array_equal(graph.edges["['a']"][x, y], expected)
    for y in range(3):
        expected = [
            *features["b"][y],
            *(features["c"][t, y, c] for t in (0, 1) for c in (0, 1)),
        ]
        np.testing.assert_array_equal(graph.nodes["y"][y], expected)
    assert graph.nodes["x"].shape == (2, 0)
    np.testing.assert_array_equal(graph.globals, features["s"])


def test_products_and_blocks():
    graph = ParameterGraph.from_space(NESTED)
    labels = [one.label for one in graph.node_sets]
    # Values live in heads: on whatever axes, the two names are one set of nodes. No set
    # of the units or values alone, whose indices mean nothing outside their head.
    assert labels == [
        "heads x units x values",
        "model",
        "heads x units",
        "heads",
        "heads x values",
    ]
    ends = {one.path: one.ends for one in graph.incidences}
    assert ends["['v']"] == ("heads x values",)
    assert ends["['pair']"] == ("heads x units", "heads x units")
    assert set(graph.containments) == {
        Containment("heads x units x values", "heads", (0,)),
        Containment("heads x units x values", "heads x units", (0, 1)),
        Containment("heads x units x values", "heads x values", (0, 2)),
        Containment("heads x units", "heads", (0,)),
        Containment("heads x values", "heads", (0,)),
    }


def test_hyperedges():
    space = _space({"t": (2, 3, 4)}, {"t": ("x", "y", "z")})
    (incidence,) = ParameterGraph.from_space(space).incidences
    assert incidence.ends == ("x", "y", "z")


@pytest.mark.parametrize("name", SPACES)
def test_nothing_is_lost_and_the_group_acts_alike(name):
    space = SPACES[name]
    graph = ParameterGraph.from_space(space)
    counts = uneven(space)
    features = draw_features(space, counts, 0)
    laid = call(graph.to_graph, features)
    widths = [counts[x.path] for x in space.leaves]
    back = call(lambda laid: graph.to_features(laid, widths), laid)
    assert distance(back, features) == 0

    @jax.jit
    def both_ways(element):
        moved = graph.to_graph(space.permute_features(features, element))
        return moved, graph.permute(laid, element)

    for seed in range(3):
        assert distance(*both_ways(draw_element(space, seed))) == 0


def test_permuting_other_nodes_is_seen():
    graph = ParameterGraph.from_space(MLP)
    features = draw_features(MLP, 1, 0)
    element = MLP.identity() | {"h0": jnp.array([1, 0, 2, 3])}
    wrong = MLP.identity() | {"h0": jnp.array([0, 1, 3, 2])}
    moved = graph.to_graph(MLP.permute_features(features, element))
    assert distance(moved, graph.permute(graph.to_graph(features), wrong)) > 1e-3


def test_zero_weights_are_edges():
    zeros = jax.tree.map(jnp.zeros_like, draw_features(MLP, 1, 0))
    graph = ParameterGraph.from_space(MLP).to_graph(zeros)
    assert {path: x.shape for path, x in graph.edges.items()} == {
        "['w0']": (4, 3, 1),
        "['w1']": (3, 4, 1),
        "['w2']": (2, 3, 1),
    }


def test_dtypes_are_promoted():
    space = WeightSpace.from_spec(
        {"a": jnp.zeros(2, jnp.bfloat16), "b": jnp.zeros(2)},
        {"['a']": ("x",), "['b']": ("x",)},
    )
    features = {"a": jnp.ones((2, 1), jnp.bfloat16), "b": jnp.ones((2, 1))}
    graph = ParameterGraph.from_space(space).to_graph(features)
    assert graph.nodes["x"].dtype == jnp.float32


def test_unknown_transposed_leaf():
    with pytest.raises(ValueError, match="nothing_like_it"):
        ParameterGraph.from_space(MLP, transposed=["nothing_like_it"])
