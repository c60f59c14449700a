"""`ChannelDropout`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    broken_by_most,
    distance,
    draw_features,
    MOVED,
    SMALL,
    SPACES,
)
from wsl.nn import ChannelDropout, Pointwise


def test_whole_channels():
    ones = {"a": array(np.ones((3, 4, 64))), "b": array(np.ones(64))}
    dropped = call(ChannelDropout(0.25), ones, key=jr.key(0))
    channels = np.asarray(dropped["a"]).reshape(12, 64)
    np.testing.assert_array_equal(channels, np.broadcast_to(channels[0], (12, 64)))
    np.testing.assert_allclose(np.unique(channels), [0, 4 / 3], rtol=1e-6)
    # Leaves draw for themselves.
    assert (channels[0] != np.asarray(dropped["b"])).any()


def test_how_many_are_kept():
    # 64,000 draws: 0.75 with a standard deviation of 0.0017.
    keys = jr.split(jr.key(0), 1000)
    ones = {"a": array(np.ones((2, 64)))}
    drop = jax.jit(jax.vmap(lambda key: ChannelDropout(0.25)(ones, key=key)))
    dropped = np.asarray(drop(keys)["a"])
    assert abs((dropped > 0).mean() - 0.75) < 0.01
    np.testing.assert_allclose(dropped.mean(), 1, atol=0.015)


@pytest.mark.parametrize("name", ["recurrent", "nested"])
def test_commutes(name):
    space = SPACES[name]
    layer = ChannelDropout(0.5)
    features = draw_features(space, 8, 0)
    assert_commutes(lambda f: layer(f, key=jr.key(3)), space, features)


def test_control_entries():
    # Plain dropout, which drops single entries, tells indices apart.
    space = SPACES["mlp"]
    plain = Pointwise(lambda x: eqx.nn.Dropout(0.5)(x, key=jr.key(3)))
    assert broken_by_most(plain, space, draw_features(space, 8, 0)) > MOVED


def test_off():
    features = draw_features(SPACES["mlp"], 8, 0)
    model = eqx.nn.Sequential([ChannelDropout(0.5)])
    assert distance(call(model, features, key=jr.key(0)), features) > MOVED
    off = eqx.nn.inference_mode(model)
    assert distance(off(features), features) == 0
    assert distance(off(features, key=jr.key(0)), features) == 0
    layer = ChannelDropout(0.5)
    assert distance(layer(features, inference=True), features) == 0
    assert distance(ChannelDropout(0.0)(features), features) == 0
    inference = ChannelDropout(0.5, inference=True)
    on = call(inference, features, inference=False, key=jr.key(0))
    assert distance(on, features) > MOVED


def test_health():
    layer = ChannelDropout(0.5)
    assert_healthy(lambda f: layer(f, key=jr.key(0)), SMALL, 4)


def test_errors():
    with pytest.raises(ValueError, match="needs a key"):
        ChannelDropout(0.5)({"a": jnp.ones(2)})
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            ChannelDropout(p)
