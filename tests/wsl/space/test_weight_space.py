"""`WeightSpace`: that its group leaves networks alone, its laws, its flat view."""

import copy
import itertools
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import wsl
from tests.wsl.helpers import (
    act_on_tree,
    assert_same,
    chain_spec,
    draw_element,
    draw_weights,
    make_space,
)
from wsl import Factor, WeightSpace


# Drawn weights are of order 1, and so are outputs. Rounding moves them by 1e-6 at most;
# the negative controls move them by far more than 1e-3.
_SAME, _MOVED = 1e-5, 1e-3


class _Stack(eqx.Module):
    """Linear layers in a tuple, each of its own width."""

    linears: tuple[eqx.nn.Linear, ...]

    def __init__(self, sizes, key):
        pairs = itertools.pairwise(sizes)
        self.linears = tuple(eqx.nn.Linear(n, m, key=key) for n, m in pairs)


def _network(make, spec):
    """A network with drawn weights, and its space."""
    shapes = eqx.filter_eval_shape(make, key=jax.random.key(0))
    space = WeightSpace.from_spec(shapes, spec)
    return eqx.combine(draw_weights(space, 0), shapes), space


def _mlp(width=4, depth=2, use_bias=True, **options):
    return _network(
        lambda key: eqx.nn.MLP(
            *(3, 2, width, depth, jax.nn.tanh),
            use_bias=use_bias,
            use_final_bias=use_bias,
            key=key,
        ),
        options.get("spec", chain_spec(depth + 1, use_bias=use_bias)),
    )


def _stack():
    return _network(lambda key: _Stack((3, 5, 2, 2), key), chain_spec(3, ".linears"))


_NETWORKS = {
    "mlp": _mlp,
    "one hidden layer, no biases": lambda: _mlp(5, 1, use_bias=False),
    "widths": _stack,
}
_each_network = pytest.mark.parametrize("make", _NETWORKS.values(), ids=_NETWORKS)


def _outputs(network):
    """What the network computes, in NumPy."""
    x = np.random.default_rng(0).standard_normal((4, 3))
    layers = network.linears if isinstance(network, _Stack) else network.layers
    for i, layer in enumerate(layers):
        x = (np.tanh(x) if i else x) @ np.asarray(layer.weight, float).T
        x = x if layer.bias is None else x + np.asarray(layer.bias, float)
    return x


# What the group does to functions.


@_each_network
def test_permuted_networks_compute_the_same(make):
    network, space = make()
    for seed in range(5):
        permuted = space.permute(network, draw_element(space, seed))
        assert type(permuted) is type(network)
        np.testing.assert_allclose(_outputs(permuted), _outputs(network), atol=_SAME)
    # Control: the weights have been moved.
    assert not np.array_equal(space.flatten(permuted), space.flatten(network))


@_each_network
def test_wrong_specs_change_the_function(make):
    network, space = make()
    paths = [leaf.path for leaf in space.leaves if leaf.path.endswith("weight")]
    still = {leaf.path: (None,) * len(leaf.shape) for leaf in space.leaves}
    for wrong in (
        # Only the columns of the last layer move, and nothing with them.
        {**still, paths[-1]: (None, "g")},
        # The inputs of the first layer are given in an order of their own.
        {**still, paths[0]: (None, "g")},
    ):
        space = WeightSpace.from_spec(network, wrong)
        element = {"g": jnp.asarray(np.roll(np.arange(space.groups["g"]), 1))}
        permuted = space.permute(network, element)
        assert np.abs(_outputs(permuted) - _outputs(network)).max() > _MOVED


# The laws of the group, and of its action: only moves, so equal to the bit.


@_each_network
def test_group_laws(make):
    network, space = make()
    weights = eqx.filter(network, eqx.is_array)
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
        assert_same(space.permute(weights, space.identity()), weights)
        # By its definition.
        assert_same(space.permute(weights, a), act_on_tree(space, weights, a))


