"""Encoders against NumPy, and whether they are invariant as they say."""

import functools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given

from tests.helpers import examples
from tests.wsl.helpers import act_on_network, array, call, draw_network
from wsl import WeightSpace
from wsl.encoders import AbstractEncoder, Flat, Probing


def _linear(weight, bias):
    linear = eqx.filter_eval_shape(
        eqx.nn.Linear, len(weight[0]), len(weight), key=jax.random.key(0)
    )
    new = (array(weight), array(bias))
    return eqx.tree_at(lambda linear: (linear.weight, linear.bias), linear, new)


def _mlp(width, depth, seed, out_size=2):
    """An MLP with weights of order 1, and its hidden units' space."""
    make = functools.partial(eqx.nn.MLP, 3, out_size, width, depth, jax.nn.tanh)
    network = draw_network(eqx.filter_eval_shape(make, key=jax.random.key(0)), seed)
    names = [None, *(f"hidden{i}" for i in range(depth)), None]
    spec = {}
    for i in range(depth + 1):
        spec[f".layers[{i}].weight"] = (names[i + 1], names[i])
        spec[f".layers[{i}].bias"] = (names[i + 1],)
    return network, WeightSpace.from_spec(network, spec)


def _stack(networks):
    return jax.tree.map(
        lambda *leaves: (
            array(np.stack(leaves)) if eqx.is_array(leaves[0]) else leaves[0]
        ),
        *networks,
    )


def _numpy_answers(network, probes):
    answers = []
    for x in np.asarray(probes, float):
        for layer in network.layers[:-1]:
            x = np.tanh(np.asarray(layer.weight, float) @ x + np.asarray(layer.bias))
        last = network.layers[-1]
        answers.append(np.asarray(last.weight, float) @ x + np.asarray(last.bias))
    return np.concatenate(answers)


def test_flat_by_hand():
    network = _linear([[1, 2, 3], [4, 5, 6]], [7, 8])
    space = WeightSpace.from_spec(network)
    encoder = Flat(space)
    assert encoder.num_features == 8
    np.testing.assert_array_equal(call(encoder, network), [1, 2, 3, 4, 5, 6, 7, 8])
    only_arrays = eqx.filter(network, eqx.is_array)
    np.testing.assert_array_equal(call(encoder, only_arrays), call(encoder, network))


def test_flat_refuses_other_networks():
    encoder = Flat(WeightSpace.from_spec(_linear([[1, 2]], [3])))
    with pytest.raises(ValueError, match=r"Leaf '.weight' has shape \(2, 2\)"):
        encoder(_linear([[1, 2], [3, 4]], [5, 6]))
    with pytest.raises(ValueError, match=r"Leaf '.weight' has shape \(1, 1, 2\)"):
        encoder(_stack([_linear([[1, 2]], [3])]))


def test_probing_by_hand():
    # Two probes, two answers each: W x + b, probe after probe.
    network = _linear([[1, 2], [0, -1]], [0.5, 0])
    encoder = Probing(
        2,
        2,
        2,
        initializer=lambda key, shape, dtype: jnp.array([[1.0, 0.0], [2.0, 3.0]]),
        key=jax.random.key(0),
    )
    assert encoder.num_features == 4
    np.testing.assert_array_equal(call(encoder, network), [1.5, 0, 8.5, -3])


@pytest.mark.parametrize(("width", "depth"), [(5, 1), (2, 2)])
def test_one_probing_reads_any_architecture(width, depth):
    encoder = Probing(3, 2, 4, key=jax.random.key(1))
    network, _ = _mlp(width, depth, seed=0)
    np.testing.assert_allclose(
        call(encoder, network),
        _numpy_answers(network, encoder.probes),
        rtol=1e-5,
        atol=1e-5,
    )


def test_probing_with_inputs_and_outputs_of_any_rank():
    # One probe is a 2 x 3 array; the answer is its 2 x 2 Gram matrix.
    encoder = Probing((2, 3), 4, 2, key=jax.random.key(0))
    probes = np.asarray(encoder.probes)
    assert probes.shape == (2, 2, 3)
    grams = probes @ probes.transpose(0, 2, 1)
    np.testing.assert_allclose(
        call(encoder, lambda x: x @ x.T), grams.ravel(), rtol=1e-5, atol=1e-6
    )
    # Neither inputs nor answers need to be vectors.
    scalar = Probing((), 1, 3, key=jax.random.key(0))
    found = call(scalar, lambda x: 2 * x)
    np.testing.assert_array_equal(found, 2 * np.asarray(scalar.probes))


