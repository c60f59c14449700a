import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array, draw_network
from wsl.nn._draw import constant, fan_in, gru_cell, linear, mlp, normal, split, uniform


def _same(found, expected):
    """Whether two modules hold the same numbers, but for rounding."""
    found, expected = (eqx.filter(x, eqx.is_array) for x in (found, expected))
    close = jax.tree.map(
        lambda a, b: a.dtype == b.dtype and np.allclose(a, b, rtol=1e-6, atol=1e-7),
        found,
        expected,
    )
    return all(jax.tree.leaves(close))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 5, 6), (1024,), (37, 41)])
def test_numbers_are_those_of_jax(getkey, shape):
    key = getkey()
    assert _same(normal(key, shape), jr.normal(key, shape))
    assert _same(normal(key, shape, 0.25), 0.25 * jr.normal(key, shape))
    assert _same(uniform(key, shape), jr.uniform(key, shape, None, -1.0, 1.0))
    other = normal(getkey(), shape)
    assert 0 in shape or not _same(normal(key, shape), other)


@pytest.mark.parametrize("num", [0, 1, 3, 8, 9])
def test_keys_are_those_of_jax(getkey, num):
    key = getkey()
    keys = split(key, num)
    assert len(keys) == num
    for one, expected in zip(keys, jr.split(key, num), strict=True):
        np.testing.assert_array_equal(jr.key_data(one), jr.key_data(expected))


def test_a_matrix_keeps_the_variance_of_its_inputs(getkey):
    x = np.asarray(jr.normal(getkey(), (400, 300)))
    y = x @ np.asarray(fan_in(getkey(), 300, 200, 2.0))
    assert np.var(y) == pytest.approx(4.0, rel=0.05)  # of 80,000 numbers
    assert np.var(x @ np.asarray(normal(getkey(), (300, 200)))) > 200


def test_layers_are_those_of_equinox(getkey):
    key = getkey()
    for found, expected in (
        (linear(5, 3, key=key), eqx.nn.Linear(5, 3, key=key)),
        (
            linear(5, "scalar", use_bias=False, key=key),
            eqx.nn.Linear(5, "scalar", use_bias=False, key=key),
        ),
        (mlp(5, 3, 8, 2, key=key), eqx.nn.MLP(5, 3, 8, 2, key=key)),
        (gru_cell(5, 3, key=key), eqx.nn.GRUCell(5, 3, key=key)),
    ):
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        assert _same(found, expected)
    assert not _same(linear(5, 3, key=key), linear(5, 3, key=getkey()))


def test_an_activation_with_parameters_keeps_them(getkey):
    key, activation = getkey(), eqx.nn.PReLU(0.5)
    found = mlp(5, 3, 8, 1, activation, key=key)
    assert _same(found, eqx.nn.MLP(5, 3, 8, 1, activation, key=key))


def test_traced_constructors_draw_the_same(getkey):
    keys = jr.split(getkey(), 3)
    make = lambda key: (linear(5, 3, key=split(key, 2)[1]), fan_in(key, 3, 4))
    together = eqx.filter_vmap(make)(keys)
    for i, key in enumerate(keys):
        one = jax.tree.map(lambda x, i=i: x[i] if eqx.is_array(x) else x, together)
        assert _same(one, make(key))


def test_other_kinds_of_keys_will_do():
    keys = (
        jr.PRNGKey(0),
        jr.key(0, impl="rbg"),
        jax.device_put(jr.key(0), jax.devices()[0]),
    )
    for key in keys:
        for subkey in split(key, 2):
            assert np.std(normal(subkey, (1000,))) == pytest.approx(1, abs=0.1)


def test_a_constant_repeats_an_array():
    np.testing.assert_array_equal(
        constant(np.eye(2), 3, 2, 2), jnp.tile(np.eye(2), (3, 1, 1)).astype(jnp.float32)
    )


_COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: (
        _COMPILED.append(event)
        if event == "/jax/core/compile/backend_compile_duration"
        else None
    )
)


def _compilations(make):
    before = len(_COMPILED)
    make()
    return len(_COMPILED) - before


def test_constructors_compile_a_handful_of_programs():
    # Of sizes that nothing else has, so that no program of their own is there yet.
    shapes = eqx.filter_eval_shape(eqx.nn.MLP, 3, 13, 11, 2, key=jr.key(0))
    model = draw_network(shapes)
    space = wsl.infer_weight_space(model, array(np.zeros(3)))
    symmetry = wsl.nn.ScaleSymmetry.from_space(space, "sign")
    key, encoders, size = jr.key(0), wsl.encoders, {"channels": 6}
    for make in (
        lambda: wsl.nn.EquivariantLinear(space, 1, 6, key=key),
        lambda: wsl.nn.ScaleGraphNetwork(symmetry, 1, 1, hidden_channels=6, key=key),
        lambda: encoders.Equivariant(space, 9, reduction="attention", key=key, **size),
        lambda: encoders.Transformer(space, 9, key=key, **size),
        lambda: encoders.Graph(space, 9, key=key, **size),
        lambda: encoders.ScaleEquivariantGraph(symmetry, 9, key=key, **size),
        lambda: encoders.ForwardGraph(symmetry, 9, key=key, **size),
        lambda: encoders.InteractiveProbing(3, 2, 2, 2, state_size=9, key=key),
        lambda: encoders.EncodedMLP(encoders.Flat(space), (2,), 1, 9, 2, key=key),
    ):
        assert _compilations(make) <= 6
    # The count sees programs: one for each shape that JAX draws itself.
    several = {x.shape for x in jax.tree.leaves(eqx.filter(model, eqx.is_array))}
    assert _compilations(lambda: [jr.normal(key, shape) for shape in several]) >= 5
