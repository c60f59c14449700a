"""Networks stacked and taken apart, those with activations among their leaves too."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import wsl
from tests.wsl.helpers import array, assert_same
from tests.wsl.nn.helpers import without_type_checks as unchecked


class _Net(eqx.Module):
    """A network whose activation and name are leaves."""

    weight: jax.Array
    rate: np.ndarray
    activation: Callable
    name: str

    def __call__(self, x):
        return self.activation(self.weight @ x)


def _net(start, activation=jnp.tanh, shape=(2, 3)):
    weight = array(np.arange(start, start + np.prod(shape)).reshape(shape))
    return _Net(weight, np.asarray([start], np.float32), activation, "net")


def test_a_stack_has_a_leading_axis_on_every_array():
    networks = [_net(0), _net(6), _net(12)]
    stacked = wsl.stack(networks)
    np.testing.assert_array_equal(
        stacked.weight, np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    )
    np.testing.assert_array_equal(stacked.rate, [[0], [6], [12]])
    assert stacked.activation is jnp.tanh and stacked.name == "net"
    assert [x.weight.tolist() for x in wsl.unstack(stacked)] == [
        x.weight.tolist() for x in networks
    ]
    for one, again in zip(networks, wsl.unstack(stacked), strict=True):
        assert type(again) is _Net and again.activation is jnp.tanh
        assert_same(one.weight, again.weight)


def test_takes_one_or_several_in_the_order_given():
    stacked = wsl.stack([_net(0), _net(6), _net(12)])
    assert wsl.take(stacked, -1).weight[0, 0] == 12
    assert wsl.take(stacked, 1).weight.shape == (2, 3)
    assert wsl.take(stacked, [2, 0]).rate.tolist() == [[12], [0]]
    assert wsl.take(stacked, jnp.array([1])).rate.tolist() == [[6]]
    assert wsl.take(stacked, np.array([True, False, True])).rate.tolist() == [[0], [12]]
    assert wsl.take(stacked, []).rate.shape == (0, 1)


def test_what_cannot_be_stacked_is_named():
    with pytest.raises(ValueError, match="give one network or more"):
        wsl.stack([])
    with pytest.raises(ValueError, match=r"'\.weight' has shape \(2, 3\).*network 1"):
        wsl.stack([_net(0), _net(0, shape=(3, 3))])
    with pytest.raises(ValueError, match=r"'\.activation'.*in network 2"):
        wsl.stack([_net(0), _net(1), _net(2, activation=jnp.sin)])
    with pytest.raises(ValueError, match=r"Network 1 has other leaves.*\['b'\]"):
        wsl.stack([{"a": jnp.ones(1)}, {"a": jnp.ones(1), "b": jnp.ones(1)}])
    with pytest.raises(ValueError, match="another structure"):
        wsl.stack([[jnp.ones(1)], (jnp.ones(1),)])


def test_what_is_no_stack_is_said():
    with pytest.raises(ValueError, match=r"leaf '\.rate' \(1,\)"):
        wsl.unstack(_net(0))
    with pytest.raises(ValueError, match="becomes a stack by `wsl.stack`"):
        wsl.take([_net(0), _net(1, shape=(4, 3))], 0)
    with pytest.raises(ValueError, match="no arrays"):
        wsl.unstack(jnp.tanh)
    stacked = wsl.stack([_net(0), _net(6)])
    mistakes: list[Any] = [2, [0, -3], [0.5]]
    for wrong in mistakes:
        with unchecked(), pytest.raises(ValueError, match="choose among 0 to 1"):
            wsl.take(stacked, wrong)
