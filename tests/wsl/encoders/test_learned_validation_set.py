"""Learned inputs with learned labels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from wsl.encoders import LearnedValidationSet


def test_vector_in_numpy(getkey):
    network = eqx.nn.MLP(4, 3, 5, 1, key=getkey())
    encoder = LearnedValidationSet(4, 3, 6, exponents=(0.0, 1.0), key=getkey())
    labels = jr.normal(getkey(), (6, 3))
    encoder = eqx.tree_at(
        lambda e: (e.labels, e.log_sharpness),
        encoder,
        (labels, jnp.log(jnp.array([0.7, 2.0]))),
    )
    logits = np.stack([np.asarray(network(x)) for x in encoder.probes])

    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    expected = []
    for sharpness in (0.7, 2.0 / logits.std()):
        agreed = softmax(np.asarray(labels)) * softmax(sharpness * logits)
        p = agreed.sum(1).mean()
        expected.append(np.log(p / (1 - p)))
    np.testing.assert_allclose(encoder(network), expected, rtol=1e-4, atol=1e-5)
    assert encoder.num_features == 2 and encoder.num_reads == 18


def test_exponent_one_does_not_see_the_size_of_logits(getkey):
    network = eqx.nn.MLP(4, 3, 5, 1, key=getkey())
    last = lambda n: (n.layers[-1].weight, n.layers[-1].bias)
    louder = eqx.tree_at(last, network, [9 * x for x in last(network)])
    encoder = LearnedValidationSet(4, 3, 6, key=getkey())
    gaps = jnp.abs(encoder(louder) - encoder(network))
    assert gaps[2] < 1e-4
    assert gaps[0] > 1e-2


def test_a_classifier_that_agrees_scores_higher(getkey):
    encoder = LearnedValidationSet(3, 3, 9, key=getkey())
    probes = 4 * jax.nn.one_hot(jnp.arange(9) % 3, 3)
    encoder = eqx.tree_at(lambda e: e.probes, encoder, probes)
    right, wrong = encoder(lambda x: x), encoder(lambda x: jnp.roll(x, 1))
    assert jnp.all(right > wrong)
    gradient = jax.grad(lambda e: encoder(lambda x: x + e).sum())(jnp.zeros(3))
    assert jnp.all(jnp.isfinite(gradient))


def test_order_of_units_does_not_matter(getkey):
    network = eqx.nn.MLP(4, 3, 5, 1, key=getkey())
    space = wsl.infer_weight_space(network, jnp.zeros(4))
    encoder = LearnedValidationSet(4, 3, 6, key=getkey())
    permuted = space.permute(network, space.sample(key=getkey()))
    np.testing.assert_allclose(encoder(permuted), encoder(network), atol=1e-5)
    swapped = eqx.tree_at(
        lambda n: n.layers[0].weight, network, network.layers[0].weight[::-1]
    )
    assert jnp.abs(encoder(swapped) - encoder(network)).max() > 1e-4


def test_errors(getkey):
    with pytest.raises(ValueError, match="one exponent or more"):
        LearnedValidationSet(4, 3, 6, exponents=(), key=getkey())
    with pytest.raises(ValueError, match="positive"):
        LearnedValidationSet(4, 0, 6, key=getkey())
    encoder = LearnedValidationSet(4, 3, 6, key=getkey())
    with pytest.raises(ValueError, match="expects 3 numbers"):
        encoder(eqx.nn.MLP(4, 2, 5, 1, key=getkey()))
