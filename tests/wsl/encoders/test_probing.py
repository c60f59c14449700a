"""Probing encoders against NumPy: learned, generated and interactive inputs."""

import functools
import math
from typing import Any

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given

from tests.helpers import examples, nightly
from tests.wsl.helpers import act_on_network, array, call, draw_network
from wsl import WeightSpace
from wsl.encoders import (
    AbstractEncoder,
    count_flops,
    GeneratedProbing,
    InteractiveProbing,
    Probing,
)


KINDS = ("learned", "generated", "interactive")


def _encoder(kind, input_shape: Any = 3, output_size=2, **options) -> Any:
    """An encoder with four probes; the interactive one asks twice two."""
    key = jax.random.key(7)
    if kind == "learned":
        return Probing(input_shape, output_size, 4, key=key, **options)
    if kind == "generated":
        sizes = {"code_size": 5, "width": 6, "depth": 2}
        return GeneratedProbing(
            input_shape, output_size, 4, key=key, **sizes, **options
        )
    return InteractiveProbing(
        input_shape, output_size, 2, 2, state_size=5, key=key, **options
    )


def _linear(weight, bias):
    weight, bias = (np.asarray(x, np.float32) for x in (weight, bias))
    return lambda x: jnp.asarray(weight) @ x + jnp.asarray(bias)


W = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])
B = np.array([0.5, -0.25])


def _mlp(width, depth, seed=0):
    make = functools.partial(eqx.nn.MLP, 3, 2, width, depth, jax.nn.tanh)
    return draw_network(eqx.filter_eval_shape(make, key=jax.random.key(0)), seed)


def _stack(networks):
    return jax.tree.map(
        lambda *leaves: (
            array(np.stack(leaves)) if eqx.is_array(leaves[0]) else leaves[0]
        ),
        *networks,
    )


def _probes_of(encoder):
    """All probes that a network with no influence on them is asked."""
    probes = np.asarray(encoder.probes)
    return probes.reshape(-1, *probes.shape[probes.ndim - 1 :])


# What each computes, by hand or in NumPy.


@pytest.mark.parametrize(
    ("kind", "features"), [("learned", 8), ("generated", 8), ("interactive", 13)]
)
def test_counts(kind, features):
    # Four probes, two numbers of each answer; and a state of five.
    encoder = _encoder(kind)
    assert isinstance(encoder, AbstractEncoder) and encoder.is_invariant
    assert (encoder.num_features, encoder.num_reads) == (features, 8)
    assert call(encoder, _linear(W, B)).shape == (features,)


def test_generated_by_hand():
    encoder = GeneratedProbing(
        (2, 1), 1, 2, code_size=1, width=2, depth=2, key=jax.random.key(0)
    )
    encoder = eqx.tree_at(
        lambda e: (e.codes, e.matrices, e.offset),
        encoder,
        (
            jnp.array([[1.0], [-2.0]]),
            (jnp.array([[1.0], [3.0]]), jnp.array([[1.0, 1.0], [0.0, 2.0]])),
            jnp.array([[0.5], [10.0]]),
        ),
    )
    # Code z goes to (z, 3z), then to (4z, 6z), then to (4z + 0.5, 6z + 10).
    np.testing.assert_allclose(
        encoder.probes, [[[4.5], [16]], [[-7.5], [-2]]], rtol=1e-6
    )
    np.testing.assert_allclose(
        call(encoder, lambda x: x[0, 0] - x[1, 0]), [-11.5, -5.5], rtol=1e-6
    )


def _numpy_gru(cell, x, h):
    """Cho et al. 2014, with the reset gate inside the product, as Equinox has it."""
    arrays = (cell.weight_ih, cell.weight_hh, cell.bias, cell.bias_n)
    of_x, of_h, bias, bias_n = (np.asarray(array, float) for array in arrays)
    a_r, a_z, a_n = np.split(of_x @ x + bias, 3)
    b_r, b_z, b_n = np.split(of_h @ h, 3)
    reset, update = 1 / (1 + np.exp(-a_r - b_r)), 1 / (1 + np.exp(-a_z - b_z))
    new = np.tanh(a_n + reset * (b_n + bias_n))
    return new + update * (h - new)


