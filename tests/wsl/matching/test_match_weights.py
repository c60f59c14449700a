"""`match_weights`: known elements are found again, and each step is the best one."""

import itertools
import math

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import wsl
from tests.helpers import examples
from tests.wsl.helpers import (
    act,
    act_on_tree,
    chain_spec,
    draw_element,
    draw_weights,
    make_space,
)
from wsl import WeightSpace
from wsl.matching._descent import _descend, _improve
from wsl.matching._problem import finite_arrays, make_problem
from wsl.matching._start import informed_start
from wsl.testing import architectures, group_elements, weight_spaces, weights


_KEY = jax.random.key(0)


def _same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[group], other[group]) for group in one)


def _distance(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    gaps = [np.asarray(x, float) - np.asarray(y, float) for x, y in pairs]
    return float(np.sqrt(sum((gap**2).sum() for gap in gaps)))


def _problem(space, a, b):
    arrays = [finite_arrays(space, weights, "weights") for weights in (a, b)]
    return make_problem(space, *arrays)


def _elements(space):
    """All elements of a small group."""
    shapes = space.element_shapes()
    choices = [
        itertools.product(
            itertools.permutations(range(shape[-1])), repeat=math.prod(shape[:-1])
        )
        for shape in shapes.values()
    ]
    for chosen in itertools.product(*map(list, choices)):
        yield {
            group: np.asarray(rows).reshape(shape)
            for (group, shape), rows in zip(shapes.items(), chosen, strict=True)
        }


def _best_distance(space, a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return min(_distance(a, act(space, b, element)) for element in _elements(space))


def test_by_hand():
    a, b = {"w": jnp.array([3.0, 1.0, 2.0])}, {"w": jnp.array([1.0, 2.5, 3.0])}
    space = make_space({"w": (3,)}, {"w": ("g",)})
    match = wsl.match_weights(space, a, b, key=_KEY)
    # Entry i of the aligned weights is entry element[i] of b.
    np.testing.assert_array_equal(match.element["g"], [2, 0, 1])
    np.testing.assert_array_equal(match.aligned["w"], [3.0, 1.0, 2.5])
    assert match.distance == 0.5
    assert match.distance_before == pytest.approx(np.sqrt(4 + 1.5**2 + 1))
    # The other way round is the inverse.
    back = wsl.match_weights(space, b, a, key=_KEY)
    assert _same(back.element, space.inverse(match.element))


@examples(12)
@given(architectures(), st.data(), st.sampled_from([0.0, 0.05]))
def test_known_elements_are_recovered(architecture, data, noise):
    space = architecture.space
    b = eqx.filter(architecture.model, eqx.is_array)
    element = data.draw(group_elements(space))
    moved = act_on_tree(space, b, element)
    random = np.random.default_rng(0)
    a = jax.tree.map(
        lambda x: (x + noise * random.standard_normal(x.shape)).astype(x.dtype), moved
    )
    match = wsl.match_weights(space, a, architecture.model, key=_KEY)
    assert match.distance <= _distance(a, moved) * (1 + 1e-6)
    if noise == 0:
        assert _same(match.element, element) and match.distance == 0
        # A whole model comes back as one.
        assert type(match.aligned) is type(architecture.model)
        assert len(match.distances) == 1


# One group, or one family of nested groups, is one coordinate: the result is the best.


@pytest.mark.parametrize(
    ("shapes", "spec", "options"),
    [
        (
            {"a": (4, 3), "b": (4,), "c": (2, 4)},
            {"a": ("g", None), "b": ("g",), "c": (None, "g")},
            {},
        ),
        (
            {"a": (6, 2), "b": (3, 2), "c": (2,)},
            {"a": (("h", "u"), None), "b": ("u", "h"), "c": ("h",)},
            {"nested": {"u": "h"}, "sizes": {"h": 2}},
        ),
        # Two groups in the same blocks.
        (
            {"a": (6, 2), "b": (4, 3)},
            {"a": (("h", "u"), None), "b": (("h", "v"), None)},
            {"nested": {"u": "h", "v": "h"}, "sizes": {"h": 2}},
        ),
        # Blocks in blocks.
        (
            {"a": (8,), "b": (2, 2, 2), "c": (2, 2)},
            {"a": (("h", "u", "x"),), "b": ("x", "h", "u"), "c": ("h", "u")},
            {"nested": {"u": "h", "x": "u"}, "sizes": {"h": 2, "u": 2}},
        ),
    ],
)
def test_one_coordinate_is_exact(shapes, spec, options):
    space = make_space(shapes, spec, **options)
    for seed in range(5):
        a, b = draw_weights(space, seed), draw_weights(space, seed + 100)
        match = wsl.match_weights(space, a, b, key=_KEY, num_restarts=1, informed=False)
        assert match.distance == pytest.approx(_best_distance(space, a, b), rel=1e-5)
        assert match.distance < match.distance_before


def test_no_single_group_can_improve_the_result():
    space = make_space(
        {"a": (4, 3), "b": (3, 4), "c": (3, 3)},
        {"a": ("g", "h"), "b": ("h", "g"), "c": ("h", None)},
    )
    for seed in range(5):
        a, b = draw_weights(space, seed), draw_weights(space, seed + 100)
        match = wsl.match_weights(space, a, b, key=_KEY)
        for group, size in space.groups.items():
            for permutation in itertools.permutations(range(size)):
                other = match.element | {group: np.array(permutation)}
                distance = _distance(a, act_on_tree(space, b, other))
                assert distance >= match.distance * (1 - 1e-6)


def test_repeated_axes():
    # Quadratic assignment: no guarantee, but restarts get there for most.
    space = make_space({"w": (5, 5), "u": (5,)}, {"w": ("g", "g"), "u": ("g",)})
    best = 0
    for seed in range(6):
        a, b = draw_weights(space, seed), draw_weights(space, seed + 100)
        match = wsl.match_weights(space, a, b, key=_KEY, num_restarts=8)
        best += match.distance <= _best_distance(space, a, b) * (1 + 1e-5)
    assert best >= 5
    # Copies, of nothing but recurrent weights, with three axes, with symmetric ones.
    for shape in ((12, 12), (6, 6, 6)):
        space = make_space({"w": shape}, {"w": ("g",) * len(shape)})
        b = draw_weights(space, 0)
        element = draw_element(space, 0)
        match = wsl.match_weights(space, act_on_tree(space, b, element), b, key=_KEY)
        assert _same(match.element, element)
    space = make_space({"w": (12, 12)}, {"w": ("g", "g")})
    b = jax.tree.map(lambda w: w + w.T, draw_weights(space, 0))
    element = draw_element(space, 0)
    match = wsl.match_weights(space, act_on_tree(space, b, element), b, key=_KEY)
    assert _same(match.element, element)


def test_quadratic_steps_matter():
    # Noisy recurrent weights from a random start: the linearised step alone is worse.
    space = make_space({"w": (10, 10)}, {"w": ("g", "g")})
    found = linear = 0.0
    for seed in range(10):
        b, noise = draw_weights(space, seed), draw_weights(space, seed + 100)
        moved = act_on_tree(space, b, draw_element(space, seed + 200))
        a = jax.tree.map(lambda x, y: x + 0.5 * y, moved, noise)
        problem = _problem(space, a, b)
        start = problem.sample(np.random.default_rng(seed))
        before = problem.value(start)
        element = _descend(problem, start, np.random.default_rng(0), 100)
        found += problem.value(element)
        only = problem._replace(families={"g": ["g", "g"]})  # Not taken for plain.
        element = _descend(only, start, np.random.default_rng(0), 100)
        linear += problem.value(element)
        assert problem.value(element) >= before
    assert found > 1.2 * linear


def test_two_nested_groups_on_one_leaf():
    space = make_space(
        {"a": (3, 4, 2), "b": (3, 4), "c": (3, 2)},
        {"a": ("h", "u", "v"), "b": ("h", "u"), "c": ("h", "v")},
        nested={"u": "h", "v": "h"},
    )
    b = draw_weights(space, 0)
    element = draw_element(space, 0)
    match = wsl.match_weights(space, act_on_tree(space, b, element), b, key=_KEY)
    assert _same(match.element, element)


def test_a_weight_without_axes():
    a = {"w": jnp.array([3.0, 1.0]), "s": jnp.array(2.0)}
    b = {"w": jnp.array([1.0, 3.0]), "s": jnp.array(5.0)}
    space = wsl.WeightSpace.from_spec(a, {"['w']": ("g",), "['s']": ()})
    match = wsl.match_weights(space, a, b, key=_KEY)
    assert match.element["g"].tolist() == [1, 0]
    assert match.distance == pytest.approx(3.0)


@examples(12)
@given(weight_spaces(), st.data())
def test_any_space(space, data):
    """Steps never lose, and what is reported is what was done."""
    a, b = data.draw(weights(space)), data.draw(weights(space))
    problem = _problem(space, a, b)
    random = np.random.default_rng(0)
    element = problem.sample(random)
    for root in problem.families:
        better = _improve(problem, root, element)
        if better is not None:
            assert problem.value(better) > problem.value(element)
            element = better
    # The action and the objective in NumPy are the space's own.
    as_jax = {group: jnp.asarray(moved) for group, moved in element.items()}
    moved = space.permute(b, as_jax)
    inner = sum(
        float(np.vdot(x, y))
        for leaf, x, y in zip(
            space.leaves, jax.tree.leaves(a), jax.tree.leaves(moved), strict=True
        )
        if leaf.slots
    )
    assert problem.value(element) == pytest.approx(inner, abs=1e-4)
    other = problem.sample(random)
    both = problem.compose(element, other, list(space.groups))
    expected = space.compose(as_jax, {g: jnp.asarray(m) for g, m in other.items()})
    assert _same(both, expected)

    match = wsl.match_weights(space, a, b, key=_KEY, num_restarts=1)
    space.inverse(match.element)  # Of the right shapes.
    again = _distance(a, act_on_tree(space, b, match.element))
    assert match.distance == pytest.approx(again, rel=1e-5, abs=1e-5)
    assert match.distance <= match.distance_before + 1e-4
    assert min(match.distances) == pytest.approx(match.distance, abs=1e-2)
    copy = wsl.match_weights(space, b, space.permute(b, as_jax), key=_KEY)
    assert copy.distance <= _distance(b, moved) + 1e-4


def _residual(width, hidden, blocks):
    """Residual blocks, and nothing that tells units of the stream apart but biases."""
    shapes, spec = {}, {}
    for i in range(blocks):
        shapes |= {f"rise{i}": (hidden, width), f"fall{i}": (width, hidden)}
        shapes |= {f"rise_bias{i}": (hidden,), f"fall_bias{i}": (width,)}
        spec |= {f"rise{i}": (f"h{i}", "s"), f"fall{i}": ("s", f"h{i}")}
        spec |= {f"rise_bias{i}": (f"h{i}",), f"fall_bias{i}": ("s",)}
    return make_space(shapes, spec)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_residual_networks(noise):
    space = _residual(30, 50, 2)
    found = plain = 0
    for seed in range(10):
        b, other = draw_weights(space, seed), draw_weights(space, seed + 100)
        element = draw_element(space, seed)
        a = jax.tree.map(
            lambda x, y: x + noise * y, act_on_tree(space, b, element), other
        )
        match = wsl.match_weights(space, a, b, key=_KEY, num_restarts=0)
        found += _same(match.element, element)
        # Control: coordinate descent from one random start, as in Git Re-Basin.
        match = wsl.match_weights(space, a, b, key=_KEY, num_restarts=1, informed=False)
        plain += _same(match.element, element)
    assert found == 10 and plain <= 4


def test_informed_start_goes_outward_from_what_is_known():
    # Only the inputs tell the first layer's units apart, only they the second's.
    space = make_space(
        {"w0": (8, 3), "w1": (8, 8), "w2": (8, 8)},
        {"w0": ("h0", None), "w1": ("h1", "h0"), "w2": ("h2", "h1")},
    )
    b = draw_weights(space, 0)
    element = draw_element(space, 0)
    problem = _problem(space, act_on_tree(space, b, element), b)
    assert _same(informed_start(problem), element)
    # Latin squares, in which all rows and columns have the same numbers: now units of
    # one layer can't be told apart before those of the layer below.
    square = jnp.asarray(np.add.outer(np.arange(8), np.arange(8)) % 8, jnp.float32)
    b = {**b, "w1": square, "w2": square}
    problem = _problem(space, act_on_tree(space, b, element), b)
    assert _same(informed_start(problem), element)
    assert not _same(informed_start(problem, ["h2", "h1", "h0"]), element)


def test_informed_start_reads_the_diagonal():
    space = make_space({"w": (7, 7)}, {"w": ("g", "g")})
    element = draw_element(space, 0)

    def recovered(numbers):
        b = {"w": jnp.asarray(numbers, jnp.float32)}
        problem = _problem(space, act_on_tree(space, b, element), b)
        return _same(informed_start(problem), element)

    # Latin squares: with all numbers on the diagonal, and (control) with but one.
    assert recovered(np.add.outer(np.arange(7), np.arange(7)) % 7)
    assert not recovered(np.subtract.outer(np.arange(7), np.arange(7)) % 7)


def test_what_tells_units_apart_is_needed():
    space = make_space(
        {"w": (6, 2), "tag": (6,), "v": (2, 6)},
        {"w": ("g", None), "tag": ("g",), "v": (None, "g")},
    )
    b = {"w": jnp.ones((6, 2)), "tag": jnp.arange(6.0), "v": jnp.ones((2, 6))}
    element = {"g": jnp.array([3, 5, 0, 1, 4, 2])}
    match = wsl.match_weights(space, act_on_tree(space, b, element), b, key=_KEY)
    assert _same(match.element, element)
    # Control: without that leaf all elements are as good.
    b = {**b, "tag": jnp.zeros(6)}
    match = wsl.match_weights(space, act_on_tree(space, b, element), b, key=_KEY)
    assert match.distance == 0 and not _same(match.element, element)


def test_starts():
    space = _residual(30, 50, 2)
    b = draw_weights(space, 1)
    element = draw_element(space, 0)
    moved, noise = act_on_tree(space, b, element), draw_weights(space, 2)
    a = jax.tree.map(lambda x, y: x + y, moved, noise)
    options = {"num_restarts": 0, "informed": False, "initial": element}
    match = wsl.match_weights(space, a, b, key=_KEY, **options)
    assert _same(match.element, element) and len(match.distances) == 1
    match = wsl.match_weights(space, a, b, key=_KEY, num_restarts=3, initial=element)
    assert len(match.distances) == 6
    assert match.distances[0] == pytest.approx(match.distance, rel=1e-9)
    assert min(match.distances[:3]) < max(match.distances)  # Starts do differ.
    # No step at all: the best of the starts.
    match = wsl.match_weights(space, a, b, key=_KEY, max_sweeps=0, **options)
    assert _same(match.element, element)


def test_sweeps_go_on_for_as_long_as_they_help():
    # What the inputs tell has to reach the last layer, and the order is random.
    shapes = {"w0": (8, 40)} | {f"w{i}": (8, 8) for i in range(1, 7)}
    spec = {name: (name, f"w{i - 1}" if i else None) for i, name in enumerate(shapes)}
    space = make_space(shapes, spec)
    b = draw_weights(space, 0)
    a = act_on_tree(space, b, draw_element(space, 1))
    plain = {"num_restarts": 1, "informed": False}
    one, many = (
        wsl.match_weights(space, a, b, key=_KEY, max_sweeps=n, **plain).distance
        for n in (1, 100)
    )
    assert many == 0 < one


def test_few_digits_and_no_groups():
    make = lambda key: eqx.nn.MLP(3, 2, 5, 1, dtype=jnp.bfloat16, key=key)
    shapes = eqx.filter_eval_shape(make, _KEY)
    space = WeightSpace.from_spec(shapes, chain_spec(2))
    model = eqx.combine(draw_weights(space, 0), shapes)
    element = draw_element(space, 1)
    match = wsl.match_weights(space, space.permute(model, element), model, key=_KEY)
    assert _same(match.element, element)
    assert match.aligned.layers[0].weight.dtype == jnp.bfloat16
    frozen = WeightSpace.from_spec(model)
    match = wsl.match_weights(frozen, model, model, key=_KEY)
    assert match.element == {} and match.distance == 0


def test_errors():
    space = make_space({"w": (3, 2)}, {"w": ("g", "h")})
    good = draw_weights(space, 0)
    with pytest.raises(ValueError, match="^No start: num_restarts=0, informed=False"):
        wsl.match_weights(space, good, good, key=_KEY, num_restarts=0, informed=False)
    with pytest.raises(ValueError, match="of `b` are finite"):
        wsl.match_weights(space, good, {"w": good["w"] * jnp.nan}, key=_KEY)
    with pytest.raises(ValueError, match="this space has"):
        wsl.match_weights(space, {"w": good["w"].T}, good, key=_KEY)
    with pytest.raises(ValueError, match="lacks a permutation for 'h'"):
        initial = {"g": jnp.arange(3)}
        wsl.match_weights(space, good, good, key=_KEY, initial=initial)
