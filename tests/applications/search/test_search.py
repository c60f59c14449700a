"""What the base of searches owns, on an algorithm that can be followed by hand."""

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment, make
from applications.policies import FlatView, MLPPolicy, RunningStatistics
from applications.rollout import Episode
from applications.search import (
    AbstractPolicySearch,
    Outcome,
    Proposal,
    SearchState,
)


class Config(NamedTuple):
    episodes: int = 2
    chunk: int | None = None
    normalise: bool = False
    visits: int = 0
    common_starts: bool = False


class Keys(NamedTuple):
    rollout: PRNGKeyArray
    next: PRNGKeyArray


@final
class Best(AbstractPolicySearch[Any, Keys]):
    """Tries θ, θ + 1 and θ + 2, and goes where the sum of returns is largest."""

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView

    def init(self, *, key):
        return self.start(jnp.zeros(self.view.space.size), key=key)

    def split(self, key):
        return Keys(*jr.split(key))

    def propose(self, state, keys):
        steps = jnp.arange(3.0)[:, None]
        evaluation = jnp.tile(state.learned, (2, 1))
        return Proposal(state.learned[None] + steps, evaluation, context=steps)

    def learn(self, state, proposal, outcome, keys):
        totals = jnp.sum(outcome.candidates.total_reward, axis=1)
        best = jnp.argmax(totals)
        own = {"step": proposal.context[best, 0], "return_policy": jnp.float32(-7.0)}
        return proposal.candidates[best], own

    def policy(self, state):
        acting = self.fold_normalisation(state.learned[None], state.observations)
        return self.view.to_policy(acting[0])


def _search(**options) -> Best:
    task = make("lqr", horizon=4)
    view = FlatView(MLPPolicy(task, (), key=jr.key(0)))
    return Best(task, Config(**options), view)


def _episodes(returns, valid=None):
    """Episodes of 3 steps, each of which saw 1, 2 and 3."""
    returns = jnp.asarray(returns, jnp.float32)
    shape = returns.shape
    valid = jnp.ones(shape, bool) if valid is None else jnp.asarray(valid)
    observations = RunningStatistics(
        *(jnp.full(shape, 3.0), jnp.full((*shape, 1), 2.0), jnp.full((*shape, 1), 2.0))
    )
    lengths = jnp.full(shape, 3, jnp.int32)
    start, no = jnp.ones((*shape, 1)), jnp.zeros(shape, bool)
    return Episode(returns, lengths, valid, start, observations, no)


# Three candidates, then two evaluation policies, two episodes each.
_RETURNS = [[1.0, 2.0], [5.0, 4.0], [9.0, 9.0], [3.0, 5.0], [1.0, 3.0]]
_VALID = [[True, True], [True, True], [False, True], [True, True], [True, False]]


def test_an_iteration_by_hand():
    search = _search()
    state = search.init(key=jr.key(3))
    trial = search.before_rollout(state)
    np.testing.assert_array_equal(trial.acting[:, 0], [0, 1, 2, 0, 0])
    rollout_key, next_key = jr.split(jr.key(3))
    assert trial.key == rollout_key
    after, metrics = search.after_rollout(state, trial, _episodes(_RETURNS, _VALID))
    # The third candidate has the largest sum; that it broke is `learn`'s business.
    np.testing.assert_array_equal(after.learned, 2.0)
    assert after.iteration == 1 and after.key == next_key
    # All ten episodes were observed.
    assert after.observations.count == 30 and after.observations.mean == 2
    np.testing.assert_allclose(after.observations.std, np.sqrt(2 / 3), rtol=1e-6)
    # Of what is valid: (1 + 2 + 5 + 4 + 9) / 5; two of the twenty are not.
    assert metrics["return_perturbed_mean"] == pytest.approx(21 / 5)
    assert metrics["return_perturbed_max"] == 9
    assert metrics["env_steps"] == 18 and metrics["nan_episodes"] == 2
    # The algorithm's own metrics stand beside the shared ones, or in their place.
    assert metrics["step"] == 2 and metrics["return_policy"] == -7


def test_shared_metrics_of_the_evaluation_policies():
    episodes = _episodes(_RETURNS, _VALID)
    cut = lambda part: jax.tree.map(lambda leaf: leaf[part], episodes)
    rest = (jnp.zeros((3, 1)), RunningStatistics.empty(1))
    metrics = Outcome(cut(slice(3)), cut(slice(3, None)), *rest).metrics
    assert metrics["return_policy"] == pytest.approx((3 + 5 + 1) / 3)


def test_a_state_that_is_used_up_takes_nothing_along():
    search = _search()
    key, shared = jr.key(0), jnp.zeros(1)
    state = search.start({"newest": shared, "average": shared}, key=key)
    use_up = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    found = use_up(state.learned)
    np.testing.assert_array_equal(found["average"], 1.0)
    assert state.key is not key
    # The array that came first is used up; with the same one twice it would fail.
    assert shared.is_deleted()


def test_policies_act_on_observations_as_they_are():
    state = _search().init(key=jr.key(0))
    seen = RunningStatistics(jnp.float32(2.0), jnp.full(1, 10.0), jnp.full(1, 8.0))
    state = eqx.tree_at(lambda s: s.observations, state, seen)
    for normalise in (False, True):
        trial = _search(normalise=normalise).before_rollout(state)
        np.testing.assert_array_equal(trial.proposal.candidates[1], [1.0, 1.0])
        # x + 1 of a standardised x is (x - 10) / 2 + 1.
        expected = [0.5, -4.0] if normalise else [1.0, 1.0]
        np.testing.assert_allclose(trial.acting[1], expected, rtol=1e-6)


def test_compiled_it_is_the_same_iteration():
    search = _search()
    state = search.init(key=jr.key(1))
    expected, numbers = eqx.filter_jit(lambda search, s: search.step(s))(search, state)
    copied = jax.tree.map(jnp.copy, state)
    after, metrics = search.compile(state)(copied)
    assert isinstance(after, SearchState)
    leaves = map(jax.tree.leaves, ((after, metrics), (expected, numbers)))
    for ours, theirs in zip(*leaves, strict=True):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jr.key_data(ours), jr.key_data(theirs)
        np.testing.assert_array_equal(ours, theirs)
