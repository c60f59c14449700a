"""The defaults of EPVF: answers, a kernel, trusted steps, old policies kept."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.epvf.config import Config, PRESETS
from applications.policies import MLPPolicy, RunningStatistics, standardise
from applications.rollout import Episode
from applications.search import noise_units, Outcome
from applications.settings import UserError
from tests.applications.epvf.helpers import (
    AIM,
    AVOID,
    ONE,
    perturbed,
    run,
    start,
    step,
)


def _config(**changes) -> Config:
    small = {"num_envs": 16, "iterations": 30, "hidden": (), "num_states": 8}
    return Config(**(small | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"direction": "adam", "representation": "answers+flat"},
        {"direction": "natural", "kernel_scale": None, "kernel_noise": None},
        {"optimism": 0.3, "largest_deviation": 0.9, "common_starts": True},
        {"critic": "perceptron", "ensemble": 2, "critic_start": "anew"},
        {"critic": "perceptron", "normalise": False, "noise_scale": 0.1},
        {"policies": "many", "num_envs": 8, "noise_shape": "array"},
    ],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_finds_the_best_action(changes):
    # Returns are highest for the action 0.5, and the policy starts at 0.
    algorithm, state = start(AIM, _config(**changes))
    state, rows = run(algorithm, state)
    assert abs(algorithm.policy(state)(ONE)[0] - 0.5) < 0.1
    assert rows[-1]["return_policy"] > -0.02
    assert all(np.isfinite(row["critic_loss"]) for row in rows)


@pytest.mark.nightly
def test_learns_with_actions_that_have_no_gradient():
    # The levels are -1, -0.5, 0, 0.5 and 1.
    changes = {"action_levels": 5, "noise_scale": 0.3}
    algorithm, state = start(AIM, _config(**changes))
    state, rows = run(algorithm, state)
    policy = algorithm.policy(state)
    assert isinstance(policy, MLPPolicy)
    assert policy.action_space.select(policy(ONE))[0] == 0.5
    assert rows[0]["return_policy"] < -0.2 and rows[-1]["return_policy"] > -0.02
    # Control: what is done has no gradient, what V reads has one.
    act = lambda bias, read: read(
        eqx.tree_at(lambda p: p.layers[-1].bias, policy, bias)(ONE)
    )[0]
    bias = policy.layers[-1].bias
    assert np.all(jax.grad(act)(bias, policy.action_space.select) == 0)
    assert np.all(jax.grad(act)(bias, lambda output: output) != 0)


def test_with_the_opposite_reward_it_goes_elsewhere():
    """Negative control: the result above is the reward's doing."""
    algorithm, state = start(AVOID, _config())
    state, _ = run(algorithm, state)
    assert algorithm.policy(state)(ONE)[0] < -0.1


def test_a_step_changes_answers_by_the_radius():
    far = {"step_limit": 10.0, "largest_deviation": None}
    algorithm, state = start(AIM, _config(trust_radius=0.4, **far))
    after, _ = step(algorithm, state)
    act = lambda policies: np.tanh(np.sum(np.asarray(policies), axis=1))
    before = act(state.learned.policies)
    fresh = act(after.learned.archive.entries.weights[:16])
    spread = np.sqrt(np.mean((fresh - before) ** 2))
    moved = np.abs(act(after.learned.policies) - before)
    np.testing.assert_allclose(moved, 0.4 * spread, rtol=0.02)


def test_perturbations_come_in_pairs(getkey):
    algorithm, state = start(AIM, _config())
    away = np.asarray(perturbed(algorithm, state, getkey()) - state.learned.policies)
    np.testing.assert_allclose(away[::2], -away[1::2], atol=1e-7)
    assert len(np.unique(np.abs(away[:, 0]))) == 8
    alone, state = start(AIM, _config(antithetic=False))
    away = np.asarray(perturbed(alone, state, getkey()) - state.learned.policies)
    assert np.abs(away[::2] + away[1::2]).min() > 1e-4


