"""Statistics of weights, against numpy's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.helpers import examples
from tests.wsl.helpers import act_on_network, call
from wsl import WeightSpace
from wsl.encoders import AbstractEncoder, Statistics
from wsl.nn import GaussianFourierFeatures, lift, SignedLog
from wsl.testing import architectures, group_elements


def _expected(leaf):
    x = np.asarray(leaf, float).ravel()
    return [x.mean(), x.var(), *np.percentile(x, [0, 25, 50, 75, 100])]


def test_by_hand():
    weights = {"b": jnp.array([3.0]), "w": jnp.array([[4.0, 0.0], [1.0, 3.0]])}
    encoder = Statistics(WeightSpace.from_spec(weights))
    # 0, 1, 3, 4: the mean is 2, the variance (4 + 1 + 1 + 4) / 4.
    np.testing.assert_allclose(
        call(encoder, weights),
        [3, 0, 3, 3, 3, 3, 3, 2, 2.5, 0, 0.75, 2, 3.25, 4],
        rtol=1e-6,
    )
    assert encoder.num_features == 14 and encoder.num_reads == 5
    assert encoder.is_invariant and isinstance(encoder, AbstractEncoder)


@examples(4)
@given(architectures(["mlp"]), st.data())
def test_against_numpy_and_invariant(architecture, data):
    _, model, _, space = architecture
    encoder = Statistics(space)
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    expected = np.concatenate([_expected(leaf) for leaf in leaves])
    vector = call(encoder, model)
    np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
    permuted = act_on_network(space, model, data.draw(group_elements(space)))
    found = call(encoder, permuted)
    np.testing.assert_allclose(found, vector, rtol=1e-4, atol=1e-5)


def test_transformed_weights():
    weights = {"b": jnp.array([0.5, -2.0, 0.0]), "w": jnp.array([[4.0], [0.0], [-9.0]])}
    space = WeightSpace.from_spec(weights)
    logs = [np.sign(x) * np.log1p(np.abs(x)) for x in weights.values()]
    found = call(Statistics(space, transform=SignedLog()), weights)
    expected = np.concatenate([_expected(x) for x in logs])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # Of every channel.
    waves = GaussianFourierFeatures(1, 2, key=jax.random.key(0))
    encoder = Statistics(space, transform=waves)
    assert encoder.num_features == 7 * 4 * 2
    features = jax.tree.leaves(call(lambda w: waves(lift(space, w)), weights))
    channels = [np.asarray(leaf)[..., c] for leaf in features for c in range(4)]
    expected = np.concatenate([_expected(x) for x in channels])
    found = call(encoder, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_population_gradients_and_dtypes():
    weights = {"b": jnp.array([1.0, 1.0, 1.0]), "w": jnp.zeros((2, 2), jnp.bfloat16)}
    encoder = Statistics(WeightSpace.from_spec(weights))
    vector = call(encoder, weights)
    assert vector.dtype == jnp.float32
    batch = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), weights)
    vectors = call(eqx.filter_vmap(encoder), batch)
    np.testing.assert_allclose(np.asarray(vectors)[0], vector)
    gradient = call(jax.grad(lambda w: encoder(w).sum()), weights)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(np.asarray(leaf, float)).all()


def test_errors():
    with pytest.raises(ValueError, match=r"no statistics of no numbers; empty: \["):
        Statistics(WeightSpace.from_spec({"a": jnp.zeros((0, 2)), "b": jnp.zeros(1)}))
    space = WeightSpace.from_spec({"a": jnp.zeros(2)})
    with pytest.raises(ValueError, match="`transform` must take weight features of"):
        Statistics(space, transform=lambda features: features["a"])
    with pytest.raises(ValueError, match="`transform` must take weight features of"):
        Statistics(space, transform=lambda features: {"a": features["a"][:1]})
