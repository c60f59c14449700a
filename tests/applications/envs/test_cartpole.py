"""CartPole against Gymnasium's, whole episodes at a time."""

import math
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs.tasks.cartpole import CartPole


def _reference(start, choose):
    """Gymnasium's episode: states, actions, rewards; the last step terminates."""
    env: Any = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    env.state = np.asarray(start, np.float64)
    states, actions, rewards, terminated = [], [], [], False
    while not terminated and len(states) < 500:
        actions.append(int(choose(env.state)))
        _, reward, terminated, _, _ = env.step(actions[-1])
        states.append(np.array(env.state))
        rewards.append(reward)
    return np.array(states), np.array(actions, np.int32), np.array(rewards), terminated


@jax.jit
def _step(state, action):
    return CartPole().step(state, action)


@jax.jit
def _rollout(start, actions):
    task = CartPole()

    def advance(state, action):
        after, reward, terminated = task.step(state, action)
        return after, (after, reward, terminated)

    return jax.lax.scan(advance, start, actions)[1]


@pytest.mark.parametrize("seed", range(4))
def test_random_episodes_equal_gymnasiums(seed):
    start = CartPole().reset(key=jax.random.key(seed))
    random = np.random.default_rng(seed)
    states, actions, rewards, ended = _reference(start, lambda _: random.integers(2))
    assert ended and len(states) >= 8
    # Padded to one length, so that the episodes share a compilation.
    padded = np.resize(actions, 128)
    ours, our_rewards, our_ends = _rollout(start, jnp.asarray(padded))
    length = len(states)
    np.testing.assert_allclose(ours[:length], states, rtol=1e-4, atol=2e-5)
    np.testing.assert_array_equal(our_rewards[:length], rewards)
    assert int(jnp.argmax(our_ends)) == length - 1


def test_a_long_episode_in_double_precision():
    # Leaning into the fall keeps the pole up. Rounding errors grow all the while, by
    # a factor of about 1e8 in 250 steps, so the first 200 are compared.
    start = np.array([0.01, -0.02, 0.03, 0.04])
    states, actions, _, _ = _reference(start, lambda s: s[2] + 0.5 * s[3] > 0)
    assert len(states) > 200
    states, actions = states[:200], actions[:200]
    with jax.enable_x64(True):
        ours, _, ends = _rollout(jnp.asarray(start), jnp.asarray(actions))
        np.testing.assert_allclose(ours, states, rtol=0, atol=1e-8)
        # Control: the other action once, half way, and the comparison fails.
        actions[50] = 1 - actions[50]
        other, _, _ = _rollout(jnp.asarray(start), jnp.asarray(actions))
        assert np.abs(other - states).max() > 1e-2


def test_one_step_by_hand():
    # Upright at rest, pushed right: push = 10 / 1.1, pole acceleration
    # -push / (0.5 (4/3 - 0.1/1.1)), cart acceleration push - 0.05 pole / 1.1. Explicit
    # Euler moves the velocities only.
    push = 10 / 1.1
    pole = -push / (0.5 * (4 / 3 - 0.1 / 1.1))
    cart = push - 0.05 * pole / 1.1
    after, reward, terminated = _step(jnp.zeros(4), jnp.int32(1))
    np.testing.assert_allclose(after, [0, 0.02 * cart, 0, 0.02 * pole], rtol=1e-6)
    assert reward == 1 and not terminated


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ([2.399, 0.0, 0.0, 0.0], False),
        ([2.401, 0.0, 0.0, 0.0], True),
        ([-2.401, 0.0, 0.0, 0.0], True),
        ([0.0, 0.0, math.radians(11.9), 0.0], False),
        ([0.0, 0.0, math.radians(12.1), 0.0], True),
        ([0.0, 0.0, -math.radians(12.1), 0.0], True),
        # The limit is on the state reached: 2.39 + 0.02 * 1 = 2.41.
        ([2.39, 1.0, 0.0, 0.0], True),
    ],
)
def test_limits(state, ends):
    assert bool(_step(jnp.asarray(state), jnp.int32(0))[2]) is ends


def test_reset_covers_its_range():
    keys = jax.random.split(jax.random.key(0), 2000)
    starts = jax.jit(jax.vmap(lambda key: CartPole().reset(key=key)))(keys)
    assert starts.shape == (2000, 4)
    low, high = np.min(starts, axis=0), np.max(starts, axis=0)
    assert np.all((-0.05 <= low) & (low < -0.0495))
    assert np.all((0.0495 < high) & (high <= 0.05))