def test_permute_compose_and_inverse_by_hand():
    space = WeightSpace.from_spec({"w": jnp.zeros(3)}, {"['w']": ("g",)})
    a, b = {"g": jnp.array([1, 2, 0])}, {"g": jnp.array([0, 2, 1])}
    # Entry i of the result is entry element[i] of the weights.
    once = space.permute({"w": jnp.array([10.0, 11.0, 12.0])}, a)
    np.testing.assert_array_equal(once["w"], [11, 12, 10])
    twice = space.permute(once, b)
    np.testing.assert_array_equal(twice["w"], [11, 10, 12])
    np.testing.assert_array_equal(space.compose(a, b)["g"], [1, 0, 2])
    # Control: the other way round is another element.
    np.testing.assert_array_equal(space.compose(b, a)["g"], [2, 1, 0])
    np.testing.assert_array_equal(space.inverse(a)["g"], [2, 0, 1])


def test_recurrent_leaf_moves_on_both_axes():
    random = np.random.default_rng(0)
    w, u = random.standard_normal((4, 4)), random.standard_normal((4, 2))
    weights = {"u": jnp.asarray(u, jnp.float32), "w": jnp.asarray(w, jnp.float32)}
    space = WeightSpace.from_spec(weights, {"['u']": ("h", None), "['w']": ("h", "h")})
    order = np.array([2, 0, 3, 1])
    matrix = np.eye(4, dtype=np.float32)[order]
    permuted = space.permute(weights, {"h": jnp.asarray(order)})
    np.testing.assert_array_equal(permuted["w"], matrix @ weights["w"] @ matrix.T)
    np.testing.assert_array_equal(permuted["u"], matrix @ weights["u"])

    # A recurrent network's last state is permuted along with it.
    def run(weights):
        w, u = np.asarray(weights["w"], float), np.asarray(weights["u"], float)
        state = np.zeros(4)
        for x in np.random.default_rng(1).standard_normal((5, 2)):
            state = np.tanh(w @ state + u @ x)
        return state

    np.testing.assert_allclose(run(permuted), run(weights)[order], atol=1e-12)
    # Control: with only the rows moved it is not.
    rows = {**permuted, "w": weights["w"][order]}
    assert np.abs(run(rows) - run(weights)[order]).max() > _MOVED


def test_samples_are_uniform():
    # A group of 3! * 2! = 12 elements. Each count has mean 500 and standard deviation
    # sqrt(6000 * 1/12 * 11/12) = 21.4; 5 of them either way.
    space = make_space({"a": (3, 2)}, {"a": ("g", "h")})
    keys = jax.random.split(jax.random.key(0), 6000)
    drawn = jax.vmap(lambda key: space.sample(key=key))(keys)
    rows, counts = np.unique(
        np.concatenate([drawn["g"], drawn["h"]], axis=1), axis=0, return_counts=True
    )
    expected = [
        [*g, *h]
        for g in itertools.permutations(range(3))
        for h in itertools.permutations(range(2))
    ]
    np.testing.assert_array_equal(rows, expected)
    assert counts.min() > 500 - 107 and counts.max() < 500 + 107


def test_without_groups():
    weights = {"a": jnp.arange(2.0)}
    space = WeightSpace.from_spec(weights)
    assert [x.axes for x in space.leaves] == [((Factor(2),),)]
    assert space.groups == {}
    assert space.sample(key=jax.random.key(0)) == {} == space.identity()
    assert_same(space.permute(weights, {}), weights)


def test_transformations():
    network, space = _mlp()
    weights = eqx.filter(network, eqx.is_array)
    keys = jax.random.split(jax.random.key(1), 5)

    @jax.jit
    @jax.vmap
    def shuffle(weights, key):
        element = space.sample(key=key)
        back = space.permute(space.permute(weights, element), space.inverse(element))
        return element, space.permute(weights, element), back

    population = jax.tree.map(
        lambda leaf: jnp.asarray(np.stack([leaf + i for i in range(5)])), weights
    )
    elements, shuffled, back = shuffle(population, keys)
    for i in range(5):
        one = lambda tree, i=i: jax.tree.map(lambda leaf: np.asarray(leaf)[i], tree)
        assert_same(one(elements), space.sample(key=keys[i]))
        expected = act_on_tree(space, one(population), one(elements))
        assert_same(one(shuffled), expected)
    assert_same(back, population)
    # Control: the draws do move something, and differently.
    assert len(np.unique(np.asarray(elements["h0"]), axis=0)) > 1

    # The gradient of an entry is 1 where it was: the inverse of the move.
    element = draw_element(space, 0)
    gradient = jax.grad(lambda v: space.flatten(_move(space, v, element))[7])
    vector = space.flatten(weights)
    where = int(np.argmax(gradient(vector)))
    assert vector[where] == space.flatten(_move(space, vector, element))[7]