def test_interactive_in_numpy():
    encoder = InteractiveProbing(
        (3, 1), 2, 3, 2, state_size=4, map_probe=jnp.tanh, key=jax.random.key(0)
    )
    state, expected, asked = np.zeros(4), [], []
    for learned in np.asarray(encoder.probes, float):
        probes = learned.ravel() + np.asarray(encoder.write.weight, float) @ state
        probes = np.tanh(probes.reshape(2, 3))
        asked.append(probes)
        answers = (probes @ W.T + B).ravel()
        expected.append(answers)
        state = _numpy_gru(encoder.cell, answers, state)
    network = _linear(W, B)
    np.testing.assert_allclose(
        call(encoder, lambda x: network(x[:, 0])),
        np.concatenate([*expected, state]),
        rtol=1e-4,
        atol=1e-5,
    )
    # Control: without the interaction, later probes would be others.
    assert np.abs(asked[2] - np.tanh(encoder.probes[2, ..., 0])).max() > 0.01


def test_interactive_that_does_not_listen_is_probing():
    encoder = _encoder("interactive")
    deaf = eqx.tree_at(
        lambda e: e.write.weight, encoder, array(np.zeros(encoder.write.weight.shape))
    )
    probing = eqx.tree_at(
        lambda e: e.probes, _encoder("learned"), array(_probes_of(encoder))
    )
    network = _mlp(4, 1)
    of_deaf, asked, vector = (
        np.asarray(call(one, network)) for one in (deaf, probing, encoder)
    )
    np.testing.assert_allclose(of_deaf[:8], asked, rtol=1e-5)
    # Only the first round's two probes are the same for every network.
    np.testing.assert_allclose(vector[:4], asked[:4], rtol=1e-5)
    assert np.abs(vector[4:8] - asked[4:]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_probes_and_answers(kind):
    # The network sees tanh of each probe, and of its two answers one number is read.
    encoder = _encoder(
        kind,
        output_size=1,
        map_probe=jnp.tanh,
        map_answer=lambda answer: answer[0] - 2 * answer[1],
    )
    assert encoder.num_reads == 4
    if kind == "interactive":
        nothing = array(np.zeros(encoder.write.weight.shape))
        encoder = eqx.tree_at(lambda e: e.write.weight, encoder, nothing)
    answers = np.tanh(_probes_of(encoder)) @ W.T + B
    np.testing.assert_allclose(
        np.asarray(call(encoder, _linear(W, B)))[:4],
        answers[:, 0] - 2 * answers[:, 1],
        rtol=1e-4,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_answers_that_are_not_one_array(kind):
    def network(x):
        return {"mean": x[:2], "spread": x[2]}

    picked = _encoder(kind, map_answer=lambda answer: answer["mean"])
    np.testing.assert_array_equal(
        np.asarray(call(picked, network))[:4], _probes_of(picked)[:2, :2].ravel()
    )
    with pytest.raises(ValueError) as caught:
        _encoder(kind)(network)
    assert str(caught.value) == (
        "The network answers with a dict, not one array. Say what to read of it by "
        "`map_answer`."
    )


# First probes.


@pytest.mark.parametrize("depth", nightly([1, 4], [4]))
def test_generated_probes_have_the_variance_of_their_codes(depth):
    # Growing sizes: each matrix keeps every vector's mean square, to rounding.
    encoder = GeneratedProbing(
        (3, 4), 1, 5, code_size=3, width=7, depth=depth, key=jax.random.key(0)
    )
    squares = np.mean(np.asarray(encoder.probes).reshape(5, -1) ** 2, 1)
    expected = np.mean(np.asarray(encoder.codes) ** 2, 1)
    np.testing.assert_allclose(squares, expected, rtol=1e-4)
    # Shrinking sizes: on average over draws. 400 squares of normals have mean 1 within
    # five times sqrt(2 / 400), and probes of one draw share its matrices.
    make = lambda key: GeneratedProbing(
        2, 1, 1, code_size=8, width=16, depth=depth, key=key
    )
    draw = jax.jit(jax.vmap(lambda key: make(key).probes))
    probes = np.asarray(draw(jax.random.split(jax.random.key(1), 400)))
    assert abs(np.mean(probes**2) - 1) < 5 * math.sqrt(1 / 400)
    assert np.abs(np.mean(probes)) < 5 * math.sqrt(1 / 400)


def test_initializers():
    def constant(key, shape, dtype):
        return jnp.full(shape, 0.25, dtype)

    assert np.all(_encoder("interactive", initializer=constant).probes == 0.25)
    assert np.all(_encoder("generated", initializer=constant).codes == 0.25)
    first = np.asarray(_encoder("interactive", input_shape=500).probes)
    assert first.shape == (2, 2, 500)
    # Uniform on [0, 1): 2,000 numbers have mean 1/2 within 5 * sqrt(1/12/2000).
    assert first.min() >= 0 and first.max() < 1 and abs(first.mean() - 0.5) < 0.0323
    other = InteractiveProbing(500, 2, 2, 2, key=jax.random.key(8)).probes
    assert not np.array_equal(first, other)


def test_generated_probes_share_a_flat():
    # Six probes of ten numbers from codes of two: an offset and two directions, which
    # an activation between the matrices would leave.
    encoder = GeneratedProbing(10, 1, 6, code_size=2, depth=3, key=jax.random.key(0))
    encoder = eqx.tree_at(lambda e: e.offset, encoder, jnp.arange(10.0))
    directions = np.asarray(encoder.probes) - np.arange(10.0)
    assert np.linalg.matrix_rank(directions, tol=1e-3) == 2
    assert np.linalg.matrix_rank(np.asarray(encoder.codes), tol=1e-3) == 2


# Any network.


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_another_precision(kind):
    network = _linear(W, B)
    expected = call(_encoder(kind), network)
    with jax.enable_x64(True):
        vector = call(_encoder(kind), lambda x: network(x).astype(jnp.float64))
        np.testing.assert_allclose(vector, expected, rtol=1e-5, atol=1e-6)


class _CNN(eqx.Module):
    conv: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self, channels, *, key):
        keys = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, channels, 3, key=keys[0])
        self.out = eqx.nn.Linear(channels, 2, key=keys[1])

    def __call__(self, x):
        return self.out(jax.nn.relu(self.conv(x)).mean((1, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_encoder_reads_any_architecture(kind):
    encoder = _encoder(kind, input_shape=(1, 4, 4))
    shapes = functools.partial(eqx.filter_eval_shape, key=jax.random.key(0))
    mlp = draw_network(shapes(functools.partial(eqx.nn.MLP, 16, 2, 5, 2)))
    networks = [
        eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), mlp]),
        draw_network(shapes(functools.partial(_CNN, 2))),
        lambda x: jnp.stack([jnp.mean(x), jnp.max(x)]),
    ]
    vectors = np.stack([call(encoder, network) for network in networks])
    assert vectors.shape == (3, encoder.num_features)
    first = np.asarray(encoder.probes).reshape(-1, 1, 4, 4)[0]
    for network, vector in zip(networks, vectors, strict=True):
        np.testing.assert_allclose(
            vector[:2], call(network, array(first)), rtol=1e-5, atol=1e-6
        )
    # Control: no two of them answer alike.
    gaps = np.abs(vectors[:, None] - vectors[None]).max(-1)
    assert gaps[~np.eye(3, dtype=bool)].min() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_answers_that_are_numbers(kind):
    encoder = _encoder(kind, input_shape=(), output_size=1)
    first = np.ravel(encoder.probes)[:2]
    found = np.asarray(call(encoder, lambda x: 2 * x))
    np.testing.assert_allclose(found[:2], 2 * first, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_population_equals_a_loop(kind):
    networks = [_mlp(5, 1, seed) for seed in range(3)]
    encoder = _encoder(kind)
    vectors = np.asarray(call(eqx.filter_vmap(encoder), _stack(networks)))
    assert vectors.shape == (3, encoder.num_features)
    for vector, network in zip(vectors, networks, strict=True):
        np.testing.assert_allclose(vector, call(encoder, network), rtol=1e-4, atol=1e-5)
    # Control: the networks do differ.
    assert np.abs(vectors[0] - vectors[1]).max() > 0.05


@pytest.mark.parametrize("kind", KINDS)
@examples(15)
@given(st.integers(0, 2**32 - 1), st.permutations(range(4)))
def test_invariance(kind, seed, order):
    assume(list(order) != list(range(4)))
    network = _mlp(4, 1, seed)
    spec = {
        ".layers[0].weight": ("hidden", None),
        ".layers[0].bias": ("hidden",),
        ".layers[1].weight": (None, "hidden"),
        ".layers[1].bias": (None,),
    }
    space = WeightSpace.from_spec(network, spec)
    permuted = act_on_network(space, network, {"hidden": order})
    encoder = _encoder(kind)
    vector = np.asarray(call(encoder, network))
    np.testing.assert_allclose(call(encoder, permuted), vector, atol=1e-4)
    # Control: the outgoing weights alone, and it is another function.
    moved = eqx.tree_at(
        lambda n: n.layers[1].weight, network, permuted.layers[1].weight
    )
    assert np.abs(call(encoder, moved) - vector).max() > 1e-4


# Gradients.


def _parameters(encoder):
    return eqx.filter(encoder, eqx.is_inexact_array)


def _check_slope(function, at):
    """The gradient's own direction, against a difference of values."""
    gradient = call(eqx.filter_grad(function), at)
    length = math.sqrt(
        sum(float(np.sum(np.square(g))) for g in jax.tree.leaves(gradient))
    )
    assert length > 1e-3
    step = 1e-2

    value = eqx.filter_jit(lambda at, change: function(eqx.apply_updates(at, change)))

    def moved(by):
        change = jax.tree.map(lambda g: array(by / length * np.asarray(g)), gradient)
        return value(at, change)

    difference = (moved(step) - moved(-step)) / (2 * step)
    np.testing.assert_allclose(difference, length, rtol=2e-2)
    return gradient


@pytest.mark.parametrize(
    ("kind", "count"),
    nightly(
        [("learned", 1), ("generated", 4), ("interactive", 6)], [("interactive", 6)]
    ),
)
def test_gradients_to_parameters_and_network(kind, count):
    encoder, network = _encoder(kind), _mlp(4, 1)

    def size(encoder, network):
        return jnp.sum(encoder(network) ** 2)

    gradient = _check_slope(lambda encoder: size(encoder, network), encoder)
    leaves = jax.tree.leaves(gradient)
    # Probes; codes, two matrices and an offset; probes, four of the cell, and W.
    assert len(leaves) == len(jax.tree.leaves(_parameters(encoder))) == count
    assert all(np.abs(leaf).max() > 1e-6 for leaf in leaves)
    gradient = _check_slope(lambda network: size(encoder, network), network)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(gradient))


