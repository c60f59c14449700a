"""`EquivariantLinear`: equivariant, complete, and what its options leave out."""

import functools
import itertools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import examples, nightly
from tests.wsl.helpers import array, call, draw_element
from tests.wsl.nn.helpers import without_type_checks
from wsl import Stacked, Sum, WeightSpace
from wsl.nn import EquivariantLinear
from wsl.nn._linear_matmul import times_matrix


_BASES = ("full", "near-neighbour", "layer-tied")
_SEEDS = st.integers(0, 2**32 - 1)


def _space(leaves, **keywords):
    """A space of leaves given by shape and spec."""
    weights = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, (shape, _) in leaves.items()
    }
    spec = {f"['{name}']": axes for name, (_, axes) in leaves.items()}
    return WeightSpace.from_spec(weights, spec, **keywords)


def _perceptron(sizes, *, free):
    names = ["in", *(f"h{i}" for i in range(1, len(sizes) - 1)), "out"]
    leaves = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        leaves[f"w{i}"] = (fan_out, fan_in), (names[i + 1], names[i])
        leaves[f"b{i}"] = (fan_out,), (names[i + 1],)
    space = _space(leaves, fixed=["in", "out"])
    return space.unfix("in", "out") if free else space


def _recurrent(n=3):
    return _space(
        {"w": ((n, n), ("h", "h")), "u": ((n, 2), ("h", None)), "b": ((n,), ("h",))}
    )


def _attention(heads=2, units=2, stream=2):
    inner = heads * units
    return _space(
        {
            "q": ((inner, stream), (("heads", "qk"), "x")),
            "v": ((inner, stream), (("heads", "vo"), "x")),
            "o": ((stream, inner), ("x", ("heads", "vo"))),
            "s": ((stream,), ("x",)),
        },
        nested={"qk": "heads", "vo": "heads"},
        sizes={"heads": heads},
    )


_SPACES = {
    "free perceptron": _perceptron([3, 2, 3], free=True),
    "perceptron": _perceptron([2, 3, 2, 1], free=False),
    "recurrent": _recurrent(),
    # Fewer indices than slots, so that some terms are combinations of others.
    "recurrent, small": _recurrent(2),
    "three times": _space({"t": ((3, 3, 3), ("g", "g", "g")), "b": ((3,), ("g",))}),
    "nested": _attention(),
    "nested twice": _space(
        {"m": ((8, 2), (("a", "b", "c"), "r")), "v": ((8,), (("a", "b", "c"),))},
        nested={"c": "b", "b": "a"},
        sizes={"a": 2, "b": 2},
    ),
    "nested and repeated": _space(
        {"m": ((4, 4), (("a", "b"), ("a", "b"))), "v": ((4,), (("a", "b"),))},
        nested={"b": "a"},
        sizes={"a": 2},
    ),
    # Units beside an input, on one axis and on both; a stack of two layers.
    "sums": _space(
        {
            "m": ((3, 3), (Sum("g", 1), Sum("g", 1))),
            "v": ((4,), (Sum("g", "h"),)),
            "s": ((2, 2), Stacked(("g",), ("h",))),
        }
    ),
    "sums in blocks": _space(
        {"m": ((8,), (("a", Sum("b", "b")),)), "v": ((4,), (("a", "b"),))},
        nested={"b": "a"},
        sizes={"a": 2},
    ),
    # Gates before and pixels behind the units; a scalar; a leaf that nothing moves.
    "factors": _space(
        {
            "w": ((6, 3), ((2, "g"), "g")),
            "b": ((6,), (("g", 2),)),
            "s": ((), ()),
            "f": ((2,), (None,)),
        }
    ),
}


def _features(space, channels, seed=0):
    random = np.random.default_rng(seed)
    if isinstance(channels, int):
        channels = (channels,) * len(space.leaves)
    leaves = [
        array(random.standard_normal((*leaf.shape, count)))
        for leaf, count in zip(space.leaves, channels, strict=True)
    ]
    return jax.tree.unflatten(space.treedef, leaves)


def _zeros(space):
    return jax.tree.map(lambda x: array(np.zeros(x.shape)), _features(space, 1))


def _with_bias(layer, seed=0):
    random = np.random.default_rng(seed).standard_normal(layer.bias.shape)
    return eqx.tree_at(lambda x: x.bias, layer, array(random))


