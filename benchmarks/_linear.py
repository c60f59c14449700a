"""A policy of LQR of two numbers, so that all policies fit into a picture."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, Continuous
from applications.policies import AbstractPolicy


class Linear(AbstractPolicy):
    """The action is weight times state plus bias.

    Attributes:
        both: Weight and bias.
    """

    both: Float[Array, " 2"]
    action_space: Continuous = eqx.field(static=True)

    def __init__(
        self, task: AbstractEnvironment, hidden: tuple[int, ...], *, key: PRNGKeyArray
    ):
        assert isinstance(task.action_space, Continuous)
        self.both = jr.uniform(key, (2,), minval=-1, maxval=1)
        self.action_space = task.action_space

    def __call__(
        self, observation: Float[Array, " 1"], *, key: PRNGKeyArray | None = None
    ) -> Any:
        return self.both[0] * observation + self.both[1]

    def fold_standardisation(
        self, mean: Float[Array, " 1"], std: Float[Array, " 1"]
    ) -> "Linear":
        weight = self.both[:1] / std
        both = (weight, self.both[1:] - weight * mean)
        return eqx.tree_at(lambda p: p.both, self, jnp.concatenate(both))