@pytest.mark.nightly
def test_the_cell_learns_through_answers():
    encoder, network = _encoder("interactive"), _mlp(4, 1)

    def last_answers(cell, network):
        used = eqx.tree_at(lambda e: e.cell, encoder, cell)
        return jnp.sum(used(network)[4:8] ** 2)

    # Only answers, not the state: what the cell read of the first round chose them.
    _check_slope(lambda cell: last_answers(cell, network), encoder.cell)
    # Controls: an answer with no slope passes nothing on, nor do first answers depend
    # on the cell.
    flat = eqx.filter_jit(eqx.filter_grad(last_answers))(
        encoder.cell, lambda x: jax.lax.stop_gradient(network(x))
    )
    first_answers = lambda encoder: jnp.sum(encoder(network)[:4] ** 2)
    first = eqx.filter_jit(eqx.filter_grad(first_answers))(encoder).cell
    for gradient in (flat, first):
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(gradient))


# Cost.


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_round_counts(rounds):
    # Two numbers in and two out: 8 products and sums, and 2 of the bias, a probe.
    network = _linear(np.eye(2), np.ones(2))
    encoder = InteractiveProbing(2, 2, rounds, 3, state_size=4, key=jax.random.key(0))
    one = InteractiveProbing(2, 2, 1, 3, state_size=4, key=jax.random.key(0))
    assert count_flops(encoder, network) == rounds * count_flops(one, network)
    # W h and its sum with the probes; the network; the cell's two products.
    products = 2 * 4 * 6 + 6 + 3 * 10 + 2 * 12 * 6 + 2 * 12 * 4
    assert products <= count_flops(one, network) <= products + 100


