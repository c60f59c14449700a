"""The engine for environments that are stepped in Python, on one that is worked out."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import AbstractEnvironment, Continuous
from applications.rollout import RolloutOptions
from applications.rollout._host_engine import HostEngine


class _Walk(AbstractEnvironment):
    """A point on a line: x becomes x + action, the reward is the new x.

    It starts at its seed modulo 2. The task ends at 3; the environment cuts off at -3.
    """

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-9.0,), (9.0,))
    horizon: int = eqx.field(static=True, default=4)

    def seed(self, *, key):
        return jr.bits(key, dtype=jnp.uint32)


class _Simulations:
    """Rows of the walk; they know which of them may be stepped."""

    made = 0

    def __init__(self, task, size):
        self.x, self.ongoing = np.zeros(size, np.float32), np.zeros(size, bool)
        self.closed = False
        _Simulations.made += 1

    def reset(self, rows, seeds):
        self.x[rows] = np.asarray(seeds) % 2
        self.ongoing[rows] = True
        return self.x[rows, None]

    def step(self, rows, actions):
        assert self.ongoing[rows].all() and not self.closed
        self.x[rows] += actions[:, 0]
        x = self.x[rows]
        terminated, truncated = x >= 3, x <= -3
        self.ongoing[rows] = ~(terminated | truncated)
        return x[:, None], x.copy(), terminated, truncated

    def close(self):
        self.closed = True


class _Constant(eqx.Module):
    """A policy that ignores what it sees."""

    output: jax.Array

    def __call__(self, observation, *, key):
        return self.output


def _by_hand(start, move, horizon=4):
    """Return, length, whether it terminated, observations acted on."""
    x, total, seen = start, 0.0, []
    for length in range(1, horizon + 1):
        seen.append(x)
        x += move
        total += x
        if x >= 3 or x <= -3:
            return total, length, x >= 3, seen
    return total, horizon, False, seen


_MOVES = np.array([1.0, 0.5, -1.5, 2.0, np.nan], np.float32)


@pytest.mark.parametrize("chunk", [None, 2])
def test_whole_episodes(chunk):
    engine = HostEngine(_Walk(), simulations=_Simulations)
    run = engine.compile_rollout(_Constant, RolloutOptions(episodes=3, chunk=chunk))
    key = jr.key(0)
    made = _Simulations.made
    episodes = run(jnp.asarray(_MOVES)[:, None], key=key)
    assert episodes.total_reward.shape == (5, 3)
    for i, move in enumerate(_MOVES[:4]):
        for j, own_key in enumerate(jr.split(jr.fold_in(key, i), 3)):
            start = int(jr.bits(own_key, dtype=jnp.uint32)) % 2
            total, length, terminated, seen = _by_hand(start, move)
            assert episodes.start[i, j, 0] == start
            assert episodes.total_reward[i, j] == total
            assert episodes.length[i, j] == length and episodes.valid[i, j]
            assert episodes.terminated[i, j] == terminated
            mean = episodes.observations.mean[i, j, 0]
            np.testing.assert_allclose(mean, np.mean(seen), rtol=1e-6)
    assert not episodes.valid[4].any() and (episodes.total_reward[4] == 0).all()
    assert len(np.unique(episodes.start)) == 2
    run(jnp.asarray(_MOVES)[:, None], key=key)
    assert _Simulations.made == made + 1  # they are kept


class _Proposal(eqx.Module):
    acting: jax.Array
    key: jax.Array


def test_an_iteration():
    def propose(state):
        return _Proposal(state[:, None], jr.key(0))

    def learn(state, proposal, episodes):
        return state - proposal.acting[:, 0], {"length": episodes.length}

    engine = HostEngine(_Walk(), simulations=_Simulations)
    state = jnp.array([1.0, 3.0, 0.0])
    step = engine.compile_iteration(propose, learn, _Constant, state, RolloutOptions())
    after, metrics = step(state)
    np.testing.assert_array_equal(after, np.zeros(3))
    assert metrics["length"][1] == 1 and metrics["length"][2] == 4


def test_an_unroll():
    engine = HostEngine(_Walk(), simulations=_Simulations)
    unroll = engine.compile_unroll(_Constant, steps=3)
    population, rows = jnp.asarray(_MOVES)[:, None], np.array([0, 2, 4])
    first = unroll.init(3, key=jr.key(1))
    one, second = unroll(population, rows, first)
    two, _ = unroll(population, rows, second)
    steps = jax.tree.map(lambda *x: np.concatenate(x), one.transitions, two.transitions)
    ended = np.concatenate([one.finished.ended, two.finished.ended])
    total = np.concatenate([one.finished.total_reward, two.finished.total_reward])
    for i, move in enumerate([1.0, -1.5]):
        at = 0
        while ended[at:, i].any():
            x, start = at + ended[at:, i].argmax() + 1, steps.observation[at, i, 0]
            expected, length, terminated, seen = _by_hand(start, move)
            assert x - at == length and total[x - 1, i] == expected
            np.testing.assert_array_equal(steps.observation[at:x, i, 0], seen)
            assert steps.terminated[x - 1, i] == terminated
            assert steps.truncated[x - 1, i] != terminated
            reached = steps.next_observation[x - 1, i, 0]
            assert reached == seen[-1] + move
            at = x
        assert at > 2
    assert not steps.valid[:, 2].any() and ended[:, 2].all()
    with pytest.raises(ValueError, match="use each state once"):
        unroll(population, rows, second)
