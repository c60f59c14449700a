"""A replay of segments: they expire with their policies, and parts stay together."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.stores import Replay, Segment


_ENVIRONMENTS, _STEPS = 2, 5


def _round(number: int, *, keeps: bool = True) -> Segment:
    """Steps counted through rounds, environments and time; weights name them."""
    shape = (_ENVIRONMENTS, _STEPS)
    size = _ENVIRONMENTS * _STEPS
    count = (number * size + jnp.arange(size)).reshape(shape).astype(jnp.float32)
    own = (number * _ENVIRONMENTS + jnp.arange(_ENVIRONMENTS)).astype(jnp.float32)
    no = jnp.zeros(shape, bool)
    weights = jnp.tile(own[:, None], (1, 3)) if keeps else None
    seen = count[..., None]
    return Segment(seen, seen, None, count, seen + 1, no, no, ~no, weights)


@pytest.fixture(scope="module")
def replay() -> Replay:
    """Five rounds, of which three are kept."""
    replay = Replay.empty(_round(0), 3)
    for number in range(5):
        replay = replay.add(_round(number))
    return replay


def test_steps_have_the_policy_that_took_them(replay):
    batch = jax.jit(lambda key: replay.sample(400, 2, key=key))(jr.key(0))
    assert batch.reward.shape == (400, 2) and batch.weights.shape == (400, 3)
    owner = batch.reward // _STEPS
    np.testing.assert_array_equal(owner, np.tile(batch.weights[:, :1], (1, 2)))
    # One step after the other.
    np.testing.assert_array_equal(batch.reward[:, 1], batch.reward[:, 0] + 1)
    # The first two rounds have expired; all others are drawn, and all of their steps.
    assert set(np.unique(batch.weights)) == set(range(4, 10))
    assert set(np.unique(batch.reward[:, 0] % _STEPS)) == set(range(_STEPS - 1))


def test_nothing_is_drawn_that_is_not_there():
    replay = Replay.empty(_round(0), 3).add(_round(7))
    batch = replay.sample(50, _STEPS, key=jr.key(1))
    assert batch.weights is not None
    assert set(np.unique(batch.weights)) == {14, 15}


def test_policies_are_left_out_where_nothing_reads_them():
    like = _round(0, keeps=False)
    batch = Replay.empty(like, 2).add(like).sample(3, 1, key=jr.key(0))
    assert batch.weights is None and batch.observation.shape == (3, 1, 1)
