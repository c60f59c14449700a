"""Generated weights start as the target's own initialiser would make them."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.generators.helpers import (
    built,
    CONTEXT_SIZES,
    EXPECTED,
    fresh_contexts,
    generate,
    KINDS,
    leaves_of,
    make_mlp,
    make_pictures,
    make_sequences,
    misfits,
)
from tests.wsl.helpers import array, call
from wsl.generators import SliceHyperNetwork
from wsl.generators._dependence import depends_on_key
from wsl.generators._moments import initial_moments, standard_normal_sample


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        *((kind, make_mlp) for kind in KINDS),
        ("slice", make_pictures),
        *(
            pytest.param(kind, make, marks=pytest.mark.nightly)
            for kind, make in itertools.product(KINDS, [make_pictures, make_sequences])
        ),
    ],
)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(i, marks=pytest.mark.nightly) for i in range(1, 5))]
)
def test_mean_and_variance_of_every_leaf(kind, make, seed):
    generator = built(kind, make, seed)
    off = misfits(generator, fresh_contexts(CONTEXT_SIZES[make]), EXPECTED[make])
    for path, (mean, variance) in off.items():
        assert mean < 0.1 and variance < 0.1, (path, mean, variance)


@pytest.mark.parametrize("kind", ["slice"])  # One module writes for all kinds.
def test_constants_are_exact_and_learn_at_once(kind):
    generator = built(kind, make_pictures)
    off = misfits(generator, fresh_contexts(4), EXPECTED[make_pictures])
    assert "['norm'].weight" not in off and "['odd'].table" not in off

    context = array(np.asarray(fresh_contexts(4))[0])

    def loss(generator):
        return jnp.sum(generator(context)["norm"].weight[:2])

    grads = eqx.filter_jit(eqx.filter_grad(loss))(generator)
    at = [x.path for x in generator.writer.target.space.leaves].index("['norm'].weight")
    assert abs(grads.writer.gains[at]) > 1e-3
    assert grads.writer.offsets[at] == 2  # of two entries
    assert np.count_nonzero(grads.writer.gains) == 1
    # What is measured or constant is not trained.
    fixed = (grads.writer.target, grads.writer.context_mean)
    assert not any(np.any(x) for x in jax.tree.leaves(fixed))


@pytest.mark.parametrize("kind", KINDS)
def test_without_calibration_it_fails(kind):
    plain = eqx.tree_at(
        lambda g: (g.writer.gains, g.writer.offsets),
        built(kind),
        (array(np.ones(6)), array(np.zeros(6))),
    )
    off = misfits(plain, fresh_contexts(2), EXPECTED[make_mlp])
    assert sum(variance > 1 for _, variance in off.values()) > 3


@pytest.mark.parametrize("kind", ["mlp"])  # One module standardises for all kinds.
def test_contexts_of_any_scale(kind):
    # The third number is the same for all.
    contexts = np.random.default_rng(1).random((4096, 4)) * [500.0, 1e-3, 0, 1]
    contexts = (contexts + [-100.0, 0.02, 0.3, 0]).astype(np.float32)
    generator = KINDS[kind](make_mlp, 4, contexts=array(contexts[::2]), key=jr.key(0))
    off = misfits(generator, array(contexts[1::2]), EXPECTED[make_mlp])
    assert max(map(max, off.values())) < 0.1
    # Control: without them, contexts are taken to be of order 1.
    other = eqx.tree_at(
        lambda g: (g.writer.context_mean, g.writer.context_deviation),
        generator,
        (array(np.zeros(4)), array(np.ones(4))),
    )
    off = misfits(other, array(contexts[1::2]), EXPECTED[make_mlp])
    assert min(variance for _, variance in off.values()) > 1


def test_dependence_on_the_key():
    def make(key):
        return {"a": eqx.nn.Linear(2, 3, key=key), "b": eqx.nn.LayerNorm(3), "c": 1}

    for wrapped in (make, eqx.filter_jit(make)):
        shapes, made = depends_on_key(wrapped)
        assert made["b"].weight is False and made["b"].bias is False
        assert made["a"].weight is True and made["a"].bias is True
        assert made["c"] is None and shapes["a"].weight.shape == (3, 2)
    # A function of the key that does not in fact depend on it: on the safe side.
    assert depends_on_key(lambda key: {"x": 0 * jr.normal(key)})[1] == {"x": True}


def test_moments_of_an_initialiser():
    # Large leaves and small ones are measured on different draws.
    def draw(key, chosen):
        leaves = [
            jr.uniform(key, (1000,), minval=1, maxval=3),
            2 + 5 * jr.normal(key, (1,)),
            jnp.full((3,), 0.5),
            jr.normal(key, (300,)) * jr.normal(key, ()),
        ]
        return [leaves[i] for i in chosen]

    mean, variance = initial_moments(draw, [1000, 1, 3, 300])
    np.testing.assert_allclose(mean, [2, 2, 0.5, 0], atol=0.15)
    np.testing.assert_allclose(variance[:2], [4 / 12, 25], rtol=0.05)
    assert variance[2] == 0
    # Half a million draws of a scale between networks, pooled with those within.
    np.testing.assert_allclose(variance[3], 1, rtol=0.6)


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [("slice", 0.05, 0.3), ("chunked", 0.05, 0.3), ("mlp", 0.2, 0.6)],
)
def test_variance_over_entries_and_over_contexts(kind, lowest, highest):
    networks = generate(built(kind), fresh_contexts(2))
    weight = leaves_of(networks)[".layers[1].weight"]
    assert lowest < weight.var(0).mean() / weight.var() < highest
    assert weight.reshape(6000, -1).var(1).mean() / weight.var() > 0.8


def test_slices_do_not_start_alike():
    # Tiled from one pattern a matrix has the right variance, too.
    def make(key):
        return {"w": jr.normal(key, (32, 32))}

    generator = SliceHyperNetwork(make, 1, slice_size=4, width=32, key=jr.key(1))
    (plan,) = generator.leaves

    def pattern(generator):
        matrices = generate(generator, fresh_contexts(1, 500))["w"]
        cut = np.asarray(jax.jit(jax.vmap(plan.cut))(matrices))  # context, slice, entry
        return cut.mean(1).var() / cut.var()

    assert pattern(generator) < 0.15
    # Control: without what the last bias takes off.
    plain = eqx.tree_at(
        lambda g: g.body.mlps[plan.kind].biases[-1], generator, array(np.zeros(16))
    )
    assert pattern(plain) > 0.35


def test_ensembles_of_generators():
    def make(key):
        return [jr.normal(key, (5, 2)), jnp.ones(3)]

    def build(key):
        return SliceHyperNetwork(make, 2, slice_size=4, width=8, depth=1, key=key)

    keys = jr.split(jr.key(0), 3)
    ensemble = eqx.filter_jit(eqx.filter_vmap(build))(keys)
    contexts = fresh_contexts(2, 3)
    networks = call(eqx.filter_vmap(lambda g, c: g(c)), ensemble, contexts)
    networks, contexts = jax.tree.map(np.asarray, (networks, contexts))
    for i in range(3):
        alone = call(build(keys[i]), contexts[i])
        np.testing.assert_allclose(networks[0][i], alone[0], rtol=2e-3, atol=1e-4)
        np.testing.assert_array_equal(networks[1][i], alone[1])
    # What was measured is each generator's own.
    assert len(np.unique(np.asarray(ensemble.writer.gains)[:, 0])) == 3


def test_standard_normal_sample_is_even():
    sample = np.asarray(standard_normal_sample(512, 3))
    np.testing.assert_allclose(sample.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(sample.std(0), 1, atol=0.01)
    # The same numbers in each coordinate, in three orders.
    np.testing.assert_allclose(np.sort(sample[:, 0]), np.sort(sample[:, 2]))
    assert np.abs(np.corrcoef(sample.T) - np.eye(3)).max() < 0.15
