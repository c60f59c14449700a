"""Rounds of steps: what acts, what is learned from, and what a row says."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import AbstractEnvironment, make
from applications.policies import AbstractPolicy, FlatView, MLPPolicy
from applications.search import AbstractStepSearch, Actors


@dataclasses.dataclass(frozen=True)
class Config:
    num_envs: int = 3
    segment: int = 4
    rounds: int = 2
    eval_episodes: int = 2
    fresh_policies: int = 2
    fresh_every: int = 2
    normalise: bool = False


class Keys(NamedTuple):
    rollout: Any
    next: Any


class Counting(AbstractStepSearch):
    """Learns the sum of the rewards of valid steps; the policy never changes."""

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]

    def init(self, *, key):
        return self.start(jnp.zeros(()), key=key)

    def split(self, key):
        return Keys(*jr.split(key))

    def propose(self, state, keys):
        # Policies that stand still, go on, and break.
        biases = jnp.asarray([0.0, 0.1, jnp.nan])
        return Actors(jnp.stack([jnp.zeros(3), biases], axis=1))

    def make_actor(self, row):
        return self.view.to_policy(row)

    def learn(self, state, actors, unrolled, observations, keys):
        steps = unrolled.transitions
        total = jnp.sum(steps.reward, where=steps.valid)
        metrics = {"total": total, "nan_steps": jnp.sum(~steps.valid)}
        return state.learned + total, metrics

    def policy(self, state):
        return self.view.to_policy(jnp.zeros(2))

    def fresh(self, state, *, key):
        return jnp.zeros((2, 2))

    def judge(self, state, population, episodes):
        return {"judged": jnp.mean(episodes.total_reward)}


@pytest.fixture(scope="module")
def rows():
    task = make("lqr", horizon=6)
    search = Counting(task, Config(), FlatView(MLPPolicy(task, (), key=jr.key(0))))
    state = search.begin(key=jr.key(0))
    iteration, rows = search.compile(state), []
    for _ in range(2):
        state, metrics = iteration(state)
        rows.append({name: value.item() for name, value in metrics.items()})
    return state, rows


def _reward(bias: float, steps: int) -> float:
    """Of episodes of six steps from 1, with the action 4 tanh(bias)."""
    total, state, action = 0.0, 1.0, 4 * np.tanh(bias)
    for t in range(steps):
        if t % 6 == 0:
            state = 1.0
        total -= state**2 + action**2
        state = min(state + action, 2.0)
    return total


def test_an_iteration_is_its_rounds(rows):
    state, (first, second) = rows
    assert first["env_steps"] == 2 * 3 * 4
    # The third policy breaks at every one of its steps.
    assert first["nan_steps"] == 8 and first["nan_episodes"] == 8
    # What is no count is the mean over the rounds.
    both = _reward(0.0, 8) + _reward(0.1, 8)
    assert first["total"] == pytest.approx(both / 2, rel=1e-5)
    all_of_it = _reward(0.0, 16) + _reward(0.1, 16)
    assert float(state.learned) == pytest.approx(all_of_it, rel=1e-5)
    assert first["total"] != pytest.approx(second["total"], rel=1e-2)
    # An episode ended in the second round, and none in the first.
    finished = (_reward(0.0, 6) + _reward(0.1, 6)) / 2
    assert first["return_perturbed_mean"] == pytest.approx(finished, rel=1e-5)
    assert first["return_perturbed_max"] == pytest.approx(-6.0)


def test_the_policy_is_watched_and_values_are_judged_now_and_then(rows):
    _, (first, second) = rows
    assert first["return_policy"] == second["return_policy"] == -6.0
    assert "judged" not in first and second["judged"] == -6.0


def test_statistics_have_no_broken_observations(rows):
    state, _ = rows
    assert np.isfinite(state.observations.mean).all()
    # Two policies of three, 16 steps each.
    assert state.observations.count == 2 * 16 and state.iteration == 4


def test_a_state_has_the_environments(rows):
    state, _ = rows
    leaves = jax.tree.leaves(eqx.filter(state.environments, eqx.is_array))
    assert leaves and all(np.shape(leaf)[:1] in ((3,), ()) for leaf in leaves)