def _assert_close(a, b, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def _apart(a, b):
    differences = jax.tree.map(lambda x, y: np.abs(x - np.asarray(y)).max(), a, b)
    return max(jax.tree.leaves(differences))


# Equivariance.


# Of which a cheaper one of the kind is there.
_SLOW = [("three times", "full"), ("free perceptron", "full"), ("nested twice", "full")]


@pytest.mark.parametrize(
    ("name", "basis"),
    [
        *nightly(((name, "full") for name in _SPACES), _SLOW),
        *itertools.product(
            ["perceptron", "nested and repeated", "factors"],
            ["near-neighbour", "layer-tied"],
        ),
    ],
)
def test_commutes_with_the_group(name, basis):
    space = _SPACES[name]
    layer = EquivariantLinear(space, 2, 3, basis=basis, key=jax.random.key(0))
    layer, features = _with_bias(layer), _features(space, 2)
    outputs = call(layer, features)
    permute = jax.jit(space.permute_features)
    for seed in range(3):
        element = draw_element(space, seed)
        moved = call(layer, permute(features, element))
        _assert_close(moved, permute(outputs, element))


@st.composite
def _leaves(draw):
    """Shapes and specs with any groups, repeated or not, and fixed parts."""
    sizes = {"g": 2, "h": 3, "f": 2}
    leaves = {}
    for i in range(draw(st.integers(1, 3))):
        axes = draw(st.lists(st.sampled_from([*sizes, None]), max_size=3))
        leaves[f"l{i}"] = tuple(sizes.get(axis, 2) for axis in axes), tuple(axes)
    return leaves


@pytest.mark.nightly
@examples(4)
@given(_leaves(), st.sampled_from(_BASES), _SEEDS)
def test_two_layers_commute_with_the_group_of_any_space(leaves, basis, seed):
    fixed = {"f"} & {axis for _, axes in leaves.values() for axis in axes}
    space = _space(leaves, fixed=fixed)
    first, second = (
        _with_bias(EquivariantLinear(space, c, d, basis=basis, key=jax.random.key(c)))
        for c, d in ((1, 2), (2, 1))
    )

    @jax.jit
    def network(features):
        return second(jax.tree.map(jax.nn.relu, first(features)))

    features = _features(space, 1, seed)
    element = draw_element(space, seed)
    permute = jax.jit(space.permute_features)
    moved = network(permute(features, element))
    _assert_close(moved, permute(network(features), element), 1e-4)


def test_a_layer_wrong_in_one_term_does_not_commute():
    space = _perceptron([3, 2, 3], free=True)
    layer = EquivariantLinear(space, 1, 1, key=jax.random.key(0))
    features = _features(space, 1)
    element = {"in": [1, 2, 0], "h1": [0, 1], "out": [0, 1, 2]}
    element = {group: array(order, np.int32) for group, order in element.items()}
    permute = jax.jit(space.permute_features)

    @jax.jit
    def wrong(features):
        outputs = layer(features)
        # The row means of the first weights, written to its columns.
        leak = 0.1 * features["w0"].mean(1, keepdims=True)
        rows = jnp.pad(leak, [(0, 0), (0, 2), (0, 0)])
        return outputs | {"w0": outputs["w0"] + rows}

    for function, commutes in ((eqx.filter_jit(layer), True), (wrong, False)):
        moved = function(permute(features, element))
        error = _apart(moved, permute(function(features), element))
        assert (error < 1e-5) == commutes


# Completeness.


def _orbits(permutations, size):
    """How many orbits the group generated by some permutations has."""
    parent = np.arange(size)
    while True:
        new = parent
        for permutation in permutations:
            new = np.minimum(new, new[permutation])
            np.minimum.at(new, permutation, new.copy())
        if np.array_equal(new, parent):
            return len(np.unique(parent))
        parent = new


def _generators(space):
    """Swaps of two neighbours, in every group and in every block."""
    identity = space.identity()
    for group, shape in space.element_shapes().items():
        for block in np.ndindex(shape[:-1]):
            for i in range(shape[-1] - 1):
                swap = np.array(identity[group])
                swap[(*block, i)], swap[(*block, i + 1)] = i + 1, i
                yield identity | {group: jnp.asarray(swap)}


def _action(space, element, channels):
    """Where an element takes each entry of the flattened features."""
    stop, leaves = 0, []
    for leaf, count in zip(space.leaves, channels, strict=True):
        shape = (*leaf.shape, count)
        numbers = np.arange(stop, stop + int(np.prod(shape)))
        leaves.append(array(numbers.reshape(shape)))
        stop += numbers.size
    features = jax.tree.unflatten(space.treedef, leaves)
    return _flat(space.permute_features(features, element)).astype(int)


def _flat(features):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(features)])