def _move(space, vector, element):
    return space.permute(space.unflatten(vector), element)


def test_numpy_arrays_are_weights():
    weights = {"w": np.arange(6, dtype=np.float32).reshape(3, 2)}
    space = WeightSpace.from_spec(weights, {"['w']": ("g", None)})
    permuted = space.permute(weights, {"g": jnp.array([2, 1, 0])})
    assert isinstance(permuted["w"], jax.Array)
    np.testing.assert_array_equal(permuted["w"], weights["w"][::-1])
    np.testing.assert_array_equal(space.flatten(weights), np.arange(6.0))


# The flat view.


@_each_network
def test_flat_view_goes_there_and_back(make):
    network, space = make()
    weights = eqx.filter(network, eqx.is_array)
    vector = space.flatten(network)
    assert vector.shape == (space.size,)
    assert space.size == sum(leaf.size for leaf in jax.tree.leaves(weights))
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(weights)])
    np.testing.assert_array_equal(vector, expected)
    assert_same(space.unflatten(vector), weights)


def test_order_of_flattening():
    network = eqx.tree_at(
        lambda linear: (linear.weight, linear.bias),
        _linear(),
        (jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), jnp.array([7.0, 8.0])),
    )
    space = WeightSpace.from_spec(network)
    assert [x.path for x in space.leaves] == [".weight", ".bias"]
    assert [x.shape for x in space.leaves] == [(2, 3), (2,)]
    np.testing.assert_array_equal(space.flatten(network), np.arange(1.0, 9.0))
    # Dictionaries are flattened in the order of their keys.
    weights = {"b": jnp.array([1.0]), "a": jnp.array([[2.0], [3.0]]), "c": jnp.ones(())}
    space = WeightSpace.from_spec(weights)
    np.testing.assert_array_equal(space.flatten(weights), [2, 3, 1, 1])
    assert_same(space.unflatten(space.flatten(weights)), weights)


def test_mixed_dtypes():
    weights = {
        "half": jnp.asarray([[1.5, -2.25], [0.1, 3.0]], jnp.bfloat16),
        "single": jnp.asarray([0.1, 1e-30], jnp.float32),
    }
    spec = {"['half']": ("g", None), "['single']": ("g",)}
    space = WeightSpace.from_spec(weights, spec)
    assert [x.dtype for x in space.leaves] == ["bfloat16", "float32"]
    vector = space.flatten(weights)
    assert vector.dtype == jnp.float32 and vector.shape == (6,)
    assert_same(space.unflatten(vector), weights)
    swapped = space.permute(weights, {"g": jnp.array([1, 0])})
    assert_same(swapped, jax.tree.map(lambda leaf: leaf[::-1], weights))
    # Neither 16-bit type holds the other's numbers; float32 holds both.
    halves = {"a": jnp.ones(1, jnp.bfloat16), "b": jnp.full(1, 0.1, jnp.float16)}
    space = WeightSpace.from_spec(halves)
    assert space.flatten(halves).dtype == jnp.float32
    assert_same(space.unflatten(space.flatten(halves)), halves)
    only = {"a": jnp.ones(3, jnp.bfloat16)}
    assert WeightSpace.from_spec(only).flatten(only).dtype == jnp.bfloat16


def test_no_leaves():
    space = WeightSpace.from_spec({})
    assert space.size == 0 and space.flatten({}).shape == (0,)
    assert space.unflatten(jnp.zeros(0)) == {}


# The space itself.


