"""EPVF with perturbations of low rank: what is tried, kept and refused."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make
from applications.epvf.algorithm import EPVF
from applications.epvf.config import Config
from applications.search import LowRankCandidates
from applications.settings import UserError
from applications.values import shown_by


@pytest.mark.nightly
def test_an_iteration_keeps_what_was_tried():
    task = make("cartpole", horizon=10)
    config = Config(
        num_envs=5,
        iterations=2,
        hidden=(3,),
        perturbation="low-rank",
        rank=2,
        archive=2,
        critic_width=4,
        critic_depth=1,
        critic_updates=1,
        policy_updates=1,
        eval_episodes=2,
        normalise=True,
    )
    algorithm = EPVF(task, config)
    state: Any = eqx.filter_jit(lambda key: algorithm.init(key=key))(jax.random.key(0))
    step = eqx.filter_jit(
        lambda state: (algorithm.before_rollout(state), algorithm.step(state))
    )
    for k in range(2):
        trial, (after, metrics) = step(state)
        candidates = trial.proposal.candidates
        assert isinstance(candidates, LowRankCandidates) and len(candidates) == 5
        # θ follows, unperturbed.
        assert all((leaf[5:] == 0).all() for leaf in jax.tree.leaves(trial.acting.own))
        learned: Any = after.learned
        entries = jax.tree.map(
            lambda leaf, k=k: leaf[5 * k : 5 * k + 5], learned.archive.entries.weights
        )
        # As they acted; and so, by the statistics of then, as they were proposed.
        to_policy = algorithm.perturbations.to_policy
        shown = shown_by(
            lambda own, to_policy=to_policy, learned=learned: to_policy(
                own, learned.centres
            ),
            state.observations,
        )
        vector = lambda own, shown=shown: algorithm.view.to_vector(shown(own))
        added = jax.vmap(vector)(entries) - state.learned.policies
        np.testing.assert_allclose(
            jnp.linalg.norm(added, axis=1), candidates.norms, rtol=1e-3
        )
        assert np.isfinite(metrics["critic_loss"])
        state = after
    places = state.learned.archive.entries.weights.centre
    np.testing.assert_array_equal(places, np.repeat([0, 1], 5))


@pytest.mark.parametrize("perturbation", ["full", "low-rank"])
def test_their_deviation_is_said(perturbation):
    # The law is of full ones: those of low rank are products of normal factors.
    config = Config(perturbation=perturbation, noise="uniform", num_envs=64)
    algorithm = EPVF(make("cartpole"), config)
    view, own = algorithm.view, algorithm.perturbations

    @jax.jit
    def deviation(key):
        drawn = own.draw(jnp.zeros((1, view.space.size)), jnp.asarray(2.0), key=key)
        if isinstance(drawn, LowRankCandidates):
            policy: Any = view.to_policy(drawn.centre)
            whole = lambda thin: view.to_vector(policy.perturbed(thin).whole)
            drawn = jax.vmap(whole)(drawn.perturbations)
        return jnp.sqrt(jnp.mean(jnp.square(drawn)))

    measured = jnp.mean(jax.vmap(deviation)(jax.random.split(jax.random.key(0), 50)))
    np.testing.assert_allclose(measured, 2 * own.deviation, rtol=0.05)


@pytest.mark.parametrize(
    "more",
    [{"policies": "many"}, {"policy": "some.module:Policy"}, {"clip": "perturbed"}],
)
def test_what_needs_full_perturbations_is_refused(more):
    Config(**more)
    with pytest.raises(UserError, match="low-rank"):
        Config(perturbation="low-rank", **more)