def _dimension(space, in_channels, out_channels):
    """How many independent matrices A satisfy A ρ(g) = ρ'(g) A for all g.

    ρ and ρ' permute entries, so such a matrix is constant on the orbits of the group on
    pairs of an output and an input entry.
    """
    pairs = []
    for element in _generators(space):
        rows = _action(space, element, out_channels)
        columns = _action(space, element, in_channels)
        pairs.append((rows[:, None] * len(columns) + columns).ravel())
    sizes = [
        sum(int(np.prod(x.shape)) * c for x, c in zip(space.leaves, count, strict=True))
        for count in (out_channels, in_channels)
    ]
    return _orbits(pairs, sizes[0] * sizes[1])


def _maps(layer):
    """The matrix of the map that each coefficient stands for, one in each row."""
    space = layer.space
    # Of one channel for each piece, or as many as there are leaves.
    counts = layer.in_channels
    if len(counts) > len(space.leaves):
        counts = (1,) * len(space.leaves)
    shapes = [(*x.shape, c) for x, c in zip(space.leaves, counts, strict=True)]
    flat, unravel = jax.flatten_util.ravel_pytree(layer.coefficients)
    _, unravel_features = jax.flatten_util.ravel_pytree(
        jax.tree.unflatten(space.treedef, [array(np.zeros(shape)) for shape in shapes])
    )
    size = sum(int(np.prod(shape)) for shape in shapes)

    def column(coefficients, entry):
        changed = eqx.tree_at(lambda x: x.coefficients, layer, unravel(coefficients))
        outputs = jax.tree.leaves(changed(unravel_features(entry)))
        return jnp.concatenate([leaf.ravel() for leaf in outputs])

    each = jax.vmap(jax.vmap(column, (None, 0)), (0, None))
    maps = jax.jit(each)(array(np.eye(len(flat))), array(np.eye(size)))
    return np.asarray(maps, np.float64).reshape(len(flat), -1)


def _rank(matrix):
    return int(np.linalg.matrix_rank(matrix, tol=1e-4 * np.linalg.norm(matrix, 2)))


@pytest.mark.parametrize("name", nightly(_SPACES, ["three times", "factors", "nested"]))
def test_all_equivariant_maps_are_there(name):
    space = _SPACES[name]
    ones = (1,) * len(space.leaves)
    layer = EquivariantLinear(space, 1, 1, use_bias=False, key=jax.random.key(0))
    maps = _maps(layer)
    assert len(maps) == layer.num_terms == sum(c.size for c in layer.coefficients)
    assert _rank(maps) == _dimension(space, ones, ones)
    # Controls: without a term, or with only the near ones, it is not complete.
    if _rank(maps) == layer.num_terms:
        assert _rank(maps[1:]) < _rank(maps)
    if name in ("recurrent", "factors"):
        near = EquivariantLinear(
            space, 1, 1, basis="near-neighbour", use_bias=False, key=jax.random.key(0)
        )
        less = _maps(near)
        assert len(less) == near.num_terms < layer.num_terms
        assert _rank(less) < _rank(maps)


def test_all_maps_are_there_with_channels_for_each_leaf():
    space = _recurrent()
    ins, outs = {"w": 1, "u": 2, "b": 1}, {"w": 2, "u": 1, "b": 1}
    counts = [
        {f"['{name}']": count for name, count in channels.items()}
        for channels in (ins, outs)
    ]
    layer = EquivariantLinear(space, *counts, use_bias=False, key=jax.random.key(0))
    outputs = call(layer, _features(space, layer.in_channels))
    assert {name: leaf.shape[-1] for name, leaf in outputs.items()} == outs
    dimension = _dimension(space, layer.in_channels, layer.out_channels)
    assert _rank(_maps(layer)) == dimension


