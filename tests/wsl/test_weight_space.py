"""`WeightSpace`: that its group leaves networks alone, its laws, its flat view."""

import itertools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from jaxtyping import Array

from wsl import Factor, WeightSpace


# Few widths, so that examples share compilations.
_WIDTH = st.sampled_from([2, 3, 5])
# Drawn weights are of order 1, and so are outputs. Rounding moves them by 1e-6 at most;
# the negative controls move them by far more than 1e-3.
_SAME, _MOVED = 1e-5, 1e-3


class _Stack(eqx.Module):
    """Linear layers in a tuple: other paths, and an activation without symmetry."""

    linears: tuple[eqx.nn.Linear, ...]

    def __call__(self, x):
        for linear in self.linears[:-1]:
            x = jax.nn.silu(linear(x))
        return self.linears[-1](x)


def _spec(layers, prefix):
    """The spec of a perceptron: rows, bias and next columns of a layer together."""
    names = [None, *(f"hidden{i}" for i in range(len(layers) - 1)), None]
    spec = {}
    for i, layer in enumerate(layers):
        spec[f"{prefix}[{i}].weight"] = (names[i + 1], names[i])
        if layer.use_bias:
            spec[f"{prefix}[{i}].bias"] = (names[i + 1],)
    return spec


@st.composite
def _networks(draw):
    """A network with drawn weights and its written spec."""
    key = jax.random.key(0)
    use_bias = draw(st.booleans())
    depth = draw(st.integers(1, 3))
    if draw(st.booleans()):
        width = draw(_WIDTH)
        network = eqx.nn.MLP(
            3,
            2,
            width,
            depth,
            jax.nn.tanh,
            use_bias=use_bias,
            use_final_bias=use_bias,
            key=key,
        )
        spec = _spec(network.layers, ".layers")
    else:
        sizes = [3, *(draw(_WIDTH) for _ in range(depth)), 2]
        network = _Stack(
            tuple(
                eqx.nn.Linear(n, m, use_bias=use_bias, key=key)
                for n, m in itertools.pairwise(sizes)
            )
        )
        spec = _spec(network.linears, ".linears")
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def draw_leaf(leaf):  # Scaled, so that no layer's outputs grow.
        numbers = random.standard_normal(leaf.shape) / np.sqrt(leaf.shape[-1])
        return jnp.asarray(numbers, leaf.dtype)

    weights = jax.tree.map(draw_leaf, eqx.filter(network, eqx.is_array))
    return eqx.combine(weights, network), spec


def _draw_element(data, space):
    return {
        group: jnp.asarray(data.draw(st.permutations(range(n))), jnp.int32)
        for group, n in space.groups.items()
    }


def _outputs(network):
    inputs = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    return np.stack([network(x) for x in jnp.asarray(inputs)])


