"""Targets and correlation against hand values and NumPy, and what a value reads."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import wsl
from applications.values import (
    correlation,
    RankTargets,
    StandardTargets,
    value_function,
)
from wsl.encoders import Flat, Probing


_ALL = jnp.ones(5, bool)


def test_standard_targets_by_hand():
    # Mean 4, squared deviations 9, 1, 1, 9: variance 5. What is masked counts not.
    returns = jnp.array([1.0, 3.0, 5.0, 7.0, 1e6])
    where = jnp.array([True, True, True, True, False])
    targets = StandardTargets(returns, where)
    np.testing.assert_allclose(targets.mean, 4)
    np.testing.assert_allclose(targets.std, np.sqrt(5), rtol=1e-6)
    expected = np.array([-3, -1, 1, 3]) / np.sqrt(5)
    np.testing.assert_allclose(targets(returns[:4]), expected, rtol=1e-6)
    np.testing.assert_allclose(targets(jnp.float32(14.0)), 10 / np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(
        targets.inverse(targets(returns)), np.asarray(returns), rtol=1e-5
    )
    # Control: unmasked, the outlier does count.
    assert StandardTargets(returns, _ALL).mean > 1e5


def test_targets_of_returns_beyond_all_squares():
    returns = jnp.array([1e25, -2e25, 3e38, 0.0, 5.0])
    where = jnp.array([True, True, False, True, False])
    targets = StandardTargets(returns, where)
    known = np.array([1e25, -2e25, 0.0])
    np.testing.assert_allclose(targets.mean, known.mean(), rtol=1e-6)
    np.testing.assert_allclose(targets.std, known.std(), rtol=1e-6)
    assert np.isinf(jnp.std(returns, where=where))  # control
    largest = jnp.array([3e38, -3e38])
    assert np.isfinite(StandardTargets(largest, jnp.ones(2, bool))(largest)).all()


def test_masked_entries_may_be_anything():
    returns = jnp.array([1.0, 2.0, 4.0, jnp.nan, -jnp.inf])
    where = jnp.array([True, True, True, False, False])
    for kind in (StandardTargets, RankTargets):
        masked, alone = kind(returns, where), kind(returns[:3], where[:3])
        values = jnp.array([1.0, 2.0, 4.0, 3.0])
        np.testing.assert_array_equal(masked(values), alone(values))
        np.testing.assert_allclose(
            masked.inverse(masked(values[:3])), values[:3], rtol=1e-6
        )


def test_rank_targets_by_hand():
    # Of five returns 0, 1, 2, 3, 4 lie below, and one is equal: shares of .1, .3, .5,
    # .7, .9, which go to sqrt(3) * (-.8, -.4, 0, .4, .8).
    returns = jnp.array([30.0, -5.0, 1e6, 0.0, 0.5])
    targets = RankTargets(returns, _ALL)
    expected = np.sqrt(3) * np.array([0.4, -0.8, 0.8, -0.4, 0])
    np.testing.assert_allclose(targets(returns), expected, atol=1e-6)
    np.testing.assert_allclose(targets.inverse(targets(returns)), returns, rtol=1e-5)
    # Half way between two targets lies half way between the two returns.
    middle = jnp.float32(np.sqrt(3) * 0.2)
    np.testing.assert_allclose(targets.inverse(middle), (0.5 + 30) / 2, rtol=1e-5)
    # Beyond the targets there is nothing to interpolate.
    np.testing.assert_allclose(targets.inverse(jnp.array([-9.0, 9.0])), [-5, 1e6])
    # Returns that are not in the archive: below all, between, above all.
    others = targets(jnp.array([-6.0, 15.0, 2e6]))
    np.testing.assert_allclose(others, np.sqrt(3) * np.array([-1, 0.2, 1]), rtol=1e-6)


def test_ties_share_their_mean_rank():
    # One below two equal ones below two equal ones: shares of .5 / 5, 2 / 5, 4 / 5.
    returns = jnp.array([2.0, 7.0, 1.0, 2.0, 7.0])
    targets = RankTargets(returns, _ALL)
    shares = np.array([0.4, 0.8, 0.1, 0.4, 0.8])
    expected = np.sqrt(3) * (2 * shares - 1)
    np.testing.assert_allclose(targets(returns), expected, atol=1e-6)
    np.testing.assert_allclose(np.sum(targets(returns)), 0, atol=1e-5)
    np.testing.assert_allclose(targets.inverse(targets(returns)), returns, rtol=1e-6)


@settings(max_examples=25)
@given(
    # Few distinct numbers make ties likely; every fourth entry at most is masked.
    st.lists(st.integers(-20, 20), min_size=12, max_size=12),
    st.integers(8, 12),
)
def test_targets_keep_the_order(numbers, count):
    returns = jnp.asarray(np.array(numbers, np.float32))
    where = jnp.arange(12) < count
    kept = np.array(numbers[:count])
    for kind in (StandardTargets, RankTargets):
        targets = kind(returns, where)
        values = np.asarray(targets(returns))[:count]
        assert np.all(np.isfinite(values))
        order = np.argsort(kept, kind="stable")
        assert np.all(np.diff(values[order]) >= 0)
        # Equal returns have equal targets, and others do not.
        assert len(np.unique(values)) == len(np.unique(kept))
        np.testing.assert_allclose(values.mean(), 0, atol=1e-5)
        inverse = targets.inverse(targets(returns))
        np.testing.assert_allclose(inverse[:count], kept, rtol=1e-4, atol=1e-4)


def test_moments_of_ranks():
    # The midpoints of n equal parts of [-sqrt(3), sqrt(3)] have variance 1 - 1 / n².
    returns = jax.random.cauchy(jax.random.key(0), (101,))
    values = RankTargets(returns, jnp.ones(101, bool))(returns)
    np.testing.assert_allclose(np.mean(values), 0, atol=1e-5)
    np.testing.assert_allclose(np.var(values), 1 - 101**-2, rtol=1e-5)


@pytest.mark.parametrize("kind", [StandardTargets, RankTargets])
@pytest.mark.parametrize("value", [0.0, 0.1, -1234.56])
@pytest.mark.parametrize("count", [1, 5])
def test_returns_without_variation(kind, value, count):
    returns = jnp.full(5, value)
    targets = kind(returns, jnp.arange(5) < count)
    values = targets(returns)
    assert np.all(np.isfinite(values))
    np.testing.assert_allclose(values, 0, atol=1e-3)
    np.testing.assert_allclose(targets.inverse(values), returns, rtol=1e-5)
    assert np.all(np.isfinite(targets.inverse(jnp.array([-2.0, 0.0, 2.0]))))


def test_correlation_is_pearsons():
    random = np.random.default_rng(0)
    x = random.standard_normal(50)
    for y in (x + random.standard_normal(50), -x, random.standard_normal(50), x**2):
        for scale, shift in ((1, 0), (1e4, 300.0)):
            z = jnp.asarray(scale * y + shift)
            ours = correlation(jnp.asarray(x, float), z, jnp.ones(50, bool))
            np.testing.assert_allclose(ours, np.corrcoef(x, y)[0, 1], atol=1e-5)


def test_correlation_of_some_pairs():
    x, y = jnp.array([[1.0, 2.0], [3.0, 1e6]]), jnp.array([[1.0, 5.0], [2.0, jnp.nan]])
    where = jnp.array([[True, True], [True, False]])
    expected = np.corrcoef([1, 2, 3], [1, 5, 2])[0, 1]
    np.testing.assert_allclose(correlation(x, y, where), expected, rtol=1e-5)
    assert np.isnan(correlation(x, y, jnp.zeros((2, 2), bool)))


@pytest.mark.parametrize("count", [3, 7, 10, 50])
def test_correlation_of_a_constant_is_nan(count):
    # 0.1 and 0.7 have no exact mean in binary: rounding alone must not correlate.
    constant, other = jnp.full(count, 0.1), jnp.full(count, 0.7)
    rising = jnp.arange(float(count))
    for x, y in ((constant, rising), (rising, constant), (constant, other)):
        assert np.isnan(correlation(x, y, jnp.ones(count, bool)))
    same = correlation(rising, rising, jnp.ones(count, bool))
    np.testing.assert_allclose(same, 1, rtol=1e-6)


# Value functions.


def _network(seed):
    return eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(seed))


def _encoder(kind):
    if kind == "flat":
        return Flat(wsl.WeightSpace.from_spec(_network(0)))
    return Probing(3, 2, 5, key=jax.random.key(1))


@pytest.mark.parametrize("kind", ["flat", "probing"])
def test_what_a_value_depends_on(kind):
    encoder = _encoder(kind)
    plain = value_function(encoder, 8, 1, key=jax.random.key(2))
    start_state = value_function(encoder, 8, 1, state_size=3, key=jax.random.key(2))
    one, other = jnp.array([0.5, -1.0, 2.0]), jnp.array([-2.0, 0.0, 1.0])
    a, b = _network(1), _network(2)
    assert abs(start_state(a, one) - start_state(a, other)) > 1e-4
    for value, states in ((plain, ()), (start_state, (one,))):
        assert value(a, *states).shape == ()
        assert abs(value(a, *states) - value(b, *states)) > 1e-4
    for value, states in ((plain, (one,)), (start_state, ())):
        with pytest.raises(ValueError, match="Expected conditions of shapes"):
            value(a, *states)


@pytest.mark.parametrize("state_size", [0, 3])
def test_value_in_numpy(state_size):
    encoder, network = _encoder("flat"), _network(1)
    value = value_function(encoder, 6, 1, state_size=state_size, key=jax.random.key(3))
    states = (jnp.array([0.5, -1.0, 2.0]),) if state_size else ()
    hidden, last = (
        (np.asarray(layer.weight, float), np.asarray(layer.bias, float))
        for layer in value.head.layers
    )
    x = np.concatenate([encoder(network), *states])
    x = hidden[0] @ x + hidden[1]
    assert x.min() < 0 < x.max()  # Both branches of ELU are met.
    x = np.where(x > 0, x, np.exp(x) - 1)
    expected = (last[0] @ x + last[1]).item()
    np.testing.assert_allclose(value(network, *states), expected, rtol=1e-5)


def test_units_of_the_head_cannot_die():
    # Far below zero, where a ReLU has no slope, policies still get a gradient.
    value = value_function(_encoder("flat"), 8, 1, key=jax.random.key(2))
    value = eqx.tree_at(
        lambda value: value.head.layers[0].bias, value, jnp.full(8, -5.0)
    )
    features = value.encoder(_network(1))
    assert np.max(value.head.layers[0](features)) < 0
    gradient = eqx.filter_grad(lambda network: value(network))(_network(1))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("kind", ["flat", "probing"])
@pytest.mark.parametrize("state_size", [0, 3])
def test_gradients_with_respect_to_weights(kind, state_size):
    value = value_function(
        _encoder(kind), 8, 1, state_size=state_size, key=jax.random.key(2)
    )
    states = (jnp.array([0.5, -1.0, 2.0]),) if state_size else ()
    network = _network(1)
    gradient = eqx.filter_grad(lambda network: value(network, *states))(network)
    # Every leaf of the policy is reached, and the slope is the one of differences.
    leaves = jax.tree.leaves(gradient)
    assert len(leaves) == 4
    assert all(np.abs(leaf).max() > 1e-5 for leaf in leaves)
    slope = sum(float(jnp.sum(leaf**2)) for leaf in leaves)

    def moved(step):
        return eqx.apply_updates(network, jax.tree.map(lambda g: step * g, gradient))

    step = 1e-2
    above, below = (value(moved(by), *states) for by in (step, -step))
    difference = (above - below) / (2 * step)
    np.testing.assert_allclose(difference, slope, rtol=2e-2)
    # A fit reaches the encoder's own parameters too.
    fitted = eqx.filter_grad(lambda value: value(network, *states))(value)
    reached = [np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(fitted)]
    assert all(reached) and len(reached) == 4 + (kind == "probing")
