"""Learned inputs with learned labels."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import act_on_network, array, call, draw_element, draw_network
from wsl.encoders import LearnedValidationSet


def _network():
    make = functools.partial(eqx.nn.MLP, 4, 3, 5, 1)
    return draw_network(eqx.filter_eval_shape(make, key=jr.key(0)))


def test_vector_in_numpy(getkey):
    network = _network()
    encoder = LearnedValidationSet(4, 3, 6, exponents=(0.0, 1.0), key=getkey())
    labels = array(np.random.default_rng(0).standard_normal((6, 3)))
    encoder = eqx.tree_at(
        lambda e: (e.labels, e.log_sharpness),
        encoder,
        (labels, array(np.log([0.7, 2.0]))),
    )
    logits = np.asarray(call(jax.vmap(network), encoder.probes))

    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    expected = []
    for sharpness in (0.7, 2.0 / logits.std()):
        agreed = softmax(np.asarray(labels)) * softmax(sharpness * logits)
        p = agreed.sum(1).mean()
        expected.append(np.log(p / (1 - p)))
    np.testing.assert_allclose(call(encoder, network), expected, rtol=1e-4, atol=1e-5)
    assert encoder.num_features == 2 and encoder.num_reads == 18


def test_exponent_one_does_not_see_the_size_of_logits(getkey):
    network = _network()
    last = lambda n: (n.layers[-1].weight, n.layers[-1].bias)
    louder = eqx.tree_at(
        last, network, [array(9 * np.asarray(x)) for x in last(network)]
    )
    encoder = LearnedValidationSet(4, 3, 6, key=getkey())
    gaps = np.abs(call(encoder, louder) - np.asarray(call(encoder, network)))
    assert gaps[2] < 1e-4
    assert gaps[0] > 1e-2


def test_a_classifier_that_agrees_scores_higher(getkey):
    encoder = LearnedValidationSet(3, 3, 9, key=getkey())
    probes = array(4 * np.eye(3)[np.arange(9) % 3])
    encoder = eqx.tree_at(lambda e: e.probes, encoder, probes)
    right, wrong = (
        np.asarray(call(encoder, answer))
        for answer in (lambda x: x, lambda x: jnp.roll(x, 1))
    )
    assert np.all(right > wrong)
    gradient = jax.grad(lambda e: encoder(lambda x: x + e).sum())
    assert np.all(np.isfinite(call(gradient, array(np.zeros(3)))))


def test_order_of_units_does_not_matter(getkey):
    network = _network()
    space = wsl.infer_weight_space(network, jnp.zeros(4))
    encoder = LearnedValidationSet(4, 3, 6, key=getkey())
    permuted = act_on_network(space, network, draw_element(space, 0))
    vector = np.asarray(call(encoder, network))
    np.testing.assert_allclose(call(encoder, permuted), vector, atol=1e-5)
    swapped = eqx.tree_at(
        lambda n: n.layers[0].weight, network, array(network.layers[0].weight[::-1])
    )
    assert np.abs(call(encoder, swapped) - vector).max() > 1e-4


def test_errors(getkey):
    with pytest.raises(ValueError, match="one exponent or more"):
        LearnedValidationSet(4, 3, 6, exponents=(), key=getkey())
    with pytest.raises(ValueError, match="positive"):
        LearnedValidationSet(4, 0, 6, key=getkey())
    encoder = LearnedValidationSet(4, 3, 6, key=getkey())
    with pytest.raises(ValueError, match="expects 3 numbers"):
        encoder(eqx.nn.MLP(4, 2, 5, 1, key=getkey()))
