"""Evolution strategies: their updates by hand, and that they learn."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest


pytest.importorskip("evosax")

from applications.envs import make
from applications.evolution import (
    ARSConfig,
    CMAESConfig,
    OpenESConfig,
    SepCMAESConfig,
    SNESConfig,
)
from applications.evolution.algorithm import costs, Evolution
from applications.policies import RunningStatistics
from applications.rollout import Episode, rollout
from applications.settings import UserError
from tests.helpers import nightly


def _episodes(returns, valid, length=3):
    """Episodes with given returns; observations do not matter."""
    shape = returns.shape
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


def _compiled(algorithm: Any) -> tuple[Any, Any]:
    """What comes before the episodes of an iteration, and what comes after them."""
    return (
        eqx.filter_jit(lambda state: algorithm.before_rollout(state)),
        eqx.filter_jit(lambda *args: algorithm.after_rollout(*args)),
    )


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


def _hansen(returns, points, mean, std, shape, paths, count, *, separable=False):
    """A step of CMA-ES by Hansen (2016), "The CMA Evolution Strategy: A Tutorial".

    Numbers are those of its equations and of its Table 1. `shape` is C; `paths` are
    those of σ and of C; `separable` is Ros and Hansen (2008).
    """
    size, n = points.shape
    half = size // 2
    raw = np.log((size + 1) / 2) - np.log(np.arange(1, size + 1))
    mass = raw[:half].sum() ** 2 / (raw[:half] ** 2).sum()
    negative_mass = raw[half:].sum() ** 2 / (raw[half:] ** 2).sum()
    c_c = (4 + mass / n) / (n + 4 + 2 * mass / n)
    c_1 = 2 / ((n + 1.3) ** 2 + mass)
    c_mu = min(1 - c_1, 2 * (mass + 1 / mass - 2) / ((n + 2) ** 2 + mass))
    alpha = min(1 + c_1 / c_mu, 1 + 2 * negative_mass / (mass + 2))
    alpha = min(alpha, (1 - c_1 - c_mu) / (n * c_mu))
    negative = 0 if separable else alpha
    scale = np.where(raw > 0, 1 / raw[raw > 0].sum(), negative / -raw[raw < 0].sum())
    weights = scale * raw
    if separable:
        c_1, c_mu = c_1 * (n + 2) / 3, c_mu * (n + 2) / 3
    c_std = (mass + 2) / (n + mass + 5)
    damping = 1 + 2 * max(0, np.sqrt((mass - 1) / (n + 1)) - 1) + c_std
    expected_norm = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    steps = ((points - mean) / std)[np.argsort(-returns)]
    step = weights[:half] @ steps[:half]
    values, vectors = np.linalg.eigh(shape)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    path_std, path = paths
    path_std = (1 - c_std) * path_std
    path_std = path_std + np.sqrt(c_std * (2 - c_std) * mass) * root @ step
    norm = np.linalg.norm(path_std)
    # Evosax counts one generation more than the tutorial.
    limit = np.sqrt(1 - (1 - c_std) ** (2 * (count + 2))) * (1.4 + 2 / (n + 1))
    stalled = norm >= limit * expected_norm
    gain = 0 if stalled else np.sqrt(c_c * (2 - c_c) * mass)
    path = (1 - c_c) * path + gain * step
    lengths = np.sum((steps @ root) ** 2, axis=1)
    own = np.where(weights >= 0, weights, weights * n / lengths)
    kept = 1 - c_1 - c_mu * weights.sum() + stalled * c_1 * c_c * (2 - c_c)
    outer = np.einsum("i,ij,ik->jk", own, steps, steps)
    shape = kept * shape + c_1 * np.outer(path, path) + c_mu * outer
    if separable:
        shape = np.diag(np.diag(shape))
    grown = std * np.exp(c_std / damping * (norm / expected_norm - 1))
    return mean + std * step, grown, shape, (path_std, path)


_SIX = np.array([5.0, 1.0, 2.0, -4.0, 3.0, 2.5])


_FEW: dict[str, Any] = {"num_envs": 6, "eval_episodes": 1, "noise_scale": 0.5}


@pytest.mark.parametrize("config", [CMAESConfig(**_FEW), SepCMAESConfig(**_FEW)])
def test_cma_es_makes_the_steps_of_its_tutorial(config):
    separable = isinstance(config, SepCMAESConfig)
    algorithm = Evolution(make("lqr"), config)
    state = algorithm.init(key=jr.key(3))
    propose, learn = _compiled(algorithm)
    mean, std = np.asarray(state.learned.mean, np.float64), 0.5
    n = mean.size
    shape, paths = np.eye(n), (np.zeros(n), np.zeros(n))
    before: Any = None
    found: Any = None
    for i in range(3):
        trial = propose(state)
        points = np.asarray(trial.proposal.candidates, np.float64)
        dealt = np.roll(_SIX, i)
        before = (dealt, points, mean, std, shape, paths, i)
        mean, std, shape, paths = _hansen(*before, separable=separable)
        returns = np.append(dealt, 0.0)[:, None]
        episodes = _episodes(returns, jnp.ones(returns.shape, bool))
        state, metrics = learn(state, trial, episodes)
        found = np.asarray(state.learned.C)
        found = np.diag(found) if separable else found
        np.testing.assert_allclose(state.learned.mean, mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found, shape, rtol=1e-3, atol=1e-4)
        assert float(state.learned.std) == pytest.approx(std, rel=1e-3)
        spread = std * np.sqrt(np.mean(np.diag(shape)))
        assert float(metrics["noise_scale"]) == pytest.approx(spread, rel=1e-3)
    # Control: with eigenvectors and rates of the other kind it would be elsewhere.
    _, _, other, _ = _hansen(*before, separable=not separable)
    assert not np.allclose(found, other, rtol=1e-2, atol=1e-3)
    # What it adapts is not what it began with.
    assert not np.allclose(shape, np.eye(n), atol=0.05)


def test_snes_makes_the_step_of_its_paper():
    config = SNESConfig(**_FEW)
    algorithm = Evolution(make("lqr"), config)
    state = algorithm.init(key=jr.key(3))
    propose, learn = _compiled(algorithm)
    trial = propose(state)
    returns = np.append(_SIX, 0.0)[:, None]
    episodes = _episodes(returns, jnp.ones(returns.shape, bool))
    after, _ = learn(state, trial, episodes)
    # Schaul et al. (2011), Algorithm 1 and section 3.
    mean = np.asarray(state.learned.mean)
    noise = (np.asarray(trial.proposal.candidates) - mean) / 0.5
    n = mean.size
    utilities = np.maximum(0, np.log(6 / 2 + 1) - np.log(np.arange(1, 7)))
    utilities = utilities / utilities.sum() - 1 / 6
    best_first = noise[np.argsort(-_SIX)]
    rate = (3 + np.log(n)) / (5 * np.sqrt(n))
    grown = 0.5 * np.exp(rate / 2 * utilities @ (best_first**2 - 1))
    expected = mean + 0.5 * utilities @ best_first
    np.testing.assert_allclose(after.learned.mean, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.learned.std, grown, rtol=1e-4)
    worst_first = noise[np.argsort(_SIX)]
    assert not np.allclose(after.learned.mean, mean + 0.5 * utilities @ worst_first)


def test_settings_that_make_no_sense():
    with pytest.raises(UserError, match="--num-envs must be at least 4"):
        SNESConfig(num_envs=3)
    with pytest.raises(UserError, match="--noise-scale must be positive"):
        CMAESConfig(noise_scale=0.0)
    task = make("lqr")
    with pytest.raises(UserError, match="cma-es is for up to 5000 weights") as refused:
        Evolution(task, CMAESConfig(hidden=(80, 80)))
    assert "\n" not in str(refused.value)
    Evolution(task, SNESConfig(hidden=(80, 80)))


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
    np.testing.assert_array_equal(
        costs(returns, valid, paired=True), [-5, -1, 2, -3, 2, 2]
    )
    nothing = costs(returns, jnp.zeros(6, bool), paired=True)
    np.testing.assert_array_equal(nothing, np.zeros(6))
    # One by one, what broke is as bad as the worst, and nothing else.
    alone = costs(returns, valid, paired=False)
    np.testing.assert_array_equal(alone, [-5, -1, -7, -3, 2, 2])


def test_nothing_moves_where_all_returns_are_equal():
    mean, after, *_ = _one_step(_ars(), np.ones(8))
    np.testing.assert_array_equal(after, mean)


def _learn(algorithm, iterations, *, deal=None):
    """Returns of the policy itself; `deal` hands returns out in another order."""
    state = algorithm.init(key=jr.key(0))
    propose, learn = _compiled(algorithm)
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
    "cma-es": CMAESConfig(hidden=(4,), num_envs=16, eval_episodes=1),
    "sep-cma-es": SepCMAESConfig(hidden=(4,), num_envs=16, eval_episodes=1),
    "snes": SNESConfig(hidden=(4,), num_envs=16, eval_episodes=1),
}


_SLOW = ("cma-es", "sep-cma-es", "snes")


@pytest.mark.parametrize("name", nightly(_LQR, _SLOW))
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


@pytest.mark.parametrize(
    "config", [ARSConfig, OpenESConfig, SNESConfig, SepCMAESConfig, CMAESConfig]
)
def test_a_run_can_be_stopped_before_its_first_iteration(config):
    """Its state is finite, as a checkpoint's has to be."""
    state = Evolution(make("lqr"), config()).init(key=jr.key(0))
    for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()
