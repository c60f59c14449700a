"""What a run stands for: the average of its last policies."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.envs import make
from applications.epvf import Config, EPVF


def _run(average: float):
    """Policies and averages of an algorithm whose policies are told to it."""
    config = Config(average=average, num_envs=2, archive=2, num_states=2)
    algorithm = EPVF(make("lqr"), config)
    state = eqx.filter_jit(lambda key: algorithm.init(key=key))(jr.key(0))
    told = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 6.0], [-4.0, 1.0]], np.float32)
    averages = []
    for t, row in enumerate(told):
        found = algorithm._averaged(state, jnp.asarray(row)[None])
        where = lambda s: (s.learned.average, s.iteration)
        state = eqx.tree_at(where, state, (found, jnp.int32(t + 1)))
        averages.append(np.asarray(found)[0])
    return algorithm, state, told, np.array(averages)


def test_an_average_by_hand():
    _, _, told, found = _run(1.0)
    # With all of the iterations it is the plain mean.
    expected = np.cumsum(told, axis=0) / np.arange(1, 5)[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # With half of them the newest of three counts 1 / (1 + 0.5 * 2).
    _, _, told, found = _run(0.5)
    second = told[0] + (told[1] - told[0]) / 1.5
    np.testing.assert_allclose(found[2], (second + told[2]) / 2, rtol=1e-6)


def test_it_is_watched_and_handed_out():
    algorithm, state, told, found = _run(0.5)
    proposal = algorithm.propose(state, algorithm.split(state.key))
    np.testing.assert_allclose(proposal.evaluation[0], found[-1], rtol=1e-6)
    acting = algorithm.view.to_vector(algorithm.policy(state))
    np.testing.assert_allclose(acting, found[-1], rtol=1e-6)
    # Without an average it is the newest policy.
    _, _, told, found = _run(0.0)
    np.testing.assert_allclose(found, told)
