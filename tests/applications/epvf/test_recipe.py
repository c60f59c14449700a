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
from applications.policies import MLPPolicy, standardise
from applications.settings import UserError
from applications.values import shown_by
from tests.applications.epvf.helpers import (
    AIM,
    AVOID,
    ONE,
    perturbed,
    run,
    start,
    step,
)
from tests.helpers import nightly


_BY_ARRAY = {"noise_shape": "array", "noise_unit": "weight", "noise_scale": 0.1}


def _config(**changes) -> Config:
    small = {"num_envs": 16, "iterations": 30, "hidden": (), "num_states": 8}
    return Config(**(small | changes))


@pytest.mark.parametrize(
    "changes",
    nightly(
        [
            {},
            {"direction": "adam", "representation": "answers+flat"},
            {"direction": "natural", "kernel_scale": None, "kernel_noise": None},
            {"optimism": 0.3, "largest_deviation": 0.9, "common_starts": True},
            {"critic": "perceptron", "ensemble": 2, "noise_scale": 0.3},
            {"critic": "perceptron", "normalise": False, "noise_scale": 0.1},
            {"policies": "many", "num_envs": 8} | _BY_ARRAY,
        ],
        [
            {"direction": "natural", "kernel_scale": None, "kernel_noise": None},
            {"optimism": 0.3, "largest_deviation": 0.9, "common_starts": True},
            {"critic": "perceptron", "normalise": False, "noise_scale": 0.1},
        ],
    ),
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
    shown = shown_by(algorithm.view.to_policy, seen)
    told = jax.vmap(lambda w: shown(w)(standardise(raw, seen)))(jnp.asarray(first))
    np.testing.assert_allclose(told, expected, rtol=1e-3, atol=1e-4)
    # Negative control: they would be other policies if shown as they were proposed.
    candidates = trial.proposal.candidates[:16]
    assert np.abs(act(candidates, standardise(raw, seen)) - expected).max() > 0.01


@pytest.mark.parametrize(
    "adaptation", ["none", pytest.param("success", marks=pytest.mark.nightly)]
)
def test_noise_adapts_if_asked_to(adaptation):
    algorithm, state = start(AIM, _config(noise_adaptation=adaptation))
    after, _ = step(algorithm, state)
    assert state.learned.noise_factor == 1
    assert (after.learned.noise_factor == 1) == (adaptation == "none")


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
        ({"critic": "perceptron", "optimism": 0.5}, "--optimism 0.5 needs a V"),
        ({"policies": "many", "representation": "flat"}, "--inputs noise compares"),
        ({"representation": "answers+what"}, "no representation 'what'"),
        ({"noise_shape": "weight"}, "--noise-shape weight has units of its own"),
    ],
)
def test_settings_that_do_not_go_together(changes, says):
    with pytest.raises(UserError, match=says):
        dataclasses.replace(Config(), **changes)