def test_old_policies_stay_what_they_were():
    """Whatever is observed since: in the archive, and as V is shown them."""
    task = make("cartpole", horizon=30)
    algorithm, state = start(task, _config(normalise=True, start="drawn"))
    trial = eqx.filter_jit(algorithm.before_rollout)(state)
    state, _ = step(algorithm, state)
    first = np.asarray(state.learned.archive.entries.weights[:16])
    np.testing.assert_array_equal(first, trial.acting[:16])
    for _ in range(2):
        state, _ = step(algorithm, state)
    archive, seen = state.learned.archive, state.observations
    np.testing.assert_array_equal(archive.entries.weights[:16], first)
    # Outputs for a raw observation, and for the same one standardised.
    raw = jr.normal(jr.key(0), (4,))
    act = jax.vmap(lambda w, x: algorithm.view.to_policy(w)(x), in_axes=(0, None))
    expected = act(jnp.asarray(first), raw)
    shown = algorithm._shown(None, seen)
    told = jax.vmap(lambda w: shown(w)(standardise(raw, seen)))(jnp.asarray(first))
    np.testing.assert_allclose(told, expected, rtol=1e-3, atol=1e-4)
    # Negative control: they would be other policies if shown as they were proposed.
    candidates = trial.proposal.candidates[:16]
    assert np.abs(act(candidates, standardise(raw, seen)) - expected).max() > 0.01


def test_units_of_the_noise():
    policy = start(AIM, _config())[0].view.to_policy(jnp.array([3.0, 4.0]))
    units = lambda shape: np.ravel(
        [leaf.ravel() for leaf in jax.tree.leaves(noise_units(policy, shape))]
    )
    np.testing.assert_array_equal(units("common"), [1, 1])
    # Mean square 1: 3 and 4, divided by the root of 25 / 2.
    expected = np.array([3, 4]) / np.sqrt(12.5)
    np.testing.assert_allclose(units("weight"), expected, rtol=1e-6)
    np.testing.assert_allclose(units("array"), expected, rtol=1e-6)
    zero = jax.tree.map(jnp.zeros_like, policy)
    np.testing.assert_array_equal(noise_units(zero, "weight").layers[0].bias, [1])


def test_the_policy_starts_in_the_middle():
    task = make("half_cheetah", physics="mujoco")
    for how, is_zero in (("zero", True), ("drawn", False)):
        algorithm, state = start(task, _config(start=how, hidden=(4,)))
        output = algorithm.policy(state)(jnp.ones(task.observation_size))
        assert np.all(np.asarray(output) == 0) == is_zero


def test_the_paper_is_a_preset():
    paper = PRESETS["paper"]
    assert (paper.step, paper.critic, paper.inputs) == ("adam", "perceptron", "raw")
    assert not paper.observes and paper.visits == 0
    assert PRESETS["recipe"] == Config()


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"start_states": True}, "--critic kernel is V of policies alone"),
        ({"ensemble": 3}, "--ensemble is of perceptrons"),
        ({"critic": "perceptron", "optimism": 1.0}, "--optimism needs a V"),
        ({"policies": "many", "representation": "flat"}, "--inputs noise compares"),
        ({"representation": "answers+what"}, "no representation 'what'"),
    ],
)
def test_settings_that_do_not_go_together(changes, says):
    with pytest.raises(UserError, match=says):
        dataclasses.replace(Config(), **changes)


@pytest.mark.parametrize(
    "own, better",
    # Of candidates with returns 0 to 3, and one that broke.
    [(1.5, 0.5), (2.5, 0.25), (5.0, 0.0), (-1.0, 1.0)],
)
def test_noise_widens_while_more_than_a_fifth_do_better(own, better):
    changes = {"noise_adaptation": "success", "antithetic": False}
    algorithm, state = start(AIM, _config(num_envs=5, archive=2, **changes))
    tried = _episodes([0.0, 1.0, 2.0, 3.0, 99.0], [True] * 4 + [False])
    outcome = Outcome(tried, _episodes([own]), None, state.observations)
    factor = algorithm._noise_factor(jnp.asarray(2.0), outcome)
    np.testing.assert_allclose(factor, 2 * np.exp(0.2 * (better - 0.2)), rtol=1e-5)
    # It stays where all are alike, within bounds, and if it is not to adapt.
    alike = Outcome(_episodes([1.0] * 5), _episodes([1.0]), None, state.observations)
    assert algorithm._noise_factor(jnp.asarray(2.0), alike) == 2
    assert algorithm._noise_factor(jnp.asarray(1e9), outcome) == 10
    fixed, _ = start(AIM, _config())
    assert fixed._noise_factor(jnp.asarray(2.0), outcome) == 2


def _episodes(returns, valid=None) -> Episode:
    returns = jnp.asarray(returns)[:, None]
    there = jnp.ones(len(returns), bool) if valid is None else jnp.asarray(valid)
    count = jnp.ones_like(returns)
    one = jnp.ones((*returns.shape, 1))
    statistics = RunningStatistics(count, one, one)
    length = jnp.ones(returns.shape, jnp.int32)
    there = there[:, None]
    return Episode(returns, length, there, one, statistics, ~there)
