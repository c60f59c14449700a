"""Keys of stochastic policies: their own at every step, the same at every replay."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import ActionSpace, make
from applications.policies import AbstractPolicy
from applications.rollout import engine_for, rollout, RolloutOptions
from applications.rollout.episode import step_key
from applications.rollout.transitions import episode_key


class _Noisy(AbstractPolicy):
    """Standard normal actions about a mean; they are recorded. None without a key."""

    mean: jax.Array
    action_space: ActionSpace

    def __call__(self, observation, *, key=None):
        if key is None:
            return self.mean
        noise = jr.normal(key, self.mean.shape)
        return self.mean + noise, {"noise": noise}

    def fold_standardisation(self, mean, std):
        return self


class _Steady(eqx.Module):
    """A policy that is not an `AbstractPolicy`, and ignores everything."""

    output: jax.Array

    def __call__(self, observation, *, key):
        return self.output


@pytest.fixture(scope="module", params=["mujoco", "mjx"])
def task(request):
    # On the engine in JAX a task in closed form, which compiles faster.
    if request.param == "mjx":
        return make("mountain_car_continuous", horizon=3)
    return make("inverted_pendulum", physics="mujoco", horizon=3)


def test_every_step_has_its_own_key(task):
    make_policy = lambda mean: _Noisy(mean, task.action_space)
    unroll = engine_for(task).compile_unroll(make_policy, steps=6)
    population = jnp.array([[0.0], [0.5]])
    key = jr.key(7)

    def run(seed):
        state = unroll.init(2, key=seed)
        return unroll(population, np.arange(2), state)[0]

    steps = run(key).transitions
    noise = np.asarray(steps.extras["noise"])[..., 0]
    np.testing.assert_allclose(steps.action[..., 0] - noise, [[0, 0.5]] * 6, atol=1e-6)
    assert len(np.unique(noise)) == noise.size
    # Two episodes of three steps; the keys by hand.
    for environment in range(2):
        for episode in range(2):
            own_key = episode_key(key, jnp.int32(environment), jnp.int32(episode))
            expected = [
                jr.normal(step_key(own_key, jnp.int32(t)), (1,))[0] for t in range(3)
            ]
            found = noise[3 * episode : 3 * episode + 3, environment]
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    again = run(key).transitions
    np.testing.assert_array_equal(again.action, steps.action)
    # Control: another key, other draws.
    assert not np.array_equal(run(jr.key(8)).transitions.action, steps.action)


def test_rollouts_replay_and_start_as_those_of_deterministic_policies(task):
    population = jnp.array([[0.0], [0.0], [0.5]])

    engine = engine_for(task)
    noisy = engine.compile_rollout(
        lambda mean: _Noisy(mean, task.action_space), RolloutOptions(episodes=2)
    )
    first, again = (noisy(population, key=jr.key(0)) for _ in range(2))
    np.testing.assert_array_equal(first.observations.mean, again.observations.mean)
    # What is drawn by a policy changes no start state, but where it leads.
    calm = engine.compile_rollout(_Steady, RolloutOptions(episodes=2))(
        population, key=jr.key(0)
    )
    np.testing.assert_array_equal(calm.start, first.start)
    moved = np.abs(first.observations.mean - calm.observations.mean).max(-1)
    assert (moved > 1e-6).all()
    assert not np.array_equal(noisy(population, key=jr.key(1)).start, first.start)


def test_policies_without_a_key_cost_none():
    task = make("mountain_car_continuous", horizon=3)
    noisy = lambda mean: _Noisy(mean, task.action_space)

    def hashes(make_policy):
        """Calls of the random generator in the loop of a rollout."""
        text: Any = (
            jax.jit(lambda x, key: rollout(task, make_policy, x, key=key))
            .lower(jnp.zeros((2, 1)), jr.key(0))
            .compile()
            .as_text()
        )
        return text.count("threefry")

    assert hashes(noisy) > hashes(_Steady)
