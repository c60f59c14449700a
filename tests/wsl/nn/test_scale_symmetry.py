"""Rescaling neurons, and the maps that commute with it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call, draw_network
from tests.wsl.nn.helpers import distance, draw_features, MLP, MOVED, NESTED, RECURRENT
from wsl import WeightSpace
from wsl.nn import (
    canonicalise,
    RescaleEquivariant,
    ScaleEquivariantMLP,
    ScaleInvariantMLP,
    ScaleSymmetry,
)


def _perceptron(activation):
    network = draw_network(
        eqx.filter_eval_shape(eqx.nn.MLP, 3, 2, 4, 2, activation, key=jr.key(0))
    )
    spec = {
        ".layers[0].weight": ("h0", None),
        ".layers[0].bias": ("h0",),
        ".layers[1].weight": ("h1", "h0"),
        ".layers[1].bias": ("h1",),
        ".layers[2].weight": (None, "h1"),
        ".layers[2].bias": (None,),
    }
    return network, WeightSpace.from_spec(network, spec)


def _changed(network, space, kinds, seeds=range(4)):
    """How far rescaling moves the outputs."""
    symmetry = ScaleSymmetry.from_space(space, kinds)
    inputs = array(np.random.default_rng(1).standard_normal((8, 3)))

    @eqx.filter_jit
    def outputs(network, seed):
        rescaled = symmetry.act(network, symmetry.sample(key=jr.key(seed)))
        assert type(rescaled) is type(network)
        return jax.vmap(network)(inputs), jax.vmap(rescaled)(inputs)

    return max(distance(*outputs(network, array(seed, np.int32))) for seed in seeds)


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (jax.nn.relu, "scale"),
        (jax.nn.leaky_relu, "scale"),
        (jnp.tanh, "sign"),
        (jnp.sin, "sign"),
        (lambda x: x, "nonzero"),
    ],
)
def test_the_function_is_preserved(activation, kind):
    assert _changed(*_perceptron(activation), kind) < 1e-5


@pytest.mark.parametrize(
    ("activation", "kind"),
    [
        (jax.nn.relu, "sign"),
        (jnp.tanh, "scale"),
        (jax.nn.silu, "scale"),
        (jax.nn.silu, "sign"),
    ],
)
def test_wrong_kinds_change_the_function(activation, kind):
    assert _changed(*_perceptron(activation), kind) > MOVED


def test_kinds_of_single_groups():
    network, space = _perceptron(jax.nn.relu)
    assert _changed(network, space, {"h1": "scale"}) < 1e-5
    symmetry = ScaleSymmetry.from_space(space, {"h1": "scale"})
    assert symmetry.kind("h1") == "scale"
    assert symmetry.kind("h0") == "none"
    assert symmetry.sample(key=jr.key(0)).keys() == {"h1"}


class _Recurrent(eqx.Module):
    b: jax.Array
    u: jax.Array
    w: jax.Array
    o: jax.Array

    def __call__(self, x):
        h = jnp.zeros(4)
        for _ in range(3):
            h = jax.nn.relu(self.w @ h + self.u @ x + self.b)
        return self.o @ h


class _FromTheLeft(eqx.Module):
    """A matrix stored as (in, out)."""

    w: jax.Array
    v: jax.Array

    def __call__(self, x):
        return self.v @ jax.nn.relu(x @ self.w)


def test_recurrent_and_transposed_networks():
    random = np.random.default_rng(0)
    draw = lambda *shape: array(random.standard_normal(shape))
    network = _Recurrent(
        draw(4), draw(4, 3), array(random.standard_normal((4, 4)) / 4), draw(2, 4)
    )
    space = WeightSpace.from_spec(
        network,
        {".b": ("h",), ".u": ("h", None), ".w": ("h", "h"), ".o": (None, "h")},
    )
    assert _changed(network, space, "scale") < 1e-5

    network = _FromTheLeft(draw(3, 4), draw(2, 4))
    space = WeightSpace.from_spec(
        network, {".w": ("in", "h"), ".v": (None, "h")}, fixed=["in"]
    )
    q = {"h": jnp.array([0.5, 2.0, 3.0, 4.0])}
    x = draw(3)
    for transposed, holds in [((".w",), True), ((), False)]:
        symmetry = ScaleSymmetry.from_space(space, "scale", transposed=transposed)
        change = distance(call(call(symmetry.act, network, q), x), call(network, x))
        assert change < 1e-5 if holds else change > MOVED


def test_action_by_hand():
    symmetry = ScaleSymmetry.from_space(MLP, "scale")
    features = draw_features(MLP, 1, 0)
    q = {"h0": jnp.array([1.0, 2.0, 4.0, 0.5]), "h1": jnp.array([8.0, 1.0, 0.25])}
    found = call(symmetry.act_on_features, features, q)
    features = jax.tree.map(np.asarray, features)
    a, b = np.asarray(q["h0"]), np.asarray(q["h1"])
    expected = {
        "b0": features["b0"] * a[:, None],
        "b1": features["b1"] * b[:, None],
        "b2": features["b2"],
        "w0": features["w0"] * a[:, None, None],
        "w1": features["w1"] * b[:, None, None] / a[None, :, None],
        "w2": features["w2"] / b[None, :, None],
    }
    assert distance(found, expected) < 1e-6


def test_samples():
    symmetry = ScaleSymmetry.from_space(MLP.unfix("in"), "nonzero")
    sample = jax.jit(lambda key: symmetry.sample(key=key, largest=10.0))
    q = np.concatenate([x for i in range(20) for x in sample(jr.key(i)).values()])
    assert (np.abs(q) <= 10.001).all() and (np.abs(q) >= 0.0999).all()
    assert (q > 0).any() and (q < 0).any() and np.abs(q).max() > 5
    signs = ScaleSymmetry.from_space(MLP, "sign").sample(key=jr.key(0))
    assert {float(abs(x)) for q in signs.values() for x in q} == {1.0}


def test_errors():
    with pytest.raises(ValueError, match=r"\['b(oth)?'\]|\['pair'\]|\['o'\]"):
        ScaleSymmetry.from_space(NESTED, "scale")
    with pytest.raises(ValueError, match="not groups.*h0"):
        ScaleSymmetry.from_space(MLP, {"in": "scale"})
    space = WeightSpace.from_spec({"t": jnp.zeros((2, 2, 2))}, {"['t']": tuple("xyz")})
    with pytest.raises(ValueError, match=r"\['t'\]"):
        ScaleSymmetry.from_space(space, "scale")
    symmetry = ScaleSymmetry.from_space(RECURRENT, "scale")
    with pytest.raises(ValueError, match="'h'"):
        symmetry.act_on_features(draw_features(RECURRENT, 1, 0), {})


# The maps.


def test_canonical_vectors():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0], [-1e-30, 0.0], [1e30, 1e30]])
    half = float(np.sqrt(0.5))
    expected = [[0.6, 0.8], [0, 0], [-1, 0], [half, half]]
    np.testing.assert_allclose(canonicalise(x), expected, atol=1e-6)
    gradient = jax.jacobian(canonicalise)(jnp.zeros(2))
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))
    # d(x / |x|) = (1 - x x^T / |x|^2) / |x|
    found = jax.jacobian(canonicalise)(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(found, np.array([[16, -12], [-12, 9]]) / 125, atol=1e-6)


def test_floor_bounds_gradients():
    x = jnp.array([3e-4, 4e-4])
    np.testing.assert_allclose(canonicalise(x, floor=1e-2), [0.03, 0.04], atol=1e-6)
    for at in (x, jnp.zeros(2)):
        gradient = jax.jacobian(lambda v: canonicalise(v, floor=1e-2))(at)
        np.testing.assert_allclose(gradient, 100 * np.eye(2), rtol=1e-4)
    above = jnp.array([3.0, 4.0])
    np.testing.assert_allclose(
        canonicalise(above, floor=1e-2), canonicalise(above), atol=1e-6
    )
    np.testing.assert_allclose(
        canonicalise(x, floor=4.5e-4), canonicalise(x), atol=1e-6
    )


_MULTIPLIERS = {"scale": 7.0, "sign": -1.0, "nonzero": -0.3}


@pytest.mark.parametrize("kind", _MULTIPLIERS)
def test_invariant_and_equivariant_maps(kind):
    q = _MULTIPLIERS[kind]
    x, z = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    q = np.float32(q)
    invariant = ScaleInvariantMLP([(3, kind), (3, "none")], 4, 6, key=jr.key(1))
    assert distance(call(invariant, q * x, z), call(invariant, x, z)) < 1e-5
    assert distance(call(invariant, x, q * z), call(invariant, x, z)) > MOVED
    assert distance(call(invariant, x[::-1], z), call(invariant, x, z)) > MOVED
    equivariant = ScaleEquivariantMLP(3, 4, 6, kind, others=[(3, kind)], key=jr.key(1))
    assert distance(call(equivariant, q * x, z), q * call(equivariant, x, z)) < 1e-5
    assert distance(call(equivariant, x, q * z), call(equivariant, x, z)) < 1e-5
    # No linear map, even where all canonical vectors are alike.
    assert distance(call(equivariant, x, z), call(equivariant, x, z[::-1])) > MOVED
    product = RescaleEquivariant([3, 3], 4, key=jr.key(2))
    assert distance(call(product, q * x, 2 * z), 2 * q * call(product, x, z)) < 1e-5


def test_scaling_is_no_symmetry_of_sign_maps():
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    mlp = ScaleInvariantMLP([(3, "sign")], 4, 6, key=jr.key(1))
    assert distance(call(mlp, 2 * x), call(mlp, x)) > MOVED
    mlp = ScaleInvariantMLP([(3, "scale")], 4, 6, key=jr.key(1))
    assert distance(call(mlp, -x), call(mlp, x)) > MOVED


def test_map_errors():
    with pytest.raises(ValueError, match="num_inputs"):
        ScaleInvariantMLP([], 2, 2, key=jr.key(0))
    with pytest.raises(ValueError, match="floor"):
        ScaleInvariantMLP([(2, "scale")], 2, 2, floor=-1.0, key=jr.key(0))
    with pytest.raises(ValueError, match="out_channels"):
        RescaleEquivariant([2], 0, key=jr.key(0))
