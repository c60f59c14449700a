"""Values of steps: what is split is the same, and ensembles are several."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from applications.values import draw_ensemble, rescaled, StepCritic, values_of
from wsl.encoders import Flat


_POLICY = eqx.nn.Linear(2, 1, key=jr.key(0))


def _encoder(key: Any = None) -> Flat:
    return Flat(wsl.WeightSpace.from_spec(_POLICY))


@pytest.mark.parametrize("normalise", [False, True])
def test_the_split_layer_is_a_perceptron_on_all_of_it(normalise):
    critic = StepCritic(_encoder(), 3, 8, 2, normalise=normalise, key=jr.key(1))
    assert critic.of_policy is not None and critic.of_policy.bias is None
    conditions = jr.normal(jr.key(2), (3,))
    whole = jnp.concatenate([_encoder()(_POLICY), conditions])
    assert critic.first.bias is not None
    weight = jnp.concatenate([critic.of_policy.weight, critic.first.weight], axis=1)
    x = weight @ whole + critic.first.bias
    for i, layer in enumerate((*critic.hidden, critic.last)):
        if normalise:
            x = (x - jnp.mean(x)) / jnp.sqrt(jnp.var(x) + 1e-5)
        assert len(critic.norms) == (2 if normalise else 0) and i < 2
        x = layer(x / (1 + jnp.exp(-x)))
    ours = critic.value(critic.code(_POLICY), conditions)
    np.testing.assert_allclose(ours, x, rtol=1e-5)


def test_what_is_read_of_a_policy_hardly_counts_at_first():
    critic = StepCritic(_encoder(), 3, 64, 1, key=jr.key(1))
    assert critic.of_policy is not None
    # Normal, 0.02 by the root of the number of weights.
    deviation = np.std(critic.of_policy.weight)
    assert deviation == pytest.approx(0.02 / 3**0.5, rel=0.2)


def test_an_ensemble_is_several_critics():
    def draw(encoder):
        options = {"count": 2, "normalise": False, "key": jr.key(3)}
        return draw_ensemble(encoder, 2, 4, 1, **options)

    critics = draw(_encoder)
    conditions = jr.normal(jr.key(4), (5, 2))
    values = jax.jit(lambda c: values_of(critics, _POLICY, c))(conditions)
    assert values.shape == (2, 5)
    first: Any = jax.tree.map(lambda x: x[1] if eqx.is_array(x) else x, critics)
    own = jax.vmap(lambda c: first.value(first.code(_POLICY), c))(conditions)
    np.testing.assert_allclose(values[1], own, rtol=1e-5)
    assert np.max(np.abs(values[0] - values[1])) > 0.01
    # In other units, the same.
    threefold = rescaled(critics, jnp.asarray(3.0))
    np.testing.assert_allclose(
        values_of(threefold, _POLICY, conditions), 3 * values, rtol=1e-5
    )
    # Without an encoder, nothing is read of policies.
    blind = draw(None)
    one = values_of(blind, _POLICY, conditions)
    other = values_of(blind, jax.tree.map(jnp.zeros_like, _POLICY), conditions)
    np.testing.assert_array_equal(one, other)
    changed = values_of(critics, jax.tree.map(jnp.zeros_like, _POLICY), conditions)
    assert np.max(np.abs(changed - values)) > 1e-4