@pytest.mark.parametrize("name", ["recurrent", "nested"])
def test_counting_orbits_is_solving_the_commutation_equations(name):
    # Too many equations for the whole space: leaf to leaf, by the null space.
    space = {"recurrent": _recurrent(), "nested": _attention(2, 2, 1)}[name]
    ones = (1,) * len(space.leaves)
    size = space.size
    gram = np.zeros((size * size, size * size))
    for element in _generators(space):
        moved = np.eye(size)[_action(space, element, ones)]
        # vec(A) -> vec(moved A - A moved), for row-major vec.
        equations = np.kron(moved, np.eye(size)) - np.kron(np.eye(size), moved.T)
        gram += equations.T @ equations
    found = int((np.linalg.eigvalsh(gram) < 1e-8).sum())
    assert found == _dimension(space, ones, ones)


@pytest.mark.parametrize("name", ["three times", "nested and repeated", "factors"])
def test_all_equivariant_constants_are_there(name):
    space = _SPACES[name]
    layer = EquivariantLinear(space, 1, 2, key=jax.random.key(0))
    zeros = _zeros(space)

    def constant(bias):
        changed = eqx.tree_at(lambda x: x.bias, layer, bias)
        outputs = jax.tree.leaves(changed(zeros))
        return jnp.concatenate([leaf.ravel() for leaf in outputs])

    jacobian = jax.jit(jax.jacobian(constant))(layer.bias)
    twos = (2,) * len(space.leaves)
    moves = [_action(space, element, twos) for element in _generators(space)]
    assert _rank(np.asarray(jacobian, np.float64)) == _orbits(moves, len(jacobian))
    # They are zero at first.
    assert not np.any(layer.bias) and not np.any(_flat(call(layer, zeros)))


# The tied form.


@pytest.mark.nightly
def test_parameters_of_the_tied_form_do_not_grow_with_depth():
    def count(depth, basis, *, free):
        space = _perceptron([3, *[4] * depth, 2], free=free)
        layer = eqx.filter_eval_shape(
            lambda: EquivariantLinear(space, 2, 2, basis=basis, key=jax.random.key(0))
        )
        return layer.num_terms, sum(c.size for c in layer.coefficients)

    for free in (True, False):
        tied = [count(depth, "layer-tied", free=free) for depth in (4, 7)]
        assert len(set(tied)) == 1
        full = [count(depth, "full", free=free) for depth in (4, 5)]
        assert tied[0] < full[0] < full[1]
    # By hand: weight from own 4, next 2, previous 2, far 1, own bias 2, previous bias
    # 2, far bias 1; bias from own weight 2, next weight 2, far weight 1, own bias 2,
    # far bias 1.
    assert count(5, "layer-tied", free=True)[0] == 14 + 8


def test_layers_of_the_tied_form_do_the_same():
    # Three hidden layers alike, so that the middle ones see the same around them.
    space = _perceptron([4] * 7, free=True)
    layer = EquivariantLinear(space, 1, 1, basis="layer-tied", key=jax.random.key(0))
    layer = eqx.Partial(call, layer)
    features = _zeros(space)
    bump = array(np.random.default_rng(0).standard_normal((4, 4, 1)))
    second = layer(features | {"w2": bump})
    third = layer(features | {"w3": bump})
    for name, other in [("w1", "w2"), ("w2", "w3"), ("w3", "w4"), ("b2", "b3")]:
        np.testing.assert_allclose(second[name], third[other], atol=1e-6)
        assert np.abs(second[name]).max() > 1e-3
    # Own, neighbour and far differ.
    assert np.abs(second["w2"] - third["w2"]).max() > 1e-3
    np.testing.assert_allclose(second["w0"], second["w5"], atol=1e-6)
    # Control: the full form does not.
    full = EquivariantLinear(space, 1, 1, key=jax.random.key(0))
    full = eqx.Partial(call, full)
    difference = (
        full(features | {"w2": bump})["w2"] - full(features | {"w3": bump})["w3"]
    )
    assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize("free", [True, False])
def test_the_tied_form_is_a_full_layer_with_equal_matrices(free):
    space = _perceptron([2, 3, 3, 3, 1], free=free)
    tied = EquivariantLinear(space, 2, 2, basis="layer-tied", key=jax.random.key(0))
    full = EquivariantLinear(space, 2, 2, key=jax.random.key(1))
    matrices = call(lambda tied: tied.matrices(), tied)
    full = eqx.tree_at(lambda x: x.coefficients, full, matrices)
    features = _features(space, 2)
    _assert_close(call(tied, features), call(full, features))


