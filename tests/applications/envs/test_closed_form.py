"""MountainCarContinuous against Gymnasium's, and LQR by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make


@eqx.filter_jit
def _step(task, state, action):
    return task.step(state, action)


@pytest.mark.parametrize("seed", range(4))
def test_mountain_car_equals_gymnasiums(seed, gymnasium_env):
    env = gymnasium_env("MountainCarContinuous-v0")
    task = make("mountain_car_continuous")
    random = np.random.default_rng(seed)
    env.reset(seed=0)
    state = jnp.array([random.uniform(-0.6, -0.4), 0.0], jnp.float32)
    env.state = np.asarray(state)
    ended, mine = False, jnp.zeros(())
    for _ in range(400):
        # Pushing along with the velocity climbs; some noise, and actions beyond 1.
        push = 1.5 * np.sign(env.state[1]) + random.normal(0, 0.3)
        action = np.array([push], np.float32)
        observation, reward, ended, _, _ = env.step(action)
        state, mine, terminated = _step(task, state, jnp.asarray(action))
        np.testing.assert_allclose(state, observation, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(mine, reward, rtol=1e-5)
        assert bool(terminated) == ended
        # Go on from theirs: the wall compares numbers for equality.
        state = jnp.asarray(observation)
        if ended:
            break
    assert ended and mine > 90


def test_mountain_car_stops_at_the_wall():
    task = make("mountain_car_continuous")
    after, reward, ended = _step(task, jnp.array([-1.19, -0.07]), jnp.array([0.5]))
    np.testing.assert_allclose(after, [-1.2, 0.0])
    assert float(reward) == pytest.approx(-0.025) and not ended
    # Control: not at the wall, not stopped.
    after, _, _ = _step(task, jnp.array([-1.1, -0.07]), jnp.array([0.5]))
    assert after[1] < -0.05


def test_mountain_car_starts():
    task = make("mountain_car_continuous")
    keys = jax.random.split(jax.random.key(0), 500)
    starts = jax.jit(jax.vmap(lambda key: task.reset(key=key)))(keys)
    assert -0.6 <= starts[:, 0].min() < -0.595 and -0.405 < starts[:, 0].max() < -0.4
    assert not starts[:, 1].any() and task.horizon == 999


def test_lqr_by_hand():
    task = make("lqr")
    state = task.reset(key=jax.random.key(0))
    np.testing.assert_array_equal(task.observe(state), [1.0])
    after, reward, ended = _step(task, state, jnp.array([-0.25]))
    assert float(after[0]) == 0.75 and float(reward) == -1.0625 and not ended
    # The state is kept within 2, the action within 4.
    after, reward, _ = _step(task, after, jnp.array([9.0]))
    assert float(after[0]) == 2.0 and float(reward) == -(0.75**2) - 16.0
