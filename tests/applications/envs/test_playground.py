"""MuJoCo Playground's tasks as ours, against Playground's own loop."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

from applications.envs.adapters import from_playground
from applications.policies import FlatView, MLPPolicy
from applications.rollout import rollout


registry = pytest.importorskip("mujoco_playground").registry


@pytest.mark.filterwarnings("ignore")
def test_episodes_are_those_of_playground():
    task = from_playground("CartpoleBalance", horizon=20)
    view = FlatView(MLPPolicy(task, (4,), key=jr.key(0)))
    population = jr.normal(jr.key(1), (2, view.space.size))
    episodes = eqx.filter_jit(rollout)(task, view.to_policy, population, key=jr.key(0))
    assert episodes.length.tolist() == [[20], [20]]

    (key,) = jr.split(jr.fold_in(jr.key(0), 0), 1)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        env = registry.load("CartpoleBalance", config_overrides={"impl": "jax"})
        step = jax.jit(env.step)
        state = jax.jit(env.reset)(key)
        total = 0.0
        for _ in range(20):
            state = step(state, view.to_policy(population[0])(state.obs))
            total += float(state.reward)
    np.testing.assert_allclose(episodes.total_reward[0], total, rtol=1e-4)
    # Control: the other policy has another return.
    assert abs(float(episodes.total_reward[1, 0]) - total) > 1e-2
