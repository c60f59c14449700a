"""The latent generator: its loss by hand and by quadrature, and that it learns."""

import functools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given

from tests.wsl.generators.helpers import fresh_contexts, KINDS, make_mlp, make_pictures
from tests.wsl.helpers import array, call
from wsl import WeightSpace
from wsl.encoders import Flat
from wsl.generators import (
    AnswerDistance,
    LatentGenerator,
    LatentNormal,
    WeightDistance,
)


def make_linear(key):
    return eqx.nn.Linear(2, 3, key=key)


@functools.cache
def _built(make=make_linear, latent_size=2):
    network = make(jr.key(0))
    return LatentGenerator(
        Flat(WeightSpace.from_spec(eqx.filter(network, eqx.is_array))),
        KINDS["mlp"](make, 1 + latent_size, key=jr.key(1)),
        latent_size,
        key=jr.key(2),
    )


@given(st.floats(-2, 2), st.floats(-2, 1.5))
def test_divergence_by_quadrature(mean, log_variance):
    z = np.linspace(-25, 25, 20001)
    deviation = np.exp(log_variance / 2)
    q = np.exp(-(((z - mean) / deviation) ** 2) / 2) / deviation / np.sqrt(2 * np.pi)
    log_ratio = -(((z - mean) / deviation) ** 2) / 2 - np.log(deviation) + z**2 / 2
    expected = np.sum(q * log_ratio) * (z[1] - z[0])
    latents = LatentNormal(array([mean]), array([log_variance]))
    found = call(lambda latents: latents.kl_divergence(), latents)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_divergence_by_hand():
    # (1 + 1 - 0 - 1) / 2 + (0 + 4 - ln 4 - 1) / 2
    latents = LatentNormal(jnp.array([1.0, 0.0]), jnp.log(jnp.array([1.0, 4.0])))
    expected = 0.5 + (3 - np.log(4)) / 2
    np.testing.assert_allclose(latents.kl_divergence(), expected, rtol=1e-6)
    assert LatentNormal(jnp.zeros(3), jnp.zeros(3)).kl_divergence() == 0


def test_sample_of_latents():
    latents = LatentNormal(jnp.array([1.0, -2.0]), jnp.log(jnp.array([4.0, 0.01])))
    draw = jax.jit(jax.vmap(lambda key: latents.sample(key=key)))
    drawn = np.asarray(draw(jr.split(jr.key(0), 4000)))
    np.testing.assert_allclose(drawn.mean(0), [1, -2], atol=0.15)
    np.testing.assert_allclose(drawn.std(0), [2, 0.1], rtol=0.08)

    def first(log_variance):
        moved = LatentNormal(latents.mean, log_variance)
        return moved.sample(key=jr.key(0))[0]

    # z = mean + exp(l/2) noise, so that dz/dl = (z - mean) / 2.
    gradient, _ = np.asarray(jax.jit(jax.grad(first))(latents.log_variance))
    z = latents.sample(key=jr.key(0))[0]
    np.testing.assert_allclose(gradient, (z - 1) / 2, rtol=1e-5)


def test_draws():
    generator = _built()
    context, other = jnp.array([0.5]), jnp.array([-1.5])

    @eqx.filter_jit
    def write(context, key=None):
        return generator.encoder(generator(context, key=key))

    @eqx.filter_jit
    def decode(context, latent):
        return generator.encoder(generator.decode(context, latent))

    mode = write(context)
    np.testing.assert_allclose(mode, decode(context, array([0, 0])), rtol=1e-6)
    drawn = np.asarray(write(context, jr.key(0)))
    latent = jr.normal(jr.key(0), (2,))
    np.testing.assert_allclose(drawn, decode(context, latent), rtol=1e-5, atol=1e-6)
    for different in (write(context, jr.key(1)), write(other, jr.key(0)), mode):
        assert np.abs(drawn - different).max() > 1e-2
    batch = call(
        eqx.filter_vmap(lambda c, k: generator(c, key=k)),
        fresh_contexts(1, 3),
        jr.split(jr.key(0), 3),
    )
    assert batch.weight.shape == (3, 3, 2)


def test_weight_distance_by_hand():
    distance = eqx.Partial(call, WeightDistance(make_linear))
    first = make_linear(jr.key(0))
    moved = array(first.weight + 0.5 * (np.arange(6) == 1).reshape(3, 2))
    second = eqx.tree_at(lambda n: n.weight, first, moved)
    # One of nine weights differs; weights and biases have variance 1 / (3 * 2).
    np.testing.assert_allclose(distance(first, second), 0.25 * 6 / 9, rtol=0.03)
    assert distance(first, first) == 0
    with pytest.raises(ValueError, match="have shape"):
        distance(first, eqx.nn.Linear(3, 3, key=jr.key(0)))


def test_weight_distance_of_constants():
    # Norms have the scale of the other leaves, pooled.
    distance = eqx.Partial(call, WeightDistance(make_pictures))
    first = make_pictures(jr.key(0))
    second = eqx.tree_at(lambda n: n["norm"].weight, first, replace_fn=lambda x: x + 1)
    sizes = np.array([126, 7, 1, 10, 3])
    variances = np.array([1 / 54, 1 / 54, 9, 1 / 12, 1])
    pooled = (sizes * variances).sum() / sizes.sum()
    total = sizes.sum() + 7 + 7 + 4
    np.testing.assert_allclose(distance(first, second), 7 / pooled / total, rtol=0.05)


