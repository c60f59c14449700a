"""Evolution strategies: their updates by hand, and that they learn."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest


pytest.importorskip("evosax")

from applications.envs import make
from applications.evolution import ARSConfig, OpenESConfig
from applications.evolution.algorithm import costs, Evolution
from applications.policies import RunningStatistics
from applications.rollout import Episode, rollout


def _episodes(returns, valid, length=3):
    """Episodes with given returns; observations do not matter."""
    shape = returns.shape
    start = jnp.zeros((*shape, 1))
    start = jnp.zeros((*shape, 1))
    seen = RunningStatistics(jnp.zeros(shape), start, start)
    lengths = jnp.full(shape, length, jnp.int32)
    returns, no = jnp.asarray(returns, jnp.float32), jnp.zeros(shape, bool)
    return Episode(returns, lengths, valid, start, seen, no)


def _one_step(algorithm, returns, valid=None):
    """The weights before and after a step, and the directions, two-dimensional."""
    config = algorithm.config
    watched = np.zeros(config.eval_episodes)
    returns = np.concatenate([returns, watched])[:, None]
    valid = np.ones(len(returns), bool) if valid is None else np.append(valid, watched)
    state = algorithm.init(key=jr.key(3))
    trial = algorithm.before_rollout(state)
    after, metrics = algorithm.after_rollout(
        state, trial, _episodes(returns, jnp.asarray(valid, bool).reshape(-1, 1))
    )
    half = config.num_envs // 2
    mean = np.asarray(state.learned.mean)
    noise = (np.asarray(trial.proposal.candidates)[:half] - mean) / config.noise_scale
    np.testing.assert_allclose(
        trial.proposal.candidates[half:],
        mean - config.noise_scale * noise,
        rtol=1e-5,
        atol=1e-6,
    )
    return mean, np.asarray(after.learned.mean), noise, metrics


_RETURNS = np.array([5.0, 1.0, 2.0, -4.0, 3.0, 2.5, 9.0, 0.0])


def _ars(top=2, **options):
    config = ARSConfig(
        num_envs=8,
        top=top,
        learning_rate=0.1,
        noise_scale=0.5,
        **options,
    )
    return Evolution(make("lqr"), config)


def test_ars_makes_the_step_of_its_paper():
    mean, after, noise, _ = _one_step(_ars(), _RETURNS)
    assert not np.any(mean), "a linear policy starts at 0"
    # Algorithm 1 of Mania et al. (2018), line 7. Directions have the returns (5, 3),
    # (1, 2.5), (2, 9), (-4, 0): the best two by their better way are 2 and 0.
    used = np.array([2.0, 9.0, 5.0, 3.0])
    step = (5.0 - 3.0) * noise[0] + (2.0 - 9.0) * noise[2]
    np.testing.assert_allclose(after - mean, 0.1 / (2 * used.std()) * step, rtol=1e-4)
    # And not of all directions.
    _, all_of_them, *_ = _one_step(_ars(top=4), _RETURNS)
    assert not np.allclose(after, all_of_them)


def test_openes_ascends_centred_ranks():
    config = OpenESConfig(num_envs=8, hidden=(), learning_rate=0.1)
    mean, after, noise, _ = _one_step(Evolution(make("lqr"), config), _RETURNS)
    ranks = np.argsort(np.argsort(_RETURNS)) / 7 - 0.5
    gradient = (ranks[:4] - ranks[4:]) @ noise
    # Adam's first step has the size of its rate, whatever the gradient's.
    np.testing.assert_allclose(after - mean, 0.1 * np.sign(gradient), rtol=1e-3)


def test_a_direction_in_which_a_simulation_broke_does_not_count():
    # Of direction 2 one way broke, which would have been the best.
    valid = np.array([1, 1, 0, 1, 1, 1, 1, 1])
    mean, after, noise, metrics = _one_step(_ars(top=1), _RETURNS, valid)
    used = np.array([5.0, 3.0])
    expected = 0.1 / used.std() * (5.0 - 3.0) * noise[0]
    np.testing.assert_allclose(after - mean, expected, rtol=1e-4)
    assert metrics["return_perturbed_mean"] == pytest.approx((18.5 - 2.0) / 7)
    # The other way of direction 2 did not break: it counts as a return.
    assert metrics["return_perturbed_max"] == 9.0


def test_costs():
    returns = jnp.array([5.0, 1.0, 7.0, 3.0, -2.0, -9.0])
    valid = jnp.array([True, True, True, True, True, False])
    # Direction 2 is broken; -2 is the worst that is left.
    np.testing.assert_array_equal(costs(returns, valid), [-5, -1, 2, -3, 2, 2])
    np.testing.assert_array_equal(costs(returns, jnp.zeros(6, bool)), np.zeros(6))


def test_nothing_moves_where_all_returns_are_equal():
    mean, after, *_ = _one_step(_ars(), np.ones(8))
    np.testing.assert_array_equal(after, mean)


def _learn(algorithm, iterations, *, deal=None):
    """Returns of the policy itself; `deal` hands returns out in another order."""
    state = algorithm.init(key=jr.key(0))
    propose = eqx.filter_jit(lambda state: algorithm.before_rollout(state))
    learn = eqx.filter_jit(lambda *args: algorithm.after_rollout(*args))
    run = eqx.filter_jit(
        lambda acting, key: rollout(
            algorithm.task, algorithm.view.to_policy, acting, key=key
        )
    )
    returns = []
    for _ in range(iterations):
        trial = propose(state)
        episodes = run(trial.acting, trial.key)
        if deal is not None:
            where = lambda episodes: episodes.total_reward
            episodes = eqx.tree_at(where, episodes, deal(episodes.total_reward))
        state, metrics = learn(state, trial, episodes)
        returns.append(float(metrics["return_policy"]))
    return returns


# LQR's best return is about -1.6, and a policy that does nothing has -50.
_WATCHED: dict[str, Any] = {"num_envs": 16, "noise_scale": 0.05, "eval_episodes": 1}
_LQR = {
    "ars": ARSConfig(top=4, learning_rate=0.05, **_WATCHED),
    "openes": OpenESConfig(hidden=(4,), learning_rate=0.1, **_WATCHED),
}


@pytest.mark.parametrize("name", _LQR)
def test_it_learns_and_not_from_returns_of_others(name):
    config = _LQR[name]
    algorithm = Evolution(make("lqr"), config)
    assert max(_learn(algorithm, 40)[-5:]) > -2.5
    random = np.random.default_rng(0)
    deal = lambda returns: returns.at[:16].set(returns[random.permutation(16)])
    assert max(_learn(algorithm, 40, deal=deal)[-5:]) < -10


@pytest.mark.nightly
def test_it_learns_on_the_c_engine_with_observations_standardised():
    config = ARSConfig(
        num_envs=32,
        top=8,
        learning_rate=0.1,
        noise_scale=0.1,
        normalise=True,
        eval_episodes=4,
    )
    task = make("inverted_pendulum", physics="mujoco", horizon=200)
    algorithm = Evolution(task, config)
    state = algorithm.init(key=jr.key(0))
    step = algorithm.compile(state)
    returns = []
    for _ in range(10):
        state, metrics = step(state)
        returns.append(float(metrics["return_policy"]))
    assert returns[0] < 100 and max(returns) == 200