# Variance.


def _variances(space, **keywords):
    """Of all entries after each of eight layers, in the middle of eight draws."""
    channels = 32

    @jax.jit
    @jax.vmap
    def run(key):
        keys = jax.random.split(key, 9)
        features = jax.tree.unflatten(
            space.treedef,
            [
                jax.random.normal(
                    jax.random.fold_in(keys[8], i), (*leaf.shape, channels)
                )
                for i, leaf in enumerate(space.leaves)
            ],
        )

        def step(features, key):
            layer = EquivariantLinear(space, channels, channels, key=key, **keywords)
            features = layer(features)
            flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(features)])
            return jax.tree.map(jax.nn.relu, features), jnp.mean(flat**2)

        return jax.lax.scan(step, features, keys[:8])[1]

    variances = run(jax.random.split(jax.random.key(0), 8))
    return np.median(variances, axis=0)


@pytest.mark.parametrize(
    ("depth", "free"),
    [
        (2, True),
        (4, False),
        *(pytest.param(depth, True, marks=pytest.mark.nightly) for depth in (4, 8)),
    ],
)
def test_variance_stays_over_eight_layers(depth, free):
    ends = (16, 16) if free else (2, 1)
    space = _perceptron([ends[0], *[16] * (depth - 1), ends[1]], free=free)
    variances = _variances(space)
    assert variances.min() > 0.5 and variances.max() < 2.0


def test_variance_falls_with_another_gain():
    assert _variances(_perceptron([16, 16, 16], free=True), gain=1.0)[-1] < 0.1


# Compiling, mapping, differentiating.


def test_batches_and_repeated_calls_compile_once():
    space = _recurrent()
    layer = EquivariantLinear(space, 2, 3, key=jax.random.key(0))
    traces = []

    @eqx.filter_jit
    def apply(layer, batch):
        traces.append(1)
        return jax.vmap(layer)(batch)

    singles = [_features(space, 2, seed) for seed in range(4)]
    batch = jax.tree.map(lambda *leaves: array(np.stack(leaves)), *singles)
    for seed in range(3):
        layer = EquivariantLinear(space, 2, 3, key=jax.random.key(seed))
        outputs = apply(layer, batch)
        one = call(layer, singles[2])
        _assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[2], outputs), one)
    assert len(traces) == 1


def test_gradients():
    layer = _with_bias(EquivariantLinear(_recurrent(), 1, 1, key=jax.random.key(0)))
    features = _features(layer.space, 1)

    @jax.jit
    def loss(coefficients, bias, features):
        changed = eqx.tree_at(
            lambda x: (x.coefficients, x.bias), layer, (coefficients, bias)
        )
        outputs = changed(features)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(outputs))

    arguments = (layer.coefficients, layer.bias, features)
    # Slopes along one direction, forward, backward and by differences.
    random = np.random.default_rng(1)
    along = jax.tree.map(lambda x: array(random.standard_normal(x.shape)), arguments)
    moved = lambda by: jax.tree.map(
        lambda x, d: array(x + by * np.asarray(d)), arguments, along
    )
    difference = (loss(*moved(1e-2)) - loss(*moved(-1e-2))) / 2e-2
    forward = jax.jit(lambda a, d: jax.jvp(loss, a, d)[1])(arguments, along)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments)
    backward = sum(
        np.sum(g * np.asarray(d))
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
    )
    np.testing.assert_allclose([forward, backward], difference, rtol=1e-2)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_products_with_a_matrix(axes):
    random = np.random.default_rng(0)
    shapes = [[5, 3], [3, 4]]
    for shape, axis in zip(shapes, axes, strict=True):
        if axis is not None:
            shape.insert(axis, 2)
    x, matrix = (array(random.standard_normal(s)) for s in shapes)

    @functools.partial(jax.jit, static_argnums=0)
    def outputs(product, x, matrix):
        def loss(x, matrix):
            return jnp.sum(jnp.sin(product(x, matrix)))

        mapped = jax.vmap(product, axes)
        total = jax.grad(lambda *a: jnp.sum(jnp.sin(mapped(*a))), argnums=(0, 1))
        each = jax.vmap(jax.grad(loss, argnums=(0, 1)), axes)
        ones = (jnp.ones_like(x), jnp.ones_like(matrix))
        slope = lambda *a: jnp.sum(jnp.sin(jax.tree.leaves(total(*a))[0]))
        return (
            *(mapped(x, matrix), total(x, matrix), each(x, matrix)),
            *(jax.jit(mapped)(x, matrix), jax.jvp(mapped, (x, matrix), ones)),
            jax.vmap(mapped)(x[None], matrix[None]),
            # Of second order, backward over backward and forward over it.
            jax.grad(slope, argnums=(0, 1))(x, matrix),
            jax.jvp(total, (x, matrix), ones),
        )

    _assert_close(outputs(times_matrix, x, matrix), outputs(jnp.matmul, x, matrix))
    other = lambda x, matrix: times_matrix(x, 2 * matrix)
    assert _apart(outputs(other, x, matrix), outputs(jnp.matmul, x, matrix)) > 1e-2