def _assert_same(a, b):
    """Equal to the bit, leaf by leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


# What the group does to functions.


@settings(max_examples=25)
@given(_networks(), st.data())
def test_permuted_networks_compute_the_same(network_and_spec, data):
    network, spec = network_and_spec
    space = WeightSpace.from_spec(network, spec)
    permuted = space.permute(network, _draw_element(data, space))
    assert type(permuted) is type(network)
    np.testing.assert_allclose(_outputs(permuted), _outputs(network), atol=_SAME)


@settings(max_examples=25)
@given(_networks(), st.data())
def test_wrong_specs_change_the_function(network_and_spec, data):
    network, spec = network_and_spec
    last = max(path for path in spec if path.endswith("weight"))
    wrong = {
        # Only the columns of the last layer move, and nothing with them.
        "uncoupled": {
            path: (None, "hidden") if path == last else (None,) * len(axes)
            for path, axes in spec.items()
        },
        # The inputs of the first layer are given in an order of their own.
        "input": {
            path: (axes[0], "input") if path.endswith("[0].weight") else axes
            for path, axes in spec.items()
        },
    }[data.draw(st.sampled_from(["uncoupled", "input"]))]
    space = WeightSpace.from_spec(network, wrong)
    element = _draw_element(data, space)
    free = element["hidden" if "hidden" in element else "input"]
    assume(not np.array_equal(free, range(len(free))))
    permuted = space.permute(network, element)
    assert np.abs(_outputs(permuted) - _outputs(network)).max() > _MOVED


# The laws of the group, and of its action: only moves, so equal to the bit.


@settings(max_examples=25)
@given(_networks(), st.data())
def test_group_laws(network_and_spec, data):
    network, spec = network_and_spec
    space = WeightSpace.from_spec(network, spec)
    weights = eqx.filter(network, eqx.is_array)
    a, b = _draw_element(data, space), _draw_element(data, space)
    _assert_same(
        space.permute(space.permute(weights, a), b),
        space.permute(weights, space.compose(a, b)),
    )
    _assert_same(space.permute(space.permute(weights, a), space.inverse(a)), weights)
    _assert_same(space.compose(a, space.inverse(a)), space.identity())
    _assert_same(space.compose(space.inverse(a), a), space.identity())
    _assert_same(space.permute(weights, space.identity()), weights)


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
    weights = {"a": jnp.zeros((3, 2))}
    space = WeightSpace.from_spec(weights, {"['a']": ("g", "h")})
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
    assert space.axes == (((Factor(2),),),)
    assert space.groups == {}
    assert space.sample(key=jax.random.key(0)) == {} == space.identity()
    _assert_same(space.permute(weights, {}), weights)


def test_jit_and_vmap():
    network = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    space = WeightSpace.from_spec(network, _spec(network.layers, ".layers"))
    weights = eqx.filter(network, eqx.is_array)
    keys = jax.random.split(jax.random.key(1), 5)

    @jax.jit
    @jax.vmap
    def shuffle(weights, key):
        element = space.sample(key=key)
        back = space.permute(space.permute(weights, element), space.inverse(element))
        return element, space.permute(weights, element), back

    population = jax.tree.map(
        lambda leaf: jnp.stack([leaf + i for i in range(5)]), weights
    )
    elements, shuffled, back = shuffle(population, keys)
    for i in range(5):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], population)
        element = space.sample(key=keys[i])
        _assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], elements), element)
        _assert_same(
            jax.tree.map(lambda leaf, i=i: leaf[i], shuffled),
            space.permute(one, element),
        )
    _assert_same(back, population)
    # Control: the draws do move something, and differently.
    first = np.asarray(elements["hidden0"])
    assert len(np.unique(first, axis=0)) > 1


# The flat view.


@settings(max_examples=25)
@given(_networks())
def test_flat_view_goes_there_and_back(network_and_spec):
    network, spec = network_and_spec
    space = WeightSpace.from_spec(network, spec)
    weights = eqx.filter(network, eqx.is_array)
    vector = space.flatten(network)
    assert vector.shape == (space.size,)
    assert space.size == sum(leaf.size for leaf in jax.tree.leaves(weights))
    _assert_same(space.unflatten(vector), weights)
    np.testing.assert_array_equal(space.flatten(space.unflatten(vector)), vector)


def test_order_of_flattening():
    network = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    network = eqx.tree_at(
        lambda linear: (linear.weight, linear.bias),
        network,
        (jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), jnp.array([7.0, 8.0])),
    )
    space = WeightSpace.from_spec(network)
    assert space.paths == (".weight", ".bias")
    assert space.shapes == ((2, 3), (2,))
    np.testing.assert_array_equal(space.flatten(network), np.arange(1.0, 9.0))
    # Dictionaries are flattened in the order of their keys.
    weights = {"b": jnp.array([1.0]), "a": jnp.array([[2.0], [3.0]]), "c": jnp.ones(())}
    space = WeightSpace.from_spec(weights)
    np.testing.assert_array_equal(space.flatten(weights), [2, 3, 1, 1])
    _assert_same(space.unflatten(space.flatten(weights)), weights)


def test_mixed_dtypes():
    weights = {
        "half": jnp.asarray([[1.5, -2.25], [0.1, 3.0]], jnp.bfloat16),
        "single": jnp.asarray([0.1, 1e-30], jnp.float32),
    }
    spec = {"['half']": ("g", None), "['single']": ("g",)}
    space = WeightSpace.from_spec(weights, spec)
    assert space.dtypes == ("bfloat16", "float32")
    vector = space.flatten(weights)
    assert vector.dtype == jnp.float32 and vector.shape == (6,)
    _assert_same(space.unflatten(vector), weights)
    swapped = space.permute(weights, {"g": jnp.array([1, 0])})
    _assert_same(swapped, jax.tree.map(lambda leaf: leaf[::-1], weights))
    # Neither 16-bit type holds the other's numbers; float32 holds both.
    halves = {"a": jnp.ones(1, jnp.bfloat16), "b": jnp.full(1, 0.1, jnp.float16)}
    space = WeightSpace.from_spec(halves)
    assert space.flatten(halves).dtype == jnp.float32
    _assert_same(space.unflatten(space.flatten(halves)), halves)
    only = {"a": jnp.ones(3, jnp.bfloat16)}
    assert WeightSpace.from_spec(only).flatten(only).dtype == jnp.bfloat16


def test_no_leaves():
    space = WeightSpace.from_spec({})
    assert space.size == 0 and space.flatten({}).shape == (0,)
    assert space.unflatten(jnp.zeros(0)) == {}


# The space itself.


def _linear(fan_in=3, fan_out=2):
    return eqx.nn.Linear(fan_in, fan_out, key=jax.random.key(0))


_LINEAR_SPEC = {".weight": ("out", None), ".bias": ("out",)}


def test_groups_size_and_table():
    network = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    space = WeightSpace.from_spec(network, _spec(network.layers, ".layers"))
    assert list(space.groups.items()) == [("hidden0", 4), ("hidden1", 4)]
    assert space.size == (3 * 4 + 4) + (4 * 4 + 4) + (4 * 2 + 2)
    expected = """\
