"""The forward graph: what it is blind to, and what it sees."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import act_on_network, array, call, draw_element, draw_network
from wsl.encoders import count_flops, ForwardGraph
from wsl.nn import ScaleSymmetry
from wsl.testing import check_invariance


def _network(seed, activation, outputs=2):
    make = functools.partial(eqx.nn.MLP, 3, outputs, 4, 2, activation)
    return draw_network(eqx.filter_eval_shape(make, key=jr.key(0)), seed)


@pytest.mark.parametrize(
    "kind, of_network, activation",
    [
        ("sign", jnp.tanh, None),
        ("sign", jnp.tanh, jnp.tanh),
        ("scale", jax.nn.relu, None),
        ("scale", jax.nn.relu, jax.nn.relu),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_vector_is_the_functions(kind, of_network, activation, seed):
    keys = jr.split(jr.key(seed), 2)
    network = _network(seed, of_network)
    space = wsl.infer_weight_space(network, jnp.zeros(3))
    symmetry = ScaleSymmetry.from_space(space, kind)
    encoder = ForwardGraph(symmetry, 6, channels=4, activation=activation, key=keys[0])
    vector = np.asarray(call(encoder, network))
    permuted = act_on_network(space, network, draw_element(space, seed))
    rescale = eqx.filter_jit(
        lambda n: symmetry.act(n, symmetry.sample(key=keys[1], largest=3.0))
    )
    found = call(encoder, rescale(permuted))
    np.testing.assert_allclose(found, vector, rtol=1e-3, atol=1e-4)
    # A control: the last layer negated and the others not. (An earlier one might have
    # nothing but units that are off.)
    last: Any = network.layers[2]
    other = eqx.tree_at(
        lambda n: (n.layers[2].weight, n.layers[2].bias),
        network,
        (array(-np.asarray(last.weight)), array(-np.asarray(last.bias))),
    )
    assert np.abs(call(encoder, other) - vector).max() > 1e-3


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
        lambda features: encoder(wsl.nn.lower(space, features)),
        space,
        key=getkey(),
        num_samples=1,
    )
    rescaled = ScaleSymmetry.from_space(space, {"h": "sign", "y": "sign"})
    with pytest.raises(ValueError, match="ends in \\['y'\\]"):
        ForwardGraph(rescaled, 3, key=getkey())


def test_cost_and_batches(getkey):
    network = _network(0, jnp.tanh)
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
    one = _network(1, jnp.tanh)
    networks = jax.tree.map(
        lambda x, y: array(np.stack([x, y])) if eqx.is_array(x) else x, network, one
    )
    batch = np.asarray(call(eqx.filter_vmap(encoder), networks))
    np.testing.assert_allclose(batch[1], call(encoder, one), rtol=1e-5, atol=1e-6)
