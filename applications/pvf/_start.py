import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.policies import (
    AbstractPolicy,
    make_policy,
    MLPPolicy,
    StochasticPolicy,
)
from applications.pvf.config import Config


def draw_policy(
    task: AbstractEnvironment, config: Config, *, key: PRNGKeyArray
) -> AbstractPolicy:
    """Draws the policy that a run starts with.

    Args:
        task: What it acts in.
        config: What it is.
        key: Source of randomness.

    Returns:
        The policy.
    """
    policy = make_policy(config.policy, task, config.hidden, key=key)
    if isinstance(policy, MLPPolicy):
        if config.start == "zero":
            last = lambda policy: (policy.layers[-1].weight, policy.layers[-1].bias)
            zeros = jax.tree.map(jnp.zeros_like, last(policy))
            policy = eqx.tree_at(last, policy, zeros)
        if config.policy_kind == "stochastic":
            return StochasticPolicy.around(policy, config.policy_std)
    return policy
