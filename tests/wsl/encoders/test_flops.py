"""Operations counted, against counts by hand."""

from collections.abc import Callable
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jaxtyping import Array

from wsl import WeightSpace
from wsl.encoders import AbstractEncoder, count_flops, Flat, Probing
from wsl.nn import EquivariantLinear, lift


@final
class _Applied(AbstractEncoder):
    """Any function of the network, for its cost."""

    fn: Callable[[Any], Array]
    num_features: int
    num_reads: int
    is_invariant: ClassVar[bool] = False

    def __init__(self, fn: Callable[[Any], Array]):
        self.fn = fn
        self.num_features = self.num_reads = 1

    def __call__(self, network):
        return self.fn(network)


def _cost(fn, *shape):
    return count_flops(_Applied(fn), jnp.zeros(shape))


def test_flat_only_moves_numbers():
    mlp = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    assert count_flops(Flat(WeightSpace.from_spec(mlp)), mlp) == 0


@pytest.mark.parametrize("num_probes", [1, 5])
def test_a_perceptron_at_probes(num_probes):
    mlp = eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))
    # Products and sums of the matrices; biases; ReLUs.
    once = 2 * (3 * 4 + 4 * 4 + 4 * 2) + (4 + 4 + 2) + (4 + 4)
    probing = Probing(3, 2, num_probes, key=jax.random.key(1))
    assert count_flops(probing, mlp) == num_probes * once


def test_convolution():
    conv = eqx.nn.Conv2d(2, 3, (2, 2), groups=1, use_bias=False, key=jax.random.key(0))
    probing = Probing((2, 5, 4), 36, 1, key=jax.random.key(1))
    # 3 x 4 x 3 outputs, each of 2 x 2 x 2 products.
    assert count_flops(probing, conv) == 2 * 36 * 8
    conv = eqx.nn.Conv2d(2, 4, (2, 2), groups=2, use_bias=False, key=jax.random.key(0))
    assert count_flops(Probing((2, 5, 4), 48, 1, key=jax.random.key(1)), conv) == (
        2 * 48 * 4
    )


def test_equivariant_linear():
    # The mean of n entries with c channels: (n - 1) c sums, c divisions. Products with
    # a matrix of (c, d) for the n entries and for the mean. The constants are added to
    # the latter, and that to all entries.
    n, c, d = 5, 2, 3
    space = WeightSpace.from_spec({"b": jnp.zeros(n)}, {"['b']": ("g",)})
    linear = EquivariantLinear(space, c, d, key=jax.random.key(0))
    encoder = _Applied(lambda x: linear(lift(space, x, x)))
    expected = n * c + 2 * (n + 1) * c * d + d + n * d
    assert count_flops(encoder, {"b": jnp.zeros(n)}) == expected


def test_one_operation_each():
    assert _cost(lambda x: jnp.sin(x) * 2 + x, 7) == 3 * 7
    assert _cost(lambda x: jnp.where(x > 0, x, 0).T.reshape(-1)[::2], 3, 4) == 0
    assert _cost(jnp.sum, 7) == 6
    assert _cost(lambda x: jnp.max(x, 0), 3, 4) == 2 * 4
    assert _cost(lambda x: jnp.sort(x), 2, 5) == 10 * 3  # log2(5) is 2.3
    assert _cost(lambda x: jnp.argsort(x) + 1, 1) == 0
    assert _cost(lambda x: jnp.zeros(5).at[jnp.arange(3)].add(x), 3) == 3
    assert _cost(lambda x: jnp.arange(3) * 2, 1) == 0


def test_loops_count_as_often_as_they_run():
    w = jnp.zeros((4, 4))

    def loop(x):
        return lax.scan(lambda c, _: (w @ c, None), x, None, length=10)[0]

    assert _cost(loop, 4) == 10 * 2 * 16
    assert _cost(lambda x: lax.fori_loop(0, 6, lambda i, c: c * 2, x), 4) == 6 * 4
    # Both around each other, and under jit and vmap.
    assert _cost(lambda x: jax.vmap(jax.jit(loop))(x), 3, 4) == 3 * 320

    def endless(x):
        return lax.while_loop(lambda c: c.sum() < 1, lambda c: c + 1, x)

    with pytest.raises(ValueError, match="Give the loop a fixed length"):
        _cost(endless, 4)
    counting = lambda x: lax.while_loop(lambda i: i < 3, lambda i: i + 1, 0)
    assert _cost(counting, 4) == 0


def test_branches_and_functions_with_derivatives_of_their_own():
    def branches(x):
        return lax.cond(x[0] > 0, lambda x: jnp.sin(x) + 1, lambda x: -x, x)

    assert _cost(branches, 4) == 8
    assert _cost(jax.nn.relu, 4) == 4
    assert _cost(jax.checkpoint(lambda x: jnp.sin(x) + 1), 4) == 8

    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    assert _cost(double, 4) == 4


def test_what_is_not_known_is_not_guessed():
    with pytest.raises(ValueError, match="no count of operations for 'fft'"):
        _cost(lambda x: jnp.abs(jnp.fft.fft(x)), 4)
    with pytest.raises(ValueError, match="no count of operations for 'qr'"):
        _cost(lambda x: jnp.linalg.qr(x)[0], 4, 3)