def _linear(fan_in=3, dtype=jnp.float32):
    """A layer of ones, of which nothing has to be compiled."""
    make = lambda: eqx.nn.Linear(fan_in, 2, key=jax.random.key(0))
    shapes = eqx.filter_eval_shape(make)
    return jax.tree.map(lambda x: jnp.asarray(np.ones(x.shape), dtype), shapes)


_LINEAR_SPEC = {".weight": ("out", None), ".bias": ("out",)}


def test_groups_size_and_table():
    network, space = _mlp()
    assert list(space.groups.items()) == [("h0", 4), ("h1", 4)]
    assert space.size == (3 * 4 + 4) + (4 * 4 + 4) + (4 * 2 + 2)
    expected = """\
leaf               shape   axes
.layers[0].weight  (4, 3)  h0, -
.layers[0].bias    (4,)    h0
.layers[1].weight  (4, 4)  h1, h0
.layers[1].bias    (4,)    h1
.layers[2].weight  (2, 4)  -, h1
.layers[2].bias    (2,)    -
groups: h0 (4), h1 (4)"""
    assert space.table() == expected == str(space)
    frozen = WeightSpace.from_spec(network)
    assert frozen.table().splitlines()[-1] == "groups: none"


def test_equality_and_hash():
    space = WeightSpace.from_spec(_linear(), _LINEAR_SPEC)
    same = [
        WeightSpace.from_spec(eqx.filter(_linear(), eqx.is_array), _LINEAR_SPEC),
        WeightSpace.from_spec(eqx.filter_eval_shape(_linear), _LINEAR_SPEC),
        copy.deepcopy(space),
        _pickled(space),
        # Lists and another order of the spec make no difference.
        WeightSpace.from_spec(_linear(), {".bias": ["out"], ".weight": ["out", None]}),
    ]
    for other in same:
        assert other == space and hash(other) == hash(space)
    different = [
        WeightSpace.from_spec(_linear()),
        WeightSpace.from_spec(_linear(), {".weight": ("o", None), ".bias": ("o",)}),
        WeightSpace.from_spec(_linear(4), _LINEAR_SPEC),
        WeightSpace.from_spec(_linear(dtype=jnp.bfloat16), _LINEAR_SPEC),
        WeightSpace.from_spec({"w": jnp.zeros((2, 3)), "x": jnp.zeros(2)}),
    ]
    assert all(other != space for other in different)
    assert len({space, *same, *different}) == 1 + len(different)


def test_copies_take_the_same_networks():
    network, space = _mlp()
    weights, element = eqx.filter(network, eqx.is_array), draw_element(space, 0)
    for other in (copy.copy(space), copy.deepcopy(space), _pickled(space)):
        assert other == space and str(other) == str(space)
        assert_same(other.permute(weights, element), space.permute(weights, element))
        assert_same(other.unflatten(other.flatten(network)), weights)
    # What an inference has found out beside the group is kept.
    inferred = wsl.infer_weight_space(network, np.zeros(3, np.float32))
    assert _pickled(inferred).reasons == inferred.reasons != ()
    # A layer and its copy are pytrees of one structure.
    layer = wsl.nn.InvariantPool(space, 1)
    assert jax.tree.structure(copy.deepcopy(layer)) == jax.tree.structure(layer)
    # Control: a copy of another space is another one.
    assert copy.deepcopy(_mlp(5)[1]) != space != _pickled(inferred)


def _pickled(space):
    return pickle.loads(pickle.dumps(space))


# Errors.


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {**_LINEAR_SPEC, ".wieght": (None, None)},
            "The spec names ['.wieght'], which the weights do not have. "
            "Their leaves: ['.weight', '.bias'].",
        ),
        (
            {".weight": ("out", None)},
            "The spec leaves out ['.bias']. Give every leaf one entry for each axis, "
            "None where nothing may move it.",
        ),
        (
            {".weight": ("out",), ".bias": ("out",)},
            "The spec of leaf '.weight' is ('out',), but the leaf has shape (2, 3): "
            "give a sequence of 2 entries.",
        ),
        (  # A string of the right length is still no sequence of names.
            {".weight": ("h", None), ".bias": "h"},
            "The spec of leaf '.bias' is 'h', but the leaf has shape (2,): "
            "give a sequence of 1 entries.",
        ),
        (
            {".weight": (None, "g"), ".bias": ("g",)},
            "Group 'g' has size 3 on leaf '.weight' but 2 on leaf '.bias'.",
        ),
        (
            {".weight": ("g", "g"), ".bias": (None,)},
            "Group 'g' has size 2 on leaf '.weight' but 3 on leaf '.weight'.",
        ),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError) as caught:
        WeightSpace.from_spec(_linear(), spec)
    assert str(caught.value) == message


