"""The forward graph: what it is blind to, and what it sees."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import wsl
from wsl.encoders import count_flops, ForwardGraph
from wsl.nn import ScaleSymmetry
from wsl.testing import check_invariance


def _network(key, activation, outputs=2):
    return eqx.nn.MLP(3, outputs, 4, 2, activation, key=key)


@pytest.mark.parametrize(
    "kind, of_network, activation",
    [
        ("sign", jnp.tanh, None),
        ("sign", jnp.tanh, jnp.tanh),
        ("scale", jax.nn.relu, None),
        ("scale", jax.nn.relu, jax.nn.relu),
    ],
)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**20))
def test_vector_is_the_functions(kind, of_network, activation, seed):
    keys = jr.split(jr.key(seed), 5)
    network = _network(keys[0], of_network)
    space = wsl.infer_weight_space(network, jnp.zeros(3))
    symmetry = ScaleSymmetry.from_space(space, kind)
    encoder = ForwardGraph(symmetry, 6, channels=4, activation=activation, key=keys[1])
    vector = encoder(network)
    same = symmetry.act(
        space.permute(network, space.sample(key=keys[2])),
        symmetry.sample(key=keys[3], largest=3.0),
    )
    np.testing.assert_allclose(encoder(same), vector, rtol=1e-3, atol=1e-4)
    # A control: the last layer negated and the others not. (An earlier one might have
    # nothing but units that are off.)
    last: Any = network.layers[2]
    other = eqx.tree_at(
        lambda n: (n.layers[2].weight, n.layers[2].bias),
        network,
        (-last.weight, -last.bias),
    )
    assert jnp.abs(encoder(other) - vector).max() > 1e-3


def test_outputs_that_may_move_are_averaged(getkey):
    weights = {
        "b": jnp.zeros(3),
        "v": jnp.zeros((5, 3)),
        "w": jnp.zeros((3, 2)),
    }
    space = wsl.WeightSpace.from_spec(
        weights, {"['b']": ("h",), "['v']": ("y", "h"), "['w']": ("h", None)}
    )
    symmetry = ScaleSymmetry.from_space(space, {"h": "sign"})
    encoder = ForwardGraph(symmetry, 3, channels=4, key=getkey())
    assert encoder.readout.in_features == 4
    check_invariance(
        lambda features: encoder(wsl.nn.lower(space, features)), space, key=getkey()
    )
    rescaled = ScaleSymmetry.from_space(space, {"h": "sign", "y": "sign"})
    with pytest.raises(ValueError, match="ends in \\['y'\\]"):
        ForwardGraph(rescaled, 3, key=getkey())


def test_cost_and_batches(getkey):
    network = _network(getkey(), jnp.tanh)
    space = wsl.infer_weight_space(network, jnp.zeros(3))
    encoder = ForwardGraph(
        ScaleSymmetry.from_space(space, "sign"),
        6,
        channels=8,
        activation=jnp.tanh,
        key=getkey(),
    )
    assert encoder.num_features == 6 and encoder.num_reads == space.size
    # Eight channels: mixing and messages of each leaf, at least.
    messages = 2 * 8 * (4 * 3 + 4 * 4 + 2 * 4)
    mixing = 2 * 8 * 8 * (3 + 4 + 4)
    assert messages + mixing <= count_flops(encoder, network) <= 3 * (messages + mixing)
    networks = eqx.filter_vmap(lambda key: _network(key, jnp.tanh))(
        jr.split(getkey(), 3)
    )
    batch = eqx.filter_jit(eqx.filter_vmap(encoder))(networks)
    one = jax.tree.map(lambda x: x[1] if eqx.is_array(x) else x, networks)
    np.testing.assert_allclose(batch[1], encoder(one), rtol=1e-5, atol=1e-6)
