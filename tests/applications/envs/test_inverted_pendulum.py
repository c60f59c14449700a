"""InvertedPendulum against Gymnasium's, whole episodes at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs.mjx import MJXTask
from applications.envs.mujoco import Physics
from applications.envs.tasks.inverted_pendulum import InvertedPendulum


@eqx.filter_jit
def _rollout(task, start, actions):
    def advance(state, action):
        after, reward, terminated = task.step(state, action)
        return after, (task.observe(after), reward, terminated)

    return jax.lax.scan(advance, start, actions)[1]


@pytest.fixture(scope="module")
def task():
    return MJXTask(InvertedPendulum())


@pytest.fixture
def reference(gymnasium_env):
    return gymnasium_env("InvertedPendulum-v5")


@pytest.mark.nightly  # on MJX, which compiles for long
@pytest.mark.parametrize(
    ("seed", "scale"),
    # Up to 4 N is more than the motor takes, and clipped; the weaker the pushes, the
    # longer the episode.
    [(0, 4.0), (1, 1.0), (2, 0.1), (3, 0.01)],
)
def test_episodes_equal_gymnasiums(task, reference, seed, scale):
    random = np.random.default_rng(seed)
    qpos, qvel = random.uniform(-0.01, 0.01, (2, 2))
    actions = random.uniform(-scale, scale, (64, 1))
    reference.reset(seed=0)
    reference.set_state(qpos, qvel)
    steps = []
    for action in actions:
        observation, reward, terminated, _, _ = reference.step(action)
        steps.append((observation, reward, terminated))
        if terminated:
            break
    observations, rewards, ends = map(np.array, zip(*steps, strict=True))
    assert ends[-1] and rewards[-1] == 0
    start = Physics(
        jnp.asarray(qpos, float), jnp.asarray(qvel, float), jnp.zeros(1), jnp.zeros(2)
    )
    ours, our_rewards, our_ends = _rollout(task, start, jnp.asarray(actions, float))
    length = len(steps)
    np.testing.assert_allclose(ours[:length], observations, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(our_rewards[:length], rewards)
    np.testing.assert_array_equal(our_ends[:length], ends)
    # Control: a start 1e-4 off is told apart.
    off = eqx.tree_at(lambda p: p.qpos, start, start.qpos + 1e-4)
    moved, _, _ = _rollout(task, off, jnp.asarray(actions, float))
    assert np.abs(moved[:length] - observations).max() > 1e-4


@pytest.mark.parametrize(
    ("qpos", "ends"),
    [
        ([0.0, 0.199], False),
        ([0.0, 0.201], True),
        ([0.0, -0.201], True),
        ([0.9, 0.0], False),  # the position of the cart has no limit of its own
        ([jnp.nan, 0.0], True),
    ],
)
def test_termination_and_reward(qpos, ends):
    definition = InvertedPendulum()
    physics = Physics(jnp.asarray(qpos), jnp.zeros(2), jnp.zeros(1), jnp.zeros(2))
    assert bool(definition.terminated(physics)) is ends
    assert float(definition.reward(physics, physics, jnp.zeros(1))) == 1 - ends


def test_reset_covers_its_range():
    keys = jax.random.split(jax.random.key(0), 2000)
    definition = InvertedPendulum()
    starts = jax.jit(jax.vmap(lambda key: definition.initial(key=key)))
    qpos, qvel = starts(keys)
    starts = np.concatenate([qpos, qvel], axis=1)
    low, high = starts.min(axis=0), starts.max(axis=0)
    assert np.all((-0.01 <= low) & (low < -0.0099))
    assert np.all((0.0099 < high) & (high <= 0.01))
    assert np.unique(starts[0]).size == 4