def test_integer_leaves_are_refused():
    with pytest.raises(ValueError) as caught:
        WeightSpace.from_spec({"step": jnp.zeros((), jnp.int32), "w": jnp.zeros(2)})
    assert str(caught.value) == (
        "Leaf \"['step']\" has dtype int32; weights are real floating-point arrays. "
        "Take the others out first, for instance with "
        "`eqx.filter(model, eqx.is_inexact_array)`."
    )


class _Counting(eqx.Module):
    weight: Array
    count: Array
    name: str


def test_what_is_no_weight_stays_as_it_is():
    model = _Counting(jnp.array([1.0, 2.0]), jnp.array([3, 4]), "a")
    weights = eqx.filter(model, eqx.is_inexact_array)
    space = WeightSpace.from_spec(weights, {".weight": ("g",)})
    permuted = space.permute(model, {"g": jnp.array([1, 0])})
    np.testing.assert_array_equal(permuted.weight, [2, 1])
    np.testing.assert_array_equal(permuted.count, [3, 4])
    assert permuted.name == "a"
    np.testing.assert_array_equal(space.flatten(model), [1, 2])


class _Lookalike(eqx.Module):
    weight: Array
    bias: Array | None


@pytest.mark.parametrize("method", ["flatten", "permute"])
def test_weights_of_another_space(method):
    space = WeightSpace.from_spec(_linear(), _LINEAR_SPEC)
    element = () if method == "flatten" else (space.identity(),)
    with pytest.raises(ValueError) as caught:
        getattr(space, method)({"w": jnp.zeros(2)}, *element)
    assert str(caught.value) == (
        "The weights are not of this space. Leaves too many: [\"['w']\"]; missing: "
        "['.weight', '.bias']."
    )
    # The same leaves and shapes, but in another kind of module.
    other = _Lookalike(_linear().weight, _linear().bias)
    with pytest.raises(ValueError, match="in another structure"):
        getattr(space, method)(other, *element)
    # Stacked weights are named by the first leaf that does not fit.
    stacked = jax.tree.map(lambda leaf: leaf[None], _linear())
    with pytest.raises(ValueError) as caught:
        getattr(space, method)(stacked, *element)
    assert str(caught.value) == (
        "Leaf '.weight' has shape (1, 2, 3); this space has (2, 3) there. A batch of "
        "weights goes through `jax.vmap`."
    )


def test_wrong_elements():
    weights = {"a": jnp.zeros((3, 2))}
    space = WeightSpace.from_spec(weights, {"['a']": ("g", "h")})
    good = space.identity()
    lacking, long = {"g": good["g"]}, {**good, "h": jnp.arange(3)}
    lacks = "The group element lacks a permutation for 'h'; it has ['g']."
    misfits = "The permutation for 'h' has shape (3,); expected (2,)."
    for wrong, message in ((lacking, lacks), (long, misfits)):
        for call in (
            lambda wrong=wrong: space.permute(weights, wrong),
            lambda wrong=wrong: space.inverse(wrong),
            lambda wrong=wrong: space.compose(wrong, good),
            lambda wrong=wrong: space.compose(good, wrong),
        ):
            with pytest.raises(ValueError) as caught:
                call()
            assert str(caught.value) == message


def test_wrong_length_of_vector():
    space = WeightSpace.from_spec(_linear())
    with pytest.raises(ValueError) as caught:
        space.unflatten(jnp.zeros(7))
    assert str(caught.value) == "Expected a vector of 8 weights; got shape (7,)."
