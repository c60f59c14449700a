"""Encodings of indices and of leaves: where they go, and what they leave alone."""

from typing import Any

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
    FACTORED,
    MLP,
    MOVED,
    RECURRENT,
    SAME,
    SMALL,
    SPACES,
    uneven,
    without_type_checks,
)
from wsl import WeightSpace
from wsl.nn import IndexEncoding, LayerEncoding


def _index(names=("in", "out"), channels: Any = 2, kind: Any = "learned", space=MLP):
    return IndexEncoding(space, names, channels, kind, num_bands=2, key=jr.key(0))


def test_learned_goes_where_the_names_are():
    layer, x = _index(), draw_features(MLP, 2, 0)
    # Leaves in order: b0, b1, b2, w0, w1, w2.
    assert layer.tables is not None
    shapes = [[t.shape for t in tables] for tables in layer.tables]
    assert shapes == [[], [], [(2, 2)], [(3, 2)], [], [(2, 2)]]
    y = call(layer, x)
    for name in ("b0", "b1", "w1"):
        np.testing.assert_array_equal(y[name], x[name])
    np.testing.assert_array_equal(y["b2"], x["b2"] + layer.tables[2][0])
    np.testing.assert_array_equal(y["w0"], x["w0"] + layer.tables[3][0][None])
    np.testing.assert_array_equal(y["w2"], x["w2"] + layer.tables[5][0][:, None])
    assert layer.out_channels == dict.fromkeys([x.path for x in MLP.leaves], 2)


def _sinusoids(n, bands=2, highest=5.0):
    table = []
    for t in np.linspace(-1, 1, n):
        f = np.linspace(1, highest, bands)
        table.append([*np.sin(np.pi * f * t), *np.cos(np.pi * f * t), t])
    return np.array(table)


def test_sinusoids_go_where_the_names_are():
    layer, x = _index(kind="sinusoidal"), draw_features(MLP, 2, 0)
    y = call(layer, x)
    assert layer.out_channels == dict.fromkeys([x.path for x in MLP.leaves], 2 + 5 + 5)
    inputs, outputs = _sinusoids(3), _sinusoids(2)
    expected = {name: np.zeros((*leaf.shape[:-1], 10)) for name, leaf in x.items()}
    expected["w0"][..., :5] += inputs
    expected["w2"][..., 5:] += outputs[:, None]
    expected["b2"][..., 5:] += outputs
    for name in x:
        np.testing.assert_array_equal(y[name][..., :2], x[name])
        np.testing.assert_allclose(y[name][..., 2:], expected[name], atol=1e-5)
    assert not jax.tree.leaves(layer)  # nothing to train


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
def test_hidden_units_may_still_move(kind):
    layer = _index(kind=kind, channels=uneven(MLP))
    features = draw_features(MLP, uneven(MLP), 0)
    assert_commutes(layer, MLP, features)
    # What is encoded may not: neither inputs nor outputs.
    for name in ("in", "out"):
        group = MLP.unfix(name)
        assert broken_by_most(layer, MLP, features, group=group) > MOVED
    # Control: only encoded names are told apart.
    assert (
        broken_by_most(
            _index(["in"], uneven(MLP), kind), MLP, features, group=MLP.unfix("out")
        )
        < SAME
    )


def test_both_ends_of_a_single_layer():
    """Input and output of one leaf, and a name that stands on it twice."""
    square = WeightSpace.from_spec(
        {"w": jnp.zeros((3, 3))}, {"['w']": ("f", "f")}, fixed=["f"]
    )
    zeros = {"w": array(np.zeros((3, 3, 2)))}
    y = np.asarray(call(_index(["f"], 2, "sinusoidal", square), zeros)["w"])[..., 2:]
    table = _sinusoids(3)
    for i, j in np.ndindex(3, 3):
        np.testing.assert_allclose(y[i, j], [*table[i], *table[j]], atol=1e-6)
    y = np.asarray(call(_index(["f"], 2, "learned", square), zeros)["w"])
    assert np.abs(y - y.swapaxes(0, 1)).max() > MOVED
    # All nine entries are told apart.
    assert len(np.unique(y.reshape(9, 2), axis=0)) == 9


