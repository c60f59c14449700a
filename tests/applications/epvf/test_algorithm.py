"""One iteration of EPVF, piece by piece, on tasks whose returns are known."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.epvf import Config, EPVF
from applications.epvf.config import PRESETS
from tests.applications.epvf.helpers import (
    AIM,
    AVOID,
    CLIFF,
    FOLLOW,
    init,
    ONE,
    OneStep,
    perturbed,
    run,
    start,
    step,
)


# One of each kind is enough while working.
_NIGHTLY = pytest.mark.nightly


def _config(**changes) -> Config:
    small = {
        "num_envs": 32,
        "iterations": 40,
        "hidden": (),
        "critic_width": 32,
        "critic_lr": 3e-3,
        "eval_episodes": 2,
    }
    return dataclasses.replace(PRESETS["paper"], **(small | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"representation": "probing", "num_probes": 2}, marks=_NIGHTLY),
        pytest.param({"targets": "rank"}, marks=_NIGHTLY),
        pytest.param({"start_states": True}, marks=_NIGHTLY),
        pytest.param({"policies": "many"}, marks=_NIGHTLY),
    ],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_finds_the_best_action(changes):
    # The action is tanh(w + b): the best policy has w + b = artanh(1/2) = 0.549.
    algorithm, state = start(AIM, _config(**changes))
    state, rows = run(algorithm, state)
    policy = algorithm.policy(state)
    assert abs(policy(ONE)[0] - 0.5) < 0.1
    assert rows[-1]["return_policy"] > -0.02
    assert rows[-1]["critic_correlation"] > 0.7


def test_with_the_opposite_reward_it_goes_elsewhere():
    """Negative control: the result above is the reward's doing."""
    algorithm, state = start(AVOID, _config())
    state, _ = run(algorithm, state)
    # The clip of 1 on both weights leaves tanh(-2) = -0.96 as the farthest action.
    assert algorithm.policy(state)(ONE)[0] < -0.8


@pytest.mark.nightly
def test_start_states_explain_the_returns():
    """V(θ) sees returns of mean 0 whatever the policy; V(s, θ) sees their sign."""
    correlations = {}
    for start_states in (False, True):
        config = _config(start_states=start_states, num_envs=64, policy_lr=1e-3)
        _, rows = run(*start(FOLLOW, config))
        correlations[start_states] = np.mean(
            [row["critic_correlation"] for row in rows[-10:]]
        )
    assert correlations[True] > 0.8
    assert abs(correlations[False]) < 0.3


@pytest.mark.parametrize("noise, spread", [("uniform", 3**-0.5), ("gaussian", 1.0)])
def test_perturbations(noise, spread, getkey):
    config = _config(noise=noise, noise_scale=0.2, num_envs=2000, hidden=(4,))
    algorithm, state = start(AIM, config)
    noise_of = perturbed(algorithm, state, getkey()) - state.learned.policies
    assert noise_of.shape == (2000, 13)
    # Five standard errors of a variance from 26,000 draws are below 5 %.
    np.testing.assert_allclose(jnp.std(noise_of), 0.2 * spread, rtol=0.05)
    assert abs(jnp.mean(noise_of)) < 0.01
    inside = jnp.max(jnp.abs(noise_of)) <= 0.2 + 1e-6
    assert inside if noise == "uniform" else not inside


@pytest.mark.parametrize("clip", ["policy", "perturbed", "none"])
def test_clip(clip, getkey):
    config = _config(clip=clip, weight_clip=0.1, noise_scale=0.5, policy_lr=1.0)
    algorithm, state = start(AIM, config)
    tried = perturbed(algorithm, state, getkey())
    assert bool(jnp.all(jnp.abs(tried) <= 0.1)) == (clip == "perturbed")
    state, metrics = step(algorithm, state)
    largest = jnp.max(jnp.abs(state.learned.policies))
    assert (largest <= 0.1) == (clip != "none")
    np.testing.assert_allclose(
        metrics["share_at_clip"], np.mean(np.abs(state.learned.policies) >= 0.1)
    )
    np.testing.assert_allclose(
        metrics["weight_norm"], np.linalg.norm(state.learned.policies), rtol=1e-6
    )


def test_noise_schedule(getkey):
    config = _config(
        noise_schedule="linear", noise_scale=0.4, noise_end=0.0, iterations=10
    )
    algorithm, state = start(AIM, config)
    key = getkey()
    full = perturbed(algorithm, state, key) - state.learned.policies
    later = eqx.tree_at(lambda s: s.iteration, state, jnp.asarray(5, jnp.int32))
    half = perturbed(algorithm, later, key) - state.learned.policies
    np.testing.assert_allclose(half, full / 2, atol=1e-6)
    # Done in half of the run: nothing is left in the middle.
    settings = dataclasses.replace(config, noise_until=0.5)
    settled = perturbed(EPVF(AIM, settings), later, key) - state.learned.policies
    np.testing.assert_allclose(settled, 0, atol=1e-6)
    # Of that of a whole policy each weight has a part.
    settings = dataclasses.replace(config, noise_unit="policy")
    part = perturbed(EPVF(AIM, settings), state, key) - state.learned.policies
    np.testing.assert_allclose(part, full / full.shape[1] ** (2 / 3), rtol=1e-5)


def test_correlation_is_from_before_the_fit():
    algorithm, state = start(AIM, _config(critic_updates=200))
    after, metrics = step(algorithm, state)
    fresh = after.learned.archive.entries
    weights, returns = fresh.weights[:32], np.asarray(fresh.returns[:32, 0])

    def reported(value) -> float:
        policy = jax.vmap(lambda w: value(algorithm.view.to_policy(w)))
        return np.corrcoef(np.asarray(policy(weights)), returns)[0, 1]

    np.testing.assert_allclose(
        metrics["critic_correlation"], reported(state.learned.critic.value), atol=1e-4
    )
    # Afterwards the critic knows these returns nearly by heart.
    assert reported(after.learned.critic.value) > 0.9 > metrics["critic_correlation"]


