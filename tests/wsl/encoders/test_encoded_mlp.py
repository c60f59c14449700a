"""Several encoders' vectors in one, and functions of a network and of other inputs."""

import functools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given

from tests.helpers import examples
from tests.wsl.helpers import act_on_network, array, call, draw_network
from wsl import WeightSpace
from wsl.encoders import (
    AbstractEncoder,
    Concatenated,
    EncodedMLP,
    Flat,
    GeneratedProbing,
    InteractiveProbing,
    Probing,
)


_KEY = jax.random.key(0)
_SPEC = {
    ".layers[0].weight": ("hidden", None),
    ".layers[0].bias": ("hidden",),
    ".layers[1].weight": (None, "hidden"),
    ".layers[1].bias": (None,),
}


def _mlp(seed=0, width=4, depth=1):
    make = functools.partial(eqx.nn.MLP, 3, 2, width, depth, jax.nn.tanh)
    return draw_network(eqx.filter_eval_shape(make, key=jax.random.key(0)), seed)


SPACE = WeightSpace.from_spec(_mlp(), _SPEC)  # 26 weights.


# Concatenated.


def test_joined_by_hand():
    flat, probing = Flat(SPACE), Probing(3, 2, 4, key=_KEY)
    joined = Concatenated(probing, flat)
    assert isinstance(joined, AbstractEncoder)
    assert (joined.num_features, joined.num_reads) == (8 + 26, 8 + 26)
    network = _mlp()
    expected = np.concatenate([call(probing, network), call(flat, network)])
    np.testing.assert_array_equal(call(joined, network), expected)
    nested = Concatenated(Concatenated(probing), flat)
    np.testing.assert_array_equal(call(nested, network), expected)
    asking = InteractiveProbing(3, 2, 2, 2, state_size=5, key=_KEY)
    joined = Concatenated(asking, probing)
    assert (joined.num_features, joined.num_reads) == (8 + 5 + 8, 8 + 8)
    with pytest.raises(
        ValueError, match="nothing to concatenate; give at least one encoder"
    ):
        Concatenated()


@examples(10)
@given(st.permutations(range(4)), st.integers(0, 1000))
def test_joined_is_invariant_if_all_are(order, seed):
    assume(list(order) != list(range(4)))
    network = _mlp(seed)
    permuted = act_on_network(SPACE, network, {"hidden": order})
    probing = Probing(3, 2, 4, key=_KEY)
    generated = GeneratedProbing(3, 2, 4, key=_KEY)
    both, mixed = Concatenated(probing, generated), Concatenated(probing, Flat(SPACE))
    assert both.is_invariant and not mixed.is_invariant
    found = call(both, permuted)
    np.testing.assert_allclose(found, call(both, network), atol=1e-5)
    # Control.
    gap = np.asarray(call(mixed, permuted)) - np.asarray(call(mixed, network))
    assert np.abs(gap).max() > 1e-3


def test_joined_learns_all_parts():
    joined = Concatenated(
        Probing(3, 2, 4, key=_KEY), GeneratedProbing(3, 2, 4, key=_KEY)
    )
    size = lambda encoder: jnp.sum(encoder(_mlp()) ** 2)
    gradient = eqx.filter_jit(eqx.filter_grad(size))(joined)
    leaves = jax.tree.leaves(gradient)
    assert len(leaves) == 1 + 5 and all(np.abs(leaf).max() > 0 for leaf in leaves)


# EncodedMLP.


@pytest.mark.parametrize(
    ("sizes", "out_size"), [((), "scalar"), ((3,), 2), ((3, 2), "scalar")]
)
def test_in_numpy(sizes, out_size):
    encoder, network = Flat(SPACE), _mlp()
    value = EncodedMLP(encoder, sizes, out_size, 6, 2, key=_KEY)
    random = np.random.default_rng(0)
    conditions = [random.standard_normal(size).astype(np.float32) for size in sizes]
    x = np.concatenate([call(encoder, network), *conditions]).astype(float)
    for layer in value.head.layers[:-1]:
        x = np.maximum(np.asarray(layer.weight, float) @ x + np.asarray(layer.bias), 0)
    last = value.head.layers[-1]
    expected = np.asarray(last.weight, float) @ x + np.asarray(last.bias)
    found = call(value, network, *map(array, conditions))
    assert found.shape == (() if out_size == "scalar" else (2,))
    np.testing.assert_allclose(found, np.squeeze(expected), rtol=1e-4, atol=1e-5)