def test_dtypes_are_kept():
    weights = {"a": jnp.zeros((2, 2), jnp.bfloat16), "b": jnp.zeros(2)}
    space = WeightSpace.from_spec(weights, {"['a']": ("g", None), "['b']": ("g",)})
    layer = EquivariantLinear(space, 1, 1, key=jax.random.key(0))
    features = jax.tree.map(lambda leaf: leaf[..., None], weights)
    outputs = jax.eval_shape(layer, features)
    assert [leaf.dtype for leaf in outputs.values()] == [jnp.bfloat16, jnp.float32]


# Edges and errors.


def test_no_leaves():
    layer = EquivariantLinear(WeightSpace.from_spec({}), 1, 1, key=jax.random.key(0))
    assert layer({}) == {} and layer.num_terms == 0


def test_errors():
    space = _recurrent()
    with pytest.raises(ValueError) as caught, without_type_checks():
        EquivariantLinear(space, 1, 1, basis="fall", key=jax.random.key(0))  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == (
        "There is no basis 'fall'; give 'full', 'near-neighbour' or 'layer-tied'."
    )
    with pytest.raises(ValueError, match=r"Give every leaf its number of channels"):
        EquivariantLinear(space, {"['w']": 1}, 1, key=jax.random.key(0))
    layer = EquivariantLinear(space, 1, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"expected \(3, 1\)"):
        layer(_features(space, 2))


def test_gradients_inside_shard_map():
    # Types of arrays say there which of them differ between devices; a primitive that
    # loses this has no gradient.
    space = _perceptron((2, 3, 1), free=False)
    layer = EquivariantLinear(space, 1, 2, key=jax.random.key(0))
    coefficients, rest = eqx.partition(layer, eqx.is_array)
    random = np.random.default_rng(0)
    leaves = [
        array(random.standard_normal((4, *leaf.shape, 1))) for leaf in space.leaves
    ]
    population = jax.tree.unflatten(space.treedef, leaves)

    def loss(coefficients, population):
        outputs = jax.vmap(eqx.combine(coefficients, rest))(population)
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(outputs))

    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec, whole = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()
    mapped = jax.shard_map(
        jax.grad(loss, argnums=(0, 1)),
        mesh=mesh,
        in_specs=(whole, spec),
        out_specs=(whole, spec),
    )
    found = jax.jit(mapped)(coefficients, population)
    expected = jax.jit(jax.grad(loss, argnums=(0, 1)))(coefficients, population)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_layer_that_no_memory_holds_is_refused_before_it_is_asked_for():
    space = _space(
        {"embedding": ((50257, 64), ("tokens", "h")), "head": ((64, 4), ("h", None))},
        fixed=["tokens"],
    )
    with pytest.raises(ValueError, match=r"coefficients, .* GiB.*'tokens' \(50257\)"):
        EquivariantLinear(space, 4, 4, key=jax.random.key(0))
    with pytest.raises(ValueError, match="unfix"):
        EquivariantLinear(space, 4, 4, basis="near-neighbour", key=jax.random.key(0))
    layer = EquivariantLinear(space.unfix("tokens"), 4, 4, key=jax.random.key(0))
    assert layer.num_terms < 2000
    nameless = _space({"e": ((50257, 8), (None, "h"))})
    with pytest.raises(ValueError, match=r"Leaf \"\['e'\]\" has 50257"):
        EquivariantLinear(nameless, 4, 4, key=jax.random.key(0))
