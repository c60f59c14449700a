"""Encoders and generators of networks whose axes are sums of index sets."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import wsl
from tests.helpers import nightly
from tests.wsl.helpers import act_on_network, array, call, draw_element
from wsl import encoders


KEY = jr.key(0)


class _Critic(eqx.Module):
    """Q(s, a) whose action comes in late, and two layers in one stack."""

    first: eqx.nn.Linear
    joined: eqx.nn.Linear
    stack: jax.Array
    last: eqx.nn.Linear

    def __init__(self, key):
        first, joined, stack, last = jr.split(key, 4)
        self.first = eqx.nn.Linear(3, 4, key=first)
        self.joined = eqx.nn.Linear(6, 3, key=joined)
        self.stack = jr.normal(stack, (2, 3, 3))
        self.last = eqx.nn.Linear(3, 1, key=last)

    def __call__(self, x):
        h = jnp.concatenate([jnp.tanh(self.first(x)), x[:2]])
        layer = lambda h, w: (jnp.tanh(w @ h), None)
        h, _ = jax.lax.scan(layer, jnp.tanh(self.joined(h)), self.stack)
        return self.last(h)


@functools.cache
def _critic():
    model = _Critic(KEY)
    return model, wsl.infer_weight_space(model, array(np.ones(3)))


def test_the_space_of_the_critic():
    _, space = _critic()
    assert list(space.groups.values()) == [4, 3, 3, 3]
    by_path = {leaf.path: leaf for leaf in space.leaves}
    assert len(by_path[".joined.weight"].pieces) == 2
    assert "+" in str(space)


_MAKE = {
    "equivariant": lambda s: encoders.Equivariant(
        s, 4, channels=3, num_layers=2, key=KEY
    ),
    "released": lambda s: encoders.Equivariant(
        s, 4, channels=3, num_layers=1, release=s.fixed, key=KEY
    ),
    "transformer": lambda s: encoders.Transformer(
        s, 4, channels=4, num_layers=1, num_heads=1, key=KEY
    ),
    "graph": lambda s: encoders.Graph(s, 4, channels=3, num_layers=1, key=KEY),
    "statistics": lambda s: encoders.Statistics(s),
}


@pytest.mark.parametrize(
    "name", nightly(_MAKE, {"released", "statistics", "transformer", "graph"})
)
def test_encoders_see_no_permutation(name):
    model, space = _critic()
    encoder = _MAKE[name](space)
    vector = np.asarray(call(encoder, model))
    for seed in range(2):
        moved = act_on_network(space, model, draw_element(space, seed))
        np.testing.assert_allclose(call(encoder, moved), vector, atol=2e-5)
    if name == "statistics":
        return
    # Control: the rows of one layer alone, but not what reads them.
    wrong = eqx.tree_at(
        lambda m: m.first.weight, model, jnp.roll(model.first.weight, 1, axis=0)
    )
    assert np.abs(np.asarray(call(encoder, wrong)) - vector).max() > 1e-4


def test_a_generator_writes_it():
    _, space = _critic()
    generator = wsl.generators.SliceHyperNetwork(
        _Critic, 1, slice_size=2, width=4, space=space, key=KEY
    )
    kinds = {leaf.path: leaf.kind for leaf in generator.leaves}
    # The axis that holds units and inputs is cut, as it moves.
    assert kinds[".joined.weight"].startswith("2 hidden, 2 hidden + f")
    network = call(generator, jnp.ones(1))
    assert network(jnp.ones(3)).shape == (1,)