def test_the_archive_holds_what_was_run():
    config = _config(archive=2, iterations=3)
    algorithm, state = start(AIM, config)
    for _ in range(3):
        state, _ = step(algorithm, state)
    entries = state.learned.archive.entries
    assert entries.weights.shape == (64, 2)
    actions = np.tanh(np.sum(np.asarray(entries.weights), axis=1))
    expected = -((actions - 0.5) ** 2)
    np.testing.assert_allclose(entries.returns[:, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(entries.starts, np.ones((64, 1, 1)))


def test_policy_steps_raise_the_value_of_the_critic():
    config = _config(policy_lr=1e-3, policy_lr_schedule="constant")
    algorithm, state = start(AIM, config)
    after, _ = step(algorithm, state)

    def value(policies) -> float:
        policy = algorithm.view.to_policy(policies[0])
        return after.learned.critic.value(policy).item()

    assert value(after.learned.policies) > value(state.learned.policies)
    # Ten Adam steps of 0.001 move no weight by more than about 0.01.
    assert 0 < jnp.max(jnp.abs(after.learned.policies - state.learned.policies)) < 0.011


def test_many_policies_each_have_their_own_perturbation(getkey):
    algorithm, state = start(AIM, _config(policies="many", num_envs=8))
    assert state.learned.policies.shape[0] == 8
    assert len(np.unique(state.learned.policies[:, 0])) == 8
    offsets = np.abs(perturbed(algorithm, state, getkey()) - state.learned.policies)
    assert (0 < offsets).all() and (offsets < 0.3).all()
    after, _ = step(algorithm, state)
    assert (
        np.abs(after.learned.policies - state.learned.policies).max(axis=1) > 0
    ).all()


def test_many_policies_are_represented_by_the_one_of_highest_value():
    algorithm, state = start(AIM, _config(policies="many", num_envs=8))
    state, _ = run(algorithm, state)
    values = [
        state.learned.critic.value(algorithm.view.to_policy(weights)).item()
        for weights in state.learned.policies
    ]
    best = state.learned.policies[int(np.argmax(values))]
    chosen = algorithm.view.to_vector(algorithm.policy(state))
    np.testing.assert_array_equal(chosen, best)


@pytest.mark.parametrize(
    "targets, start_states",
    [
        ("rank", True),
        pytest.param("rank", False, marks=_NIGHTLY),
        pytest.param("standard", True, marks=_NIGHTLY),
        pytest.param("standard", False, marks=_NIGHTLY),
    ],
)
def test_breaking_off_is_not_a_way_to_a_high_return(targets, start_states):
    """An episode that breaks at once has the sum 0, and all others have less."""
    config = _config(targets=targets, start_states=start_states, iterations=60)
    algorithm, state = start(CLIFF, config)
    broken = 0
    for seed in range(4):
        state = init(algorithm, jr.key(seed))
        # All start where about half of the perturbed policies break.
        state = eqx.tree_at(
            lambda s: s.learned.policies, state, jnp.asarray([[0.15, 0.15]])
        )
        for _ in range(config.iterations):
            state, metrics = step(algorithm, state)
            broken += metrics["nan_episodes"].item()
            assert np.isfinite(metrics["critic_loss"])
            assert not metrics["return_perturbed_max"] > -1
        assert abs(algorithm.policy(state)(ONE)[0] + 0.5) < 0.15
    assert broken > 20


def test_nothing_is_learned_from_an_iteration_in_which_all_break():
    algorithm, state = start(CLIFF, _config(noise_scale=0.01))
    where = lambda s: (s.learned.policies, s.learned.average)
    state = eqx.tree_at(where, state, 2 * (jnp.asarray([[0.9, 0.9]]),))
    after, metrics = step(algorithm, state)
    assert metrics["nan_episodes"] == 34
    assert metrics["env_steps"] == 32
    assert metrics["critic_loss"] == 0
    for name in ("return_perturbed_mean", "return_policy", "critic_correlation"):
        assert np.isnan(metrics[name])
    assert not after.learned.archive.entries.valid.any()
    before, value = (s.learned.critic.value for s in (state, after))
    assert eqx.tree_equal(before, value)
    for leaf in jax.tree.leaves(eqx.filter(after, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("start_states", [False, True])
def test_a_start_that_is_not_a_number_stays_out(start_states):
    task = OneStep(lambda start, action: start * action, broken_start=True)
    algorithm, state = start(task, _config(start_states=start_states, iterations=5))
    after, rows = run(algorithm, state)
    assert 0 < rows[0]["nan_episodes"] < 34
    for leaf in jax.tree.leaves(eqx.filter(after, eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()


def test_value_of_the_policy_is_in_units_of_return():
    algorithm, state = start(AIM, _config())
    state, rows = run(algorithm, state)
    assert abs(rows[-1]["value_policy"] - rows[-1]["return_policy"]) < 0.05
    # Standardised, that value would be above the archive's mean: positive.
    assert rows[-1]["value_policy"] < 0.05


def test_second_iteration_is_not_compiled_again():
    algorithm, state = start(make("cartpole", horizon=20), _config())
    traced = 0

    @eqx.filter_jit
    def step(state):
        nonlocal traced
        traced += 1
        return algorithm.step(state)

    for _ in range(3):
        state, _ = step(state)
    assert traced == 1
