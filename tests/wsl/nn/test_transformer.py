"""`WeightSpaceTransformerBlock`."""

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
    MLP,
    MOVED,
    SMALL,
    SPACES,
    uneven,
)
from wsl.nn import WeightSpaceTransformerBlock


@pytest.mark.parametrize("name", ["recurrent", "nested"])
def test_commutes(name):
    space = SPACES[name]
    channels = uneven(space)
    blocks = eqx.nn.Sequential(
        [WeightSpaceTransformerBlock(space, channels, 2, key=jr.key(i)) for i in (0, 1)]
    )
    assert_commutes(blocks, space, draw_features(space, channels, 0))


def test_control():
    block = WeightSpaceTransformerBlock(MLP, 2, 2, key=jr.key(0))
    features = draw_features(MLP, 2, 0)
    assert broken_by_most(block, MLP, features, group=MLP.unfix("in")) > MOVED


def test_health():
    assert_healthy(WeightSpaceTransformerBlock(SMALL, 4, 2, key=jr.key(0)), SMALL, 4)


def test_is_its_formula():
    block = WeightSpaceTransformerBlock(SMALL, 2, 2, key=jr.key(0))
    x = draw_features(SMALL, 2, 0)
    add = lambda a, b: jax.tree.map(jnp.add, a, b)

    @eqx.filter_jit
    def by_formula(block, x):
        x_attended = add(x, block.attention(block.norms[0](x)))
        normed = block.norms[1](x_attended)
        (w, b), (v, c) = block.hidden[-1], block.readout[-1]
        last = jax.nn.gelu(normed["w"] @ w + b[None, None]) @ v + c[None, None]
        return x_attended["w"] + last

    assert distance(call(block, x)["w"], by_formula(block, x)) < 1e-5
    # Without its last maps the block is the residual alone.
    zeros = lambda b: (b.attention.outputs, b.readout)
    silent = eqx.tree_at(
        zeros, block, jax.tree.map(lambda a: array(np.zeros(a.shape)), zeros(block))
    )
    assert distance(call(silent, x), x) == 0


def test_errors():
    with pytest.raises(ValueError, match="expansion"):
        WeightSpaceTransformerBlock(MLP, 2, 2, expansion=0, key=jr.key(0))
