"""What all generators have in common."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.generators.helpers import (
    built,
    fresh_contexts,
    generate,
    KINDS,
    leaves_of,
    make_mlp,
    make_pictures,
)
from tests.wsl.helpers import array, call
from wsl.generators import AbstractGenerator, ChunkedHyperNetwork, MLPHyperNetwork


@pytest.mark.parametrize("kind", KINDS)
def test_batches_equal_one_by_one_calls(kind):
    generator = built(kind)
    assert isinstance(generator, AbstractGenerator) and generator.context_size == 2
    contexts = fresh_contexts(2, 4)
    inputs = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    networks = generate(generator, contexts)
    run = eqx.filter_vmap(lambda network, x: network(x))
    answers = np.asarray(call(run, networks, inputs))
    assert answers.shape == (4, 2)
    answer_of = lambda context, x: call(lambda g, c, x: g(c)(x), generator, context, x)
    contexts = np.asarray(contexts)
    for context, x, answer in zip(contexts, inputs, answers, strict=True):
        found = answer_of(context, x)
        np.testing.assert_allclose(found, answer, rtol=1e-4, atol=1e-5)
    # Control: contexts make a difference.
    assert np.abs(answer_of(contexts[0], inputs[1]) - answers[1]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_context_gives_the_same_network(kind):
    generator, context = built(kind), array([0.5, -1.0])
    first, second = call(generator, context), call(generator, context, key=jr.key(3))
    assert eqx.tree_equal(first, second)
    again = KINDS[kind](make_mlp, 2, key=jr.key(0))
    assert eqx.tree_equal(call(again, context), first)
    other = call(KINDS[kind](make_mlp, 2, key=jr.key(1)), context)
    assert not np.allclose(other.layers[0].weight, first.layers[0].weight)


@pytest.mark.parametrize("kind", ["slice"])  # One module writes for all kinds.
def test_everything_else_is_carried_along(kind):
    network = call(built(kind, make_pictures), array(np.ones(4)))
    made = make_pictures(jr.key(5))
    assert jax.tree.structure(network) == jax.tree.structure(
        jax.tree.map(lambda x: jnp.asarray(x) if eqx.is_array(x) else x, made)
    )
    for leaf, like in zip(jax.tree.leaves(network), jax.tree.leaves(made), strict=True):
        if eqx.is_array(like):
            assert leaf.shape == like.shape and leaf.dtype == like.dtype
        else:
            assert leaf == like
    assert network["odd"].half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(network["odd"].steps, [0, 1, 2])


def test_chunks_by_hand():
    # 12 weights in chunks of 5: leaves of 3 and 9 entries, the last chunk cropped.
    def make(key):
        return [jr.normal(key, (3,)), jr.normal(key, (3, 3))]

    generator = ChunkedHyperNetwork(make, 2, chunk_size=5, width=8, key=jr.key(0))
    body, context = generator.body, jnp.array([0.4, -0.7])
    assert body.embeddings.shape == (3, 8)
    flat = np.asarray(call(body.mlp, body.embeddings, context)).ravel()
    for chosen in ([0, 1], [0], [1]):
        for i, found in zip(chosen, call(body, context, chosen), strict=True):
            np.testing.assert_allclose(found, flat[:3] if i == 0 else flat[3:12], 1e-5)
    gains, offsets = map(np.asarray, (generator.writer.gains, generator.writer.offsets))
    first, second = call(generator, context)
    np.testing.assert_allclose(first, gains[0] * flat[:3] + offsets[0], 1e-5)
    np.testing.assert_allclose(
        second, gains[1] * flat[3:12].reshape(3, 3) + offsets[1], 1e-5
    )


def test_mlp_by_hand():
    def make(key):
        return [jr.normal(key, (3,)), jr.normal(key, (2, 2))]

    generator = MLPHyperNetwork(make, 2, width=8, key=jr.key(0))
    mlp, context = generator.body.mlp, np.array([0.4, -0.7], np.float32)
    biases = [np.asarray(bias) for bias in mlp.biases]
    x = np.maximum(np.asarray(mlp.first_context) @ context + biases[0], 0)
    x = np.maximum(np.asarray(mlp.weights[0]) @ x + biases[1], 0)
    flat = np.asarray(mlp.weights[1]) @ x + biases[2]
    for chosen, expected in (([0, 1], flat), ([1], flat[3:])):
        found = np.concatenate(call(generator.body, array(context), chosen))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind):
    make = KINDS[kind]
    generator = built(kind)
    with pytest.raises(ValueError, match=r"context has shape \(3,\); this generator"):
        generator(jnp.zeros(3))
    with pytest.raises(ValueError, match="returns no floating-point arrays"):
        make(lambda key: {"a": jnp.arange(3), "b": jax.nn.relu}, 2, key=jr.key(0))
    with pytest.raises(ValueError, match="must be positive; `context_size` is 0"):
        make(make_mlp, 0, key=jr.key(0))
    with pytest.raises(ValueError, match="must be positive; `depth` is 0"):
        make(make_mlp, 2, depth=0, key=jr.key(0))
    with pytest.raises(ValueError, match=r"`contexts` has shape \(4, 3\); expected"):
        make(make_mlp, 2, contexts=jnp.ones((4, 3)), key=jr.key(0))


def test_sizes_of_slices_and_chunks():
    with pytest.raises(ValueError, match=r"`slice_size` is \(4, 0\)"):
        KINDS["slice"](make_mlp, 2, slice_size=(4, 0), key=jr.key(0))
    with pytest.raises(ValueError, match="`chunk_size` is -1"):
        KINDS["chunked"](make_mlp, 2, chunk_size=-1, key=jr.key(0))


def test_leaves_of_helpers_see_all():
    assert len(leaves_of(make_pictures(jr.key(0)))) == 8
