"""Flax needs no code: what its page says is so."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array, call, draw_element
from tests.wsl.infer.helpers import numbers


nn = pytest.importorskip("flax.linen")
pytestmark = pytest.mark.nightly  # Flax takes its time to import and to run.


class _Net(nn.Module):
    """A skip connection by concatenation, and a batch norm."""

    @nn.compact
    def __call__(self, x, train=False):
        h = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))
        return nn.Dense(2)(jnp.tanh(nn.Dense(3)(jnp.concatenate([h, x], axis=-1))))


def _apply(variables, x):
    return _Net().apply(variables, x)


@pytest.fixture(scope="module")
def flax_net():
    x = numbers(5, 3)
    with jax.numpy_rank_promotion("allow"):
        variables = _Net().init(jax.random.key(0), x)
        random = np.random.default_rng(1)
        variables = jax.tree.map(
            lambda v: array(0.5 + np.abs(random.standard_normal(v.shape))), variables
        )
        space = wsl.infer_weight_space(_apply, variables, x)
    return variables, space, x


def test_linen_with_running_statistics(flax_net):
    variables, space, x = flax_net
    assert sorted(space.groups.values()) == [3, 4]
    moved = space.permute(variables, draw_element(space, 0))
    stats = ("batch_stats", "BatchNorm_0", "mean")
    old, new = variables, moved
    for name in stats:
        old, new = old[name], new[name]
    assert sorted(np.asarray(old)) == sorted(np.asarray(new))
    with jax.numpy_rank_promotion("allow"):
        before, after = (call(_apply, v, x) for v in (variables, moved))
    np.testing.assert_allclose(after, before, atol=1e-5)
    match = wsl.match_weights(space, variables, moved, key=jax.random.key(0))
    assert match.distance_before > 0.1 and match.distance < 1e-6


def test_statistics_are_measured_anew(flax_net):
    variables, _, x = flax_net

    def update(variables, batch):
        _, new = _Net().apply(variables, batch, train=True, mutable=["batch_stats"])
        return {**variables, **new}

    with jax.numpy_rank_promotion("allow"):
        found = wsl.matching.reset_statistics(variables, update, x)
    dense = variables["params"]["Dense_0"]
    units = np.asarray(x) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    stats = found["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], units.mean(0), atol=1e-3)
    np.testing.assert_allclose(stats["var"], units.var(0), rtol=1e-2)


def test_encoders_of_variables(flax_net):
    variables, space, x = flax_net
    encoder = wsl.encoders.Statistics(space)
    assert encoder(variables).shape == (encoder.num_features,)
    probing = wsl.encoders.Probing(3, 2, 2, key=jax.random.key(0))
    with jax.numpy_rank_promotion("allow"):
        vector = probing(eqx.Partial(_Net().apply, variables))
    assert vector.shape == (4,)
    stacked = wsl.stack([variables, variables])
    assert eqx.filter_vmap(wsl.encoders.Flat(space))(stacked).shape[0] == 2