# Errors.


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((0, 1, 1), "`input_shape` is 0."),
        (((2, 0), 1, 1), r"`input_shape` is \(2, 0\)."),
        ((1, 0, 1), "`output_size` is 0."),
        ((1, 1, 0), "`num_(probes|rounds)` is 0."),
    ],
)
def test_sizes_must_be_positive(sizes: Any, said: str):
    kinds: Any = (Probing, GeneratedProbing)
    interactive: Any = InteractiveProbing
    for kind in kinds:
        with pytest.raises(ValueError, match=f"^Sizes must be positive; {said}$"):
            kind(*sizes, key=jax.random.key(0))
    with pytest.raises(ValueError, match=f"^Sizes must be positive; {said}$"):
        interactive(*sizes, 1, key=jax.random.key(0))


@pytest.mark.parametrize("name", ["code_size", "width", "depth"])
def test_sizes_of_the_generator_must_be_positive(name):
    options: Any = {name: 0}
    with pytest.raises(ValueError, match=f"positive; `{name}` is 0"):
        GeneratedProbing(1, 1, 1, **options, key=jax.random.key(0))


def test_sizes_of_the_interaction_must_be_positive():
    with pytest.raises(ValueError, match="positive; `probes_per_round` is 0"):
        InteractiveProbing(1, 1, 1, 0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="positive; `state_size` is 0"):
        InteractiveProbing(1, 1, 1, 1, state_size=0, key=jax.random.key(0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_run(kind):
    encoder = _encoder(kind)
    with pytest.raises(ValueError) as caught:
        encoder({"w": jnp.zeros((2, 3))})
    assert str(caught.value) == (
        "Probing runs the network, so it needs a callable; got dict. Join weights with "
        "the rest of their model by `eqx.combine` first."
    )
    with pytest.raises(ValueError) as caught:
        encoder(eqx.filter(_mlp(4, 1), eqx.is_array))
    assert str(caught.value) == (
        "The network is only its weights. Join weights with the rest of their model by "
        "`eqx.combine` first."
    )
    with pytest.raises(ValueError) as caught:
        encoder(lambda x: x)
    assert str(caught.value) == (
        "The network answers one probe with shape (3,); this encoder expects 2 numbers."
    )
    with pytest.raises(ValueError) as caught:
        _encoder(kind, map_answer=jax.nn.softmax)(lambda x: x)
    assert str(caught.value) == (
        "The network answers one probe with shape (3,) after `map_answer`; this "
        "encoder expects 2 numbers."
    )
