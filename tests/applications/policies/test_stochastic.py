"""Distributions over actions: densities, draws, and the policy without noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from applications.envs import make
from applications.policies import (
    act,
    Drawn,
    FlatView,
    MLPPolicy,
    NoisyPolicy,
    StochasticPolicy,
)


def _policy(name: str, std: float = 0.6) -> StochasticPolicy:
    return StochasticPolicy.around(MLPPolicy(make(name), (), key=jr.key(0)), std)


def test_a_squashed_normal():
    policy, seen = _policy("lqr"), jnp.full(1, 0.3)
    mean = policy.mean.unbounded(seen)
    drawn = jnp.full(1, 0.8)
    density = stats.norm.logpdf(0.8, mean[0], 0.6)
    np.testing.assert_allclose(policy.log_prob(seen, drawn), density, rtol=1e-5)
    output, extras = act(policy, seen, key=jr.key(1))
    assert isinstance(extras, Drawn)
    # Actions of LQR are from -4 to 4.
    np.testing.assert_allclose(output, 4 * np.tanh(extras.drawn), rtol=1e-5)
    own = stats.norm.logpdf(extras.drawn[0], mean[0], 0.6)
    np.testing.assert_allclose(extras.log_prob, own, rtol=1e-4)
    many = jax.vmap(lambda key: policy.draw(seen, key=key))(jr.split(jr.key(2), 4000))
    assert np.mean(many) == pytest.approx(float(mean[0]), abs=0.04)
    assert np.std(many) == pytest.approx(0.6, rel=0.05)


def test_probabilities_of_discrete_actions():
    policy, seen = _policy("cartpole"), jnp.asarray([0.1, -0.2, 0.3, 0.4])
    assert policy.log_std.size == 0
    chances = jax.nn.softmax(policy.mean.unbounded(seen))
    for action, chance in enumerate(chances):
        one = jax.nn.one_hot(action, 2)
        np.testing.assert_allclose(jnp.exp(policy.log_prob(seen, one)), chance, 1e-5)
    draw = jax.vmap(lambda key: policy(seen, key=key)[0])
    outputs = draw(jr.split(jr.key(0), 2000))
    actions = jax.vmap(policy.action_space.select)(outputs)
    assert np.mean(actions) == pytest.approx(float(chances[1]), abs=0.04)


def test_without_noise_it_is_the_perceptron():
    policy, seen = _policy("lqr"), jnp.full(1, 0.3)
    np.testing.assert_array_equal(policy(seen), policy.mean(seen))
    assert act(policy, seen, key=jr.key(0))[0] != policy.mean(seen)
    # The deviation is a part of θ; standardisation leaves it.
    view = FlatView(policy)
    assert view.space.size == 3
    folded = policy.fold_standardisation(jnp.full(1, 2.0), jnp.full(1, 0.5))
    standardised = (seen - 2.0) / 0.5
    np.testing.assert_allclose(
        folded.log_prob(seen, seen), policy.log_prob(standardised, seen), rtol=1e-5
    )
    np.testing.assert_array_equal(folded.log_std, policy.log_std)


def test_noise_on_actions_stays_in_the_box():
    policy = MLPPolicy(make("lqr"), (), key=jr.key(0))
    noisy = NoisyPolicy(policy, jnp.asarray(0.1))
    seen = jnp.full(1, 0.3)
    np.testing.assert_array_equal(noisy(seen), policy(seen))
    many = jax.vmap(lambda key: noisy(seen, key=key))(jr.split(jr.key(0), 2000))
    # A tenth of half the range, which is 4.
    assert np.std(many) == pytest.approx(0.4, rel=0.1)
    wide = eqx.tree_at(lambda noisy: noisy.scale, noisy, jnp.asarray(9.0))
    many = jax.vmap(lambda key: wide(seen, key=key))(jr.split(jr.key(0), 50))
    assert np.max(np.abs(many)) == 4.0
    discrete = NoisyPolicy(
        MLPPolicy(make("cartpole"), (), key=jr.key(0)), jnp.asarray(9.0)
    )
    seen = jnp.ones(4)
    calm = discrete.policy(seen)
    np.testing.assert_array_equal(discrete(seen, key=jr.key(0)), calm)
