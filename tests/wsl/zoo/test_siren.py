"""The network of sines, its symmetries, and the vectorised sine."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array, call
from wsl.zoo import Siren
from wsl.zoo._sine import sine


ANGLES = np.concatenate(
    [np.linspace(-20, 20, 4001), np.linspace(-1e4, 1e4, 4001), [0.0]]
).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (sine, np.sin),
        (jax.vmap(jax.grad(sine)), np.cos),
        (jax.vmap(jax.grad(jax.grad(sine))), lambda x: -np.sin(x)),
    ],
)
def test_sine_and_its_derivatives(function, expected):
    found = jax.jit(function)(jnp.asarray(ANGLES))
    np.testing.assert_allclose(found, expected(ANGLES.astype(float)), atol=1e-6)


def test_sine_keeps_what_is_odd_about_it():
    x = jnp.asarray(ANGLES)
    found = np.asarray(jax.jit(sine)(x))
    np.testing.assert_array_equal(jax.jit(sine)(-ANGLES), -found)
    assert found[-1] == ANGLES[-1] == 0


def test_sine_in_another_precision():
    x = jnp.linspace(-3, 3, 7, dtype=jnp.bfloat16)
    both = lambda f: jax.jit(lambda x: (f(x), jax.vmap(jax.grad(f))(x)))(x)
    for found, expected in zip(both(sine), both(jnp.sin), strict=True):
        np.testing.assert_array_equal(found, expected)


def _siren(seed=0, **frequencies):
    frequencies = {"first_frequency": 10.0, "hidden_frequency": 30.0, **frequencies}
    return Siren(2, 3, 7, 2, key=jax.random.key(seed), **frequencies)


def test_siren_against_numpy():
    siren = _siren()
    assert siren.frequencies == (10, 30)
    assert [x.weight.shape for x in siren.layers] == [(7, 2), (7, 7), (3, 7)]
    x = np.asarray([0.3, -0.8])
    (w0, b0), (w1, b1), (w2, b2) = (
        (np.asarray(x.weight, float), np.asarray(x.bias, float)) for x in siren.layers
    )
    y = np.sin(30 * (w1 @ np.sin(10 * (w0 @ x + b0)) + b1))
    np.testing.assert_allclose(call(siren, array(x)), w2 @ y + b2, rtol=1e-5, atol=1e-5)


def test_depth_sets_the_number_of_frequencies():
    siren = Siren(1, 1, 4, 3, key=jax.random.key(0))
    assert siren.frequencies == (30, 30, 30)
    assert len(siren.layers) == 4
    assert siren(jnp.zeros(1)).shape == (1,)


def test_initial_weights():
    # First layer 1 / 4; later ones sqrt(6 / 50) / 20; biases 1 / sqrt(inputs).
    siren = Siren(4, 60, 50, 2, hidden_frequency=20.0, key=jax.random.key(0))
    limits = [0.25, np.sqrt(6 / 50) / 20, np.sqrt(6 / 50) / 20]
    for layer, limit, fan_in in zip(siren.layers, limits, (4, 50, 50), strict=True):
        weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
        assert 0.95 * limit < np.abs(weight).max() <= limit
        # Uniform numbers have the standard deviation limit / sqrt(3).
        np.testing.assert_allclose(weight.std(), limit / np.sqrt(3), rtol=0.1)
        assert abs(weight.mean()) < 0.2 * limit
        np.testing.assert_allclose(bias.std(), 1 / np.sqrt(3 * fan_in), rtol=0.25)
        assert np.abs(bias).max() <= 1 / np.sqrt(fan_in)
    # No number stands twice.
    numbers = np.concatenate([np.ravel(x) for x in jax.tree.leaves(siren)])
    assert len(np.unique(numbers)) > 0.99 * len(numbers)


@pytest.mark.parametrize(
    ("sizes", "frequencies"),
    [
        ((0, 1, 4, 1), {}),
        ((1, 1, 4, 0), {}),
        ((1, 1, 4, 1), {"first_frequency": 0.0}),
        ((1, 1, 4, 2), {"hidden_frequency": -1.0}),
    ],
)
def test_sizes_and_frequencies_must_be_positive(sizes, frequencies):
    with pytest.raises(ValueError, match="must be positive"):
        Siren(*sizes, key=jax.random.key(0), **frequencies)


def test_symmetries_can_be_inferred():
    siren, x = _siren(), jnp.asarray([0.3, -0.8])
    space = wsl.infer_weight_space(siren, x)
    assert list(space.groups.values()) == [7, 7]
    assert space.unknown_primitives == ()
    assert wsl.verify_symmetry(space, siren, x, key=jax.random.key(1)).holds


POINTS = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)


def _answers(siren):
    return np.asarray(call(jax.vmap(siren), POINTS))


def test_shuffle_keeps_the_function():
    siren = _siren()
    shuffled = siren.shuffle(key=jax.random.key(3))
    np.testing.assert_allclose(_answers(shuffled), _answers(siren), atol=1e-4)
    for i, (before, after) in enumerate(
        zip(siren.layers, shuffled.layers, strict=True)
    ):
        assert not np.array_equal(before.weight, after.weight)
        # The same numbers, in another place and with another sign.
        np.testing.assert_array_equal(
            np.sort(np.abs(before.weight), axis=None),
            np.sort(np.abs(after.weight), axis=None),
        )
        if i < 2:
            ratio = np.sort(np.asarray(after.bias)) / np.sort(np.asarray(before.bias))
            assert not np.allclose(ratio, 1)  # Signs did change.


@pytest.mark.parametrize("layer", [0, 1])
def test_shuffle_needs_the_outgoing_signs(layer):
    # Control: a neuron whose incoming weights alone change sign computes another thing.
    siren = _siren()
    other = eqx.tree_at(
        lambda siren: (siren.layers[layer].weight, siren.layers[layer].bias),
        siren,
        replace_fn=lambda x: x.at[0].multiply(-1),
    )
    assert np.abs(_answers(other) - _answers(siren)).max() > 1e-2


def test_shuffles_differ():
    siren = _siren()
    first, second = (siren.shuffle(key=jax.random.key(i)) for i in (1, 2))
    assert not np.array_equal(first.layers[0].weight, second.layers[0].weight)
