"""`lift` and `lower`: weights as channels, and back."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array
from tests.wsl.nn.helpers import distance, SMALL
from wsl.nn import lift, lower


def _model():
    return eqx.nn.MLP(3, 2, 4, 1, key=jr.key(0))


def test_there_and_back():
    model = _model()
    space = wsl.WeightSpace.from_spec(model)
    features = lift(space, model)
    leaves = jax.tree.leaves(features)
    assert [x.shape for x in leaves] == [(4, 3, 1), (4, 1), (2, 4, 1), (2, 1)]
    weights = lower(space, features)
    assert distance(weights, eqx.filter(model, eqx.is_array)) == 0
    joined = eqx.combine(weights, model)
    np.testing.assert_array_equal(joined(jnp.ones(3)), model(jnp.ones(3)))


def test_weight_sets_are_channels_in_order():
    weights = {"a": jnp.array([1.0, 2.0])}
    space = wsl.WeightSpace.from_spec(weights)
    both = lift(space, weights, {"a": jnp.array([3.0, 4.0])})
    np.testing.assert_array_equal(both["a"], [[1, 3], [2, 4]])


def test_dtypes():
    weights = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(1)}
    space = wsl.WeightSpace.from_spec(weights)
    features = lift(space, weights, {"a": jnp.ones(2), "b": jnp.ones(1)})
    assert features["a"].dtype == jnp.bfloat16 and features["b"].dtype == jnp.float32
    # Layers may compute in another dtype; the weights get theirs back.
    lowered = lower(space, {"a": jnp.ones((2, 1)), "b": jnp.ones((1, 1))})
    assert lowered["a"].dtype == jnp.bfloat16 and lowered["b"].dtype == jnp.float32


def test_commute_with_the_group():
    space, element = SMALL, SMALL.sample(key=jr.key(0))
    random = np.random.default_rng(0)
    weights = [
        space.unflatten(array(random.standard_normal(space.size))) for _ in range(2)
    ]
    permuted = [space.permute(one, element) for one in weights]
    moved = space.permute_features(lift(space, *weights), element)
    assert distance(lift(space, *permuted), moved) == 0
    one = space.permute_features(lift(space, weights[0]), element)
    assert distance(lower(space, one), permuted[0]) == 0
    # Control: they do not if only one of the sets is permuted.
    assert distance(lift(space, permuted[0], weights[1]), moved) > 0.1


def test_batches():
    model = _model()
    space = wsl.WeightSpace.from_spec(model)
    batch = jax.tree.map(
        lambda x: jnp.stack([x, 2 * x]), eqx.filter(model, eqx.is_array)
    )
    lifted = jax.jit(jax.vmap(lambda weights: lift(space, weights)))(batch)
    assert jax.tree.leaves(lifted)[0].shape == (2, 4, 3, 1)
    assert distance(jax.vmap(lambda f: lower(space, f))(lifted), batch) == 0


def test_errors():
    weights = {"a": jnp.ones(2)}
    space = wsl.WeightSpace.from_spec(weights)
    with pytest.raises(ValueError, match="nothing to lift"):
        lift(space)
    with pytest.raises(ValueError, match="'a'"):
        lift(space, {"a": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"expected \(2, 1\)"):
        lower(space, {"a": jnp.ones((2, 3))})