leaf               shape   axes
.layers[0].weight  (4, 3)  hidden0, -
.layers[0].bias    (4,)    hidden0
.layers[1].weight  (4, 4)  hidden1, hidden0
.layers[1].bias    (4,)    hidden1
.layers[2].weight  (2, 4)  -, hidden1
.layers[2].bias    (2,)    -
groups: hidden0 (4), hidden1 (4)"""
    assert space.table() == expected == str(space)
    frozen = WeightSpace.from_spec(network)
    assert frozen.table().splitlines()[-1] == "groups: none"


def test_equality_and_hash():
    space = WeightSpace.from_spec(_linear(), _LINEAR_SPEC)
    same = [
        WeightSpace.from_spec(eqx.filter(_linear(), eqx.is_array), _LINEAR_SPEC),
        WeightSpace.from_spec(eqx.filter_eval_shape(_linear), _LINEAR_SPEC),
        # Lists and another order of the spec make no difference.
        WeightSpace.from_spec(_linear(), {".bias": ["out"], ".weight": ["out", None]}),
    ]
    for other in same:
        assert other == space and hash(other) == hash(space)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), _linear())
    different = [
        WeightSpace.from_spec(_linear()),
        WeightSpace.from_spec(_linear(), {".weight": ("o", None), ".bias": ("o",)}),
        WeightSpace.from_spec(_linear(4), _LINEAR_SPEC),
        WeightSpace.from_spec(half, _LINEAR_SPEC),
        WeightSpace.from_spec({"w": jnp.zeros((2, 3)), "x": jnp.zeros(2)}),
    ]
    assert all(other != space for other in different)
    assert len({space, *same, *different}) == 1 + len(different)


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
