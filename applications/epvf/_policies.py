"""The policies that are improved: how they start, and which weights each has."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.epvf.config import Config
from applications.policies import AbstractPolicy, FlatView, make_policy, MLPPolicy


def draw_policy(
    task: AbstractEnvironment,
    config: Config,
    hidden: tuple[int, ...],
    *,
    key: PRNGKeyArray,
) -> AbstractPolicy:
    """Draws one policy.

    Args:
        task: What it acts in.
        config: The settings.
        hidden: Widths of its hidden layers.
        key: Source of randomness.

    Returns:
        The policy.
    """
    levels = config.action_levels
    return make_policy(config.policy, task, hidden, levels=levels, key=key)


def draw_policies(
    task: AbstractEnvironment,
    config: Config,
    view: FlatView[AbstractPolicy],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "policies weights"]:
    """Draws the policies of a run, of the sizes that there are in turn.

    Args:
        task: What they act in.
        config: The settings.
        view: From policies of the widest size to vectors.
        key: Source of randomness. A row depends on it and on its number alone.

    Returns:
        Their weights, one policy a row; narrow ones are filled up with zeros.
    """

    def draw(index):
        own_key = jr.fold_in(key, index)
        drawn = [
            draw_policy(task, config, hidden, key=own_key)
            for hidden in config.all_hidden
        ]
        vectors = [
            view.to_vector(_widened(_started(policy, config), config))
            for policy in drawn
        ]
        return jnp.stack(vectors)[index % len(vectors)]

    return jax.vmap(draw)(jnp.arange(config.num_policies))


def weight_mask(
    view: FlatView[AbstractPolicy], config: Config
) -> Float[Array, "policies weights"]:
    """1 for each weight that its policy has; 0 for those of wider ones."""
    ones = jnp.ones(view.space.size)
    policy = view.to_policy(ones)
    if not isinstance(policy, MLPPolicy):
        return jnp.tile(ones, (config.num_policies, 1))
    narrow = [policy.resized(hidden) for hidden in config.all_hidden]
    masks = jnp.stack([view.to_vector(_widened(one, config)) for one in narrow])
    return masks[jnp.arange(config.num_policies) % len(masks)]


def narrowed(policy: AbstractPolicy, config: Config, index: int) -> AbstractPolicy:
    """Takes from a policy what fills it up.

    Args:
        policy: A policy of the widest size.
        config: The settings.
        index: Its row among the policies of a run.

    Returns:
        The policy, of its own size.
    """
    if not isinstance(policy, MLPPolicy):
        return policy
    return policy.resized(config.all_hidden[index % len(config.all_hidden)])


def _started(policy: AbstractPolicy, config: Config) -> AbstractPolicy:
    """A policy as it starts."""
    if config.start == "drawn" or not isinstance(policy, MLPPolicy):
        return policy
    last = lambda policy: policy.layers[-1]
    return eqx.tree_at(last, policy, jax.tree.map(jnp.zeros_like, last(policy)))


def _widened(policy: AbstractPolicy, config: Config) -> AbstractPolicy:
    """Fills a policy of any size up to the widths that all have in the archive."""
    return policy.resized(config.hidden) if isinstance(policy, MLPPolicy) else policy