def test_answer_distance():
    inputs = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    distance = eqx.Partial(call, AnswerDistance(inputs))
    first = make_linear(jr.key(0))
    second = eqx.tree_at(
        lambda n: n.bias, first, replace_fn=lambda b: b + jnp.array([1.0, 0, 2])
    )
    np.testing.assert_allclose(distance(first, second), 5 / 3, rtol=1e-5)
    # Hidden units in another order are no distance, but one between weights.
    mlp = make_mlp(jr.key(0))
    permuted = eqx.tree_at(
        lambda n: (n.layers[1].weight, n.layers[1].bias, n.layers[2].weight),
        mlp,
        (
            array(np.asarray(mlp.layers[1].weight)[::-1]),
            array(np.asarray(mlp.layers[1].bias)[::-1]),
            array(np.asarray(mlp.layers[2].weight)[:, ::-1]),
        ),
    )
    inputs = array(np.random.default_rng(1).standard_normal((4, 3)))
    assert call(AnswerDistance(inputs), mlp, permuted) < 1e-10
    assert call(WeightDistance(make_mlp), mlp, permuted) > 0.1


def test_loss_is_distance_and_divergence():
    generator, network = _built(), make_linear(jr.key(3))
    context, key = jnp.array([0.2]), jr.key(4)
    distance = WeightDistance(make_linear)

    @eqx.filter_jit
    def parts(generator, network):
        latents = generator.encode(network, context)
        assert latents.mean.shape == latents.log_variance.shape == (2,)
        written = generator.decode(context, latents.sample(key=key))
        losses = [
            generator.negative_elbo(network, context, distance, beta=beta, key=key)
            for beta in (0.0, 0.3)
        ]
        return losses, distance(network, written), latents.kl_divergence()

    losses, apart, divergence = parts(generator, network)
    # Near the prior at the start.
    assert divergence < 1e-2
    np.testing.assert_allclose(losses, [apart, apart + 0.3 * divergence], rtol=1e-5)


@pytest.mark.parametrize(
    "space", ["weights", pytest.param("answers", marks=pytest.mark.nightly)]
)
def test_it_learns_a_zoo(space):
    # Two sorts of networks for every context: which one is all that a latent can say.
    contexts = fresh_contexts(1, 64)
    sorts = jnp.where(jnp.arange(64) % 2 == 0, 1.0, -1.0)

    def network(context, sort):
        made = make_linear(jr.key(0))
        weight = sort * (1 + 0.3 * context[0]) * jnp.ones((3, 2))
        return eqx.tree_at(lambda n: (n.weight, n.bias), made, (weight, jnp.zeros(3)))

    zoo = call(eqx.filter_vmap(network), contexts, sorts)
    if space == "weights":
        distance = WeightDistance(make_linear)
    else:
        distance = AnswerDistance(
            array(np.random.default_rng(0).standard_normal((8, 2)))
        )

    def loss(generator, key):
        keys = jr.split(key, 64)
        losses = eqx.filter_vmap(
            lambda n, c, k: generator.negative_elbo(n, c, distance, beta=0.01, key=k)
        )(zoo, contexts, keys)
        return losses.mean()

    @eqx.filter_jit
    def train(generator):
        trained, rest = eqx.partition(generator, eqx.is_inexact_array)

        def step(state, key):
            weights, mean, square = state
            value, gradient = jax.value_and_grad(
                lambda w: loss(eqx.combine(w, rest), key)
            )(weights)
            mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
            square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g**2, square, gradient)
            weights = jax.tree.map(
                lambda w, m, s: w - 0.003 * m / (jnp.sqrt(s) + 1e-6),
                weights,
                mean,
                square,
            )
            return (weights, mean, square), value

        zeros = jax.tree.map(jnp.zeros_like, trained)
        state, losses = jax.lax.scan(
            step, (trained, zeros, zeros), jr.split(jr.key(1), 300)
        )
        return eqx.combine(state[0], rest), losses

    generator, losses = train(_built())
    losses = np.asarray(losses)
    assert losses[-20:].mean() < 0.2 * losses[:5].mean()
    draw = eqx.filter_vmap(lambda k: generator(jnp.zeros(1), key=k))
    drawn = call(draw, jr.split(jr.key(2), 100))
    # Both sorts are drawn for one context.
    signs = np.sign(np.asarray(drawn.weight).sum((1, 2)))
    assert 15 < (signs > 0).sum() < 85


def test_errors():
    generator = _built()
    encoder, decoder = generator.encoder, generator.decoder
    with pytest.raises(ValueError, match="has 3 numbers, of which the latent takes 3"):
        LatentGenerator(encoder, decoder, 3, key=jr.key(0))
    with pytest.raises(ValueError, match="must be positive; `latent_size` is 0"):
        LatentGenerator(encoder, decoder, 0, key=jr.key(0))
    for use in (generator, lambda c: generator.encode(make_linear(jr.key(0)), c)):
        with pytest.raises(ValueError, match=r"shape \(2,\); this generator takes \(1"):
            use(jnp.zeros(2))
    with pytest.raises(ValueError, match=r"latent has shape \(3,\)"):
        generator.decode(jnp.zeros(1), jnp.zeros(3))
