"""What a run stands for: the average of its last policies."""

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.epvf import Config, EPVF


@pytest.mark.parametrize("average", [0.0, 0.5])
def test_it_is_watched_and_handed_out(average):
    config = Config(average=average, num_envs=2, archive=2, num_states=2)
    algorithm = EPVF(make("lqr"), config)
    state = eqx.filter_jit(lambda key: algorithm.init(key=key))(jr.key(0))
    other = state.learned.average + 1.0
    state = eqx.tree_at(lambda state: state.learned.average, state, other)
    proposal = algorithm.propose(state, algorithm.split(state.key))
    np.testing.assert_allclose(proposal.evaluation[0], other[0], rtol=1e-6)
    acting = algorithm.view.to_vector(algorithm.policy(state))
    np.testing.assert_allclose(acting, other[0], rtol=1e-6)