def test_activation():
    value = EncodedMLP(Flat(SPACE), (), 1, 6, 1, activation=jnp.sin, key=_KEY)
    first, last = value.head.layers

    @eqx.filter_jit
    def by_hand(first, last, network):
        return last(jnp.sin(first(value.encoder(network))))

    expected = by_hand(first, last, _mlp())
    np.testing.assert_allclose(call(value, _mlp()), expected, rtol=1e-6)


def test_gradients_to_network_conditions_and_parameters():
    encoder = Probing(3, 2, 4, key=_KEY)
    value = EncodedMLP(encoder, (3, 2), "scalar", 8, 1, activation=jnp.tanh, key=_KEY)
    inputs = (value, _mlp(), jnp.array([0.5, -1.0, 2.0]), jnp.array([0.3, -0.6]))
    evaluate = lambda inputs: inputs[0](*inputs[1:])
    gradient = eqx.filter_jit(eqx.filter_grad(evaluate))(inputs)
    # Probes and four of the head; four of the network; two conditions.
    leaves = jax.tree.leaves(gradient)
    assert len(leaves) == 5 + 4 + 2
    assert all(np.abs(leaf).max() > 1e-5 for leaf in leaves)
    for part in range(4):
        slope = sum(
            float(np.sum(np.square(g))) for g in jax.tree.leaves(gradient[part])
        )
        difference = _difference(inputs, part, gradient[part], 1e-2 / slope**0.5)
        np.testing.assert_allclose(difference, slope, rtol=2e-2)


def _difference(inputs, part, direction, step):
    def moved(by):
        change = jax.tree.map(
            lambda x, d: array(x + by * np.asarray(d)),
            eqx.filter(inputs[part], eqx.is_array),
            direction,
        )
        changed = eqx.combine(change, inputs[part])
        value, *rest = (changed if i == part else x for i, x in enumerate(inputs))
        return call(value, *rest)

    return (moved(step) - moved(-step)) / (2 * step)


def test_batches_of_states_actions_and_networks():
    q = EncodedMLP(Probing(3, 2, 4, key=_KEY), (3, 2), "scalar", 8, 1, key=_KEY)
    states, actions = (
        array(np.arange(12).reshape(4, 3)),
        array(np.arange(8).reshape(4, 2)),
    )
    network = _mlp()
    batch = jax.jit(jax.vmap(lambda s, a: q(network, s, a)))(states, actions)
    states, actions = np.asarray(states), np.asarray(actions)
    loop = [call(q, network, s, a) for s, a in zip(states, actions, strict=True)]
    np.testing.assert_allclose(batch, np.stack(loop), rtol=1e-5, atol=1e-5)
    assert np.ptp(batch) > 1e-2
    # One value function for networks of other sizes.
    s, a = states[1], actions[1]
    networks = [_mlp(1, width, depth) for width, depth in [(2, 1), (7, 2)]]
    others = [call(q, network, s, a) for network in networks]
    assert abs(others[0] - others[1]) > 1e-3


def test_errors():
    encoder = Probing(3, 2, 4, key=_KEY)
    with pytest.raises(ValueError) as caught:
        EncodedMLP(encoder, (3, 0), "scalar", 8, 1, key=_KEY)
    assert str(caught.value) == (
        "Sizes of conditions must be positive; got (3, 0). Leave out a condition that "
        "is not there."
    )
    value = EncodedMLP(encoder, (3, 2), "scalar", 8, 1, key=_KEY)
    with pytest.raises(ValueError) as caught:
        value(_mlp(), jnp.zeros(3))
    assert str(caught.value) == (
        "Expected conditions of shapes ((3,), (2,)) after the network, got ((3,),). "
        "Batches go through `jax.vmap`."
    )
    for conditions in [(jnp.zeros(2), jnp.zeros(3)), 3 * (jnp.zeros(3),)]:
        with pytest.raises(ValueError, match="Expected conditions of shapes"):
            value(_mlp(), *conditions)
