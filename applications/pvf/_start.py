"""What a run starts with: policy, critics, and a replay without segments."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.policies import (
    AbstractPolicy,
    FlatView,
    make_policy,
    MLPPolicy,
    StochasticPolicy,
)
from applications.pvf._frame import read_policy
from applications.pvf.config import Config
from applications.stores import Replay, Segment
from applications.values import draw_ensemble, make_encoder, StepCritic, StepValue


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


def draw_critics(
    task: AbstractEnvironment,
    config: Config,
    view: FlatView[AbstractPolicy],
    value: StepValue,
    *,
    key: PRNGKeyArray,
) -> StepCritic:
    """Draws the critics.

    Args:
        task: What policies act in.
        config: What the critics are.
        view: From vectors θ to policies.
        value: How they are asked.
        key: Source of randomness.

    Returns:
        The ensemble.
    """
    size = task.observation_size
    if value.reads_actions:
        size += task.action_space.output_size
    encoder: Any = None
    if config.reads_policies:
        like = read_policy(config, view.like)
        encoder = lambda key: make_encoder(
            config.representation, task, like, config.encoder_options, key=key
        )
    return draw_ensemble(
        encoder,
        size,
        config.critic_width,
        config.critic_depth,
        count=config.ensemble,
        normalise=config.critic_norm,
        key=key,
    )


def empty_replay(task: AbstractEnvironment, config: Config, weights: int) -> Replay:
    """Makes a replay without segments.

    Args:
        task: What policies act in.
        config: How long it is, and what is kept.
        weights: Weights of a policy.

    Returns:
        The replay.
    """
    batch = (config.num_envs, config.segment)
    no, zeros = jnp.zeros(batch, bool), jnp.zeros(batch)
    seen = jnp.zeros((*batch, task.observation_size))
    like = Segment(
        observation=seen,
        drawn=jnp.zeros((*batch, task.action_space.output_size)),
        log_prob=zeros if config.policy_kind == "stochastic" else None,
        reward=zeros,
        next_observation=seen,
        terminated=no,
        truncated=no,
        valid=no,
        weights=(
            jnp.zeros((config.num_envs, weights)) if config.keeps_policies else None
        ),
    )
    return Replay.empty(like, config.replay // (config.num_envs * config.segment))
