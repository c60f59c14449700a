"""Copies of a flat view are equal to it, and make the same policies."""

import copy

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make
from applications.policies import FlatView, MLPPolicy


_COPIES = {
    "deepcopy": copy.deepcopy,
    "cloudpickle": lambda view: cloudpickle.loads(cloudpickle.dumps(view)),
}


@pytest.mark.parametrize("name", _COPIES)
def test_copies_make_the_same_policies(name):
    task = make("cartpole")
    view = FlatView(MLPPolicy(task, (3,), key=jax.random.key(0)))
    other = _COPIES[name](view)
    assert other.space == view.space and hash(other.space) == hash(view.space)
    theta = jnp.linspace(-1.0, 1.0, view.space.size)
    mine, copied = view.to_policy(theta), other.to_policy(theta)
    np.testing.assert_array_equal(other.to_vector(mine), theta)
    np.testing.assert_array_equal(view.to_vector(copied), theta)
    # Control: of another architecture it is another space.
    larger = FlatView(MLPPolicy(task, (4,), key=jax.random.key(0)))
    assert other.space != larger.space