def test_first_probes():
    probes = np.asarray(Probing(50, 1, 40, key=jax.random.key(0)).probes)
    assert probes.shape == (40, 50)
    # Uniform on [0, 1): 2,000 numbers have mean 1/2 within 5 * sqrt(1/12/2000).
    assert 0 <= probes.min() < 0.01 and 0.99 < probes.max() < 1
    assert abs(probes.mean() - 0.5) < 0.0323
    other = Probing(50, 1, 40, key=jax.random.key(1)).probes
    assert not np.array_equal(probes, other)


def test_gradients_reach_the_probes():
    # d/dx sum(W x + b) = W summed over its rows, for every probe.
    network = _linear([[1, 2, 3], [4, 5, 6]], [7, 8])
    encoder = Probing(3, 2, 4, key=jax.random.key(0))
    gradient = eqx.filter_grad(lambda encoder: encoder(network).sum())
    gradient = call(gradient, encoder)
    np.testing.assert_allclose(gradient.probes, np.tile([5, 7, 9], (4, 1)), rtol=1e-6)
    # The probes are all there is to learn.
    assert len(jax.tree.leaves(eqx.filter(encoder, eqx.is_inexact_array))) == 1


@pytest.mark.parametrize("kind", [Flat, Probing])
def test_population_equals_a_loop(kind):
    networks = [_mlp(5, 1, seed)[0] for seed in range(3)]
    space = _mlp(5, 1, 0)[1]
    encoder = Flat(space) if kind is Flat else Probing(3, 2, 4, key=jax.random.key(0))
    assert isinstance(encoder, AbstractEncoder)
    vectors = np.asarray(call(eqx.filter_vmap(encoder), _stack(networks)))
    assert vectors.shape == (3, encoder.num_features)
    for vector, network in zip(vectors, networks, strict=True):
        np.testing.assert_allclose(vector, call(encoder, network), rtol=1e-5, atol=1e-6)
    # Control: the networks do differ.
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1


@pytest.mark.parametrize(("width", "depth"), [(3, 1), (3, 2)])
@examples(10)
@given(st.integers(0, 2**32 - 1), st.data())
def test_invariance_is_as_declared(width, depth, seed, data):
    network, space = _mlp(width, depth, seed)
    element = {
        group: jnp.asarray(data.draw(st.permutations(range(n))), jnp.int32)
        for group, n in space.groups.items()
    }
    assume(any(list(order) != list(range(width)) for order in element.values()))
    permuted = act_on_network(space, network, element)
    probing, flat = Probing(3, 2, 4, key=jax.random.key(0)), Flat(space)
    assert probing.is_invariant and not flat.is_invariant
    found = call(probing, permuted)
    np.testing.assert_allclose(found, call(probing, network), atol=1e-5)
    # Control: the weights themselves did move.
    gap = np.asarray(call(flat, permuted)) - np.asarray(call(flat, network))
    assert np.abs(gap).max() > 1e-3


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((0, 1, 1), "`input_shape` is 0"),
        (((2, 0), 1, 1), "`input_shape` is (2, 0)"),
        ((1, 0, 1), "`output_size` is 0"),
        ((1, -1, 0), "`output_size` is -1, `num_probes` is 0"),
    ],
)
def test_probing_wants_positive_sizes(sizes, said):
    with pytest.raises(ValueError) as caught:
        Probing(*sizes, key=jax.random.key(0))
    assert str(caught.value) == f"Sizes must be positive; {said}."


def test_probing_runs_the_network():
    encoder = Probing(3, 2, 4, key=jax.random.key(0))
    with pytest.raises(ValueError) as caught:
        encoder({"w": jnp.zeros((2, 3))})
    assert str(caught.value) == (
        "Probing runs the network, so it needs a callable; got dict. Join weights with "
        "the rest of their model by `eqx.combine` first."
    )
    with pytest.raises(ValueError) as caught:
        encoder(_mlp(2, 1, 0, out_size=5)[0])
    assert str(caught.value) == (
        "The network answers one probe with shape (5,); this encoder expects 2 numbers."
    )
    mlp = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
    with pytest.raises(ValueError, match="is only its weights. Join weights with"):
        Probing(2, 1, 4, key=jax.random.key(0))(eqx.filter(mlp, eqx.is_array))