def test_parts_of_an_axis():
    weights = {"a": jnp.zeros((6, 2))}
    space = WeightSpace.from_spec(
        weights, {"['a']": (("gate", "h"), None)}, fixed=["gate"], sizes={"gate": 3}
    )
    layer = _index(["gate"], 1, "learned", space)
    assert layer.tables is not None
    y = np.asarray(call(layer, {"a": array(np.zeros((6, 2, 1)))})["a"]).reshape(3, 2, 2)
    expected = np.broadcast_to(np.asarray(layer.tables[0][0])[:, None], (3, 2, 2))
    np.testing.assert_array_equal(y, expected)
    assert_commutes(layer, space, draw_features(space, 1, 0))


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
def test_health(kind):
    assert_healthy(LayerEncoding(SMALL, 2, kind, key=jr.key(0)), SMALL, 2)
    # An axis of one index.
    space = WeightSpace.from_spec(
        FACTORED.unflatten(jnp.zeros(FACTORED.size)),
        {
            "['bias']": ((3, "h"),),
            "['gates']": ((3, "h"), "h"),
            "['head']": (None, ("h", 4)),
            "['one']": ("h", "single"),
        },
        fixed=["single"],
    )
    assert_healthy(_index(["single"], 2, kind, space), space, 2)


@pytest.mark.parametrize("kind", ["learned", "sinusoidal"])
@pytest.mark.parametrize("name", ["mlp", "recurrent", "nested"])
def test_layer_encodings_commute(name, kind):
    space = SPACES[name]
    layer = LayerEncoding(space, uneven(space), kind, key=jr.key(0))
    assert_commutes(layer, space, draw_features(space, uneven(space), 0))


def test_layer_encodings_by_hand():
    x = draw_features(RECURRENT, 2, 0)
    layer = LayerEncoding(RECURRENT, 2, key=jr.key(0))
    assert layer.tables is not None
    for i, (a, b) in enumerate(zip(x.values(), call(layer, x).values(), strict=True)):
        np.testing.assert_allclose(
            np.asarray(b) - np.asarray(a),
            np.broadcast_to(layer.tables[i], a.shape),
            atol=1e-6,
        )
    assert len({float(t[0]) for t in layer.tables}) == 5
    layer = LayerEncoding(RECURRENT, 2, "sinusoidal", num_bands=2)
    assert layer.out_channels == dict.fromkeys([x.path for x in RECURRENT.leaves], 7)
    for i, (a, b) in enumerate(zip(x.values(), call(layer, x).values(), strict=True)):
        np.testing.assert_array_equal(np.asarray(b)[..., :2], a)
        expected = np.broadcast_to(_sinusoids(5)[i], (*a.shape[:-1], 5))
        np.testing.assert_allclose(np.asarray(b)[..., 2:], expected, atol=1e-5)
    # Positions of one's own: two leaves of one layer alike.
    positions = dict.fromkeys([x.path for x in RECURRENT.leaves], 0.5)
    layer = LayerEncoding(RECURRENT, 2, "sinusoidal", positions=positions)
    y = jax.tree.map(np.asarray, call(layer, x))
    assert y["b"][0, -1] == y["w"][0, 0, -1] == 0.5


def test_released_space_takes_the_encoding_of_its_own_space():
    """The features of a released space are those of the space."""
    free = MLP.unfix("in", "out")
    features = draw_features(free, 2, 0)
    layer = _index()
    assert distance(call(layer, features), features) > MOVED
    with pytest.raises(ValueError, match="before its release"):
        _index(space=free)


def test_errors():
    # The typical mistake: hidden units have no order to encode.
    with pytest.raises(ValueError, match="'h0' is not fixed.*breaks the symmetry"):
        _index(["h0"])
    with pytest.raises(ValueError, match="needs a key"):
        IndexEncoding(MLP, ["in"], 2)
    with pytest.raises(ValueError, match="needs a key"):
        LayerEncoding(MLP, 2)
    with without_type_checks(), pytest.raises(ValueError, match="kind"):
        _index(kind="random")
    with without_type_checks(), pytest.raises(ValueError, match="kind"):
        LayerEncoding(MLP, 2, "random")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="position"):
        LayerEncoding(MLP, 2, "sinusoidal", positions={"['w0']": 0.0})
