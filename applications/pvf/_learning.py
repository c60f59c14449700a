"""One step of the critic towards λ-returns, and one step of θ up the critic's value."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from applications.pvf._frame import Frame
from applications.pvf.config import Config
from applications.search import Metrics
from applications.stores import Replay, Segment
from applications.values import (
    likelihood_ratio_terms,
    pathwise_terms,
    schedule,
    StepCritic,
    Terms,
    update_of,
    Visited,
)


class Actor(eqx.Module):
    """The policy, and what follows it.

    Attributes:
        weights: θ, for standardised observations if the settings say so.
        optimiser: Adam's moments.
        target: Its slow copy.
    """

    weights: Float[Array, " weights"]
    optimiser: optax.OptState
    target: Float[Array, " weights"]

    @classmethod
    def start(cls, weights: Float[Array, " weights"], config: Config) -> "Actor":
        """The policy before its first step."""
        return cls(weights, _policy_optimiser(config).init(weights), weights)


class Critic(eqx.Module):
    """The value function, and what follows it.

    Attributes:
        critics: The ensemble.
        optimiser: Adam's moments.
        target: Its slow copy, from which targets are made.
    """

    critics: StepCritic
    optimiser: optax.OptState
    target: StepCritic

    @classmethod
    def start(cls, critics: StepCritic, config: Config) -> "Critic":
        """The value function before its first step."""
        arrays = eqx.filter(critics, eqx.is_inexact_array)
        return cls(critics, optax.adam(config.critic_lr).init(arrays), critics)


def fit_critic(
    actor: Actor,
    critic: Critic,
    replay: Replay,
    frame: Frame,
    *,
    key: PRNGKeyArray,
) -> tuple[tuple[Actor, Critic], Metrics]:
    """Goes one step down the error of the λ-returns; slow copies follow.

    Args:
        actor: The policy.
        critic: The value function.
        replay: What is learned from.
        frame: How states, rewards and policies are shown.
        key: Source of randomness.

    Returns:
        Both as they are afterwards, and metrics.
    """
    config = frame.config
    sample_key, policy_key, target_key, noise_key = jr.split(key, 4)
    length = config.batch_steps or config.segment
    batch = replay.sample(config.batch_segments, length, key=sample_key)
    acting = _evaluated(actor, batch, frame, key=policy_key)
    shown = acting
    if config.theta_noise:
        noise = jr.normal(noise_key, acting.shape)
        shown = acting + config.theta_noise * frame.noise_scale * noise

    def targets_of(*of_one: Any) -> Array:
        segment, shown, acting, key = of_one
        return frame.targets(critic.target, segment, shown, acting, key=key)

    own_keys = jr.split(target_key, len(acting))
    targets = jax.vmap(targets_of)(batch, shown, acting, own_keys)
    arrays, rest = eqx.partition(critic.critics, eqx.is_inexact_array)

    def loss_of(arrays: Any) -> tuple[Array, Array]:
        critics = eqx.combine(arrays, rest)
        of_one = lambda segment, shown: frame.taken(critics, segment, shown)
        values = jax.vmap(of_one)(batch, shown)
        error = jnp.square(values - targets[:, None])
        valid = batch.valid[:, None]
        count = jnp.maximum(jnp.sum(valid), 1).astype(error.dtype)
        error = jnp.sum(jnp.where(valid, error, 0.0)) / count
        mean = jnp.mean(values, where=jnp.broadcast_to(valid, values.shape))
        return error, mean / frame.reward_scale

    (loss, mean), gradient = jax.value_and_grad(loss_of, has_aux=True)(arrays)
    optimiser = optax.adam(config.critic_lr)
    change, moments = update_of(optimiser, gradient, critic.optimiser)
    critics = eqx.combine(eqx.apply_updates(arrays, change), rest)
    target = _follow(critic.target, critics, config.target_rate)
    slow = _follow(actor.target, actor.weights, config.target_rate)
    actor = Actor(actor.weights, actor.optimiser, slow)
    metrics = {"critic_loss": loss, "q_mean": mean}
    return (actor, Critic(critics, moments, target)), metrics


def ascend(
    actor: Actor,
    critic: Critic,
    replay: Replay,
    frame: Frame,
    *,
    key: PRNGKeyArray,
) -> tuple[Actor, Metrics]:
    """Goes one step of θ up the mean value of visited states.

    Args:
        actor: The policy.
        critic: The value function.
        replay: Has the states.
        frame: How states, rewards and policies are shown.
        key: Source of randomness.

    Returns:
        The policy as it is afterwards, and metrics.
    """
    config = frame.config
    sample_key, key = jr.split(key)
    if config.policy_states is not None:
        batch = replay.sample(config.policy_states, 1, key=sample_key)
    else:
        length = config.batch_steps or config.segment
        batch = replay.sample(config.batch_segments, length, key=sample_key)
    terms = _terms(actor.weights, critic.critics, batch, frame, key=key)
    gradient = jnp.zeros_like(actor.weights)
    metrics = {}
    if terms.action is not None:
        gradient = gradient + terms.action
        metrics["action_term"] = jnp.linalg.norm(terms.action)
    if terms.theta is not None:
        weight = config.theta_term if frame.value.reads_actions else 1.0
        gradient = gradient + weight * terms.theta
        metrics["theta_term"] = jnp.linalg.norm(terms.theta)
    if terms.effective is not None:
        metrics["effective_sample_size"] = terms.effective
    change, moments = update_of(_policy_optimiser(config), -gradient, actor.optimiser)
    weights = eqx.apply_updates(actor.weights, change)
    return Actor(weights, moments, actor.target), metrics


def scan_modules(
    body: Callable[[Any, PRNGKeyArray], tuple[Any, Metrics]],
    carry: Any,
    keys: Key[Array, " turns"],
) -> tuple[Any, Metrics]:
    """`jax.lax.scan` whose carry may have leaves that are no arrays, which stay.

    Args:
        body: From carry and key to the carry as it is afterwards, and metrics.
        carry: What it starts from.
        keys: One a turn.

    Returns:
        The carry at the end, and the metrics of all turns.
    """
    arrays, rest = eqx.partition(carry, eqx.is_array)

    def turn(arrays: Any, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        carry, metrics = body(eqx.combine(arrays, rest), key)
        return eqx.filter(carry, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(turn, arrays, keys)
    return eqx.combine(arrays, rest), metrics


def _evaluated(
    actor: Actor, batch: Segment, frame: Frame, *, key: PRNGKeyArray
) -> Float[Array, "segments weights"]:
    """Which policy's value each segment tells of, for states as they are shown.

    The one that acted, as it was; one around the present one, with `--relabel`; or the
    present one, where the critic does not read policies.
    """
    config = frame.config
    if batch.weights is not None:
        return frame.shown(batch.weights)
    weights = actor.target if config.target_policy else actor.weights
    shape = (config.batch_segments, weights.size)
    policies = jnp.broadcast_to(weights, shape)
    if config.relabel:
        policies = policies + frame.noise_scale * jr.normal(key, shape)
    return policies


def _terms(
    weights: Float[Array, " weights"],
    critics: StepCritic,
    batch: Segment,
    frame: Frame,
    *,
    key: PRNGKeyArray,
) -> Terms:
    """The terms of the gradient, as the settings want it estimated."""
    config = frame.config
    parts = (batch.observation, batch.drawn, batch.log_prob, batch.valid)
    observations, *rest = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), parts
    )
    visited = Visited(frame.states(observations), *rest)
    to_policy: Any = frame.view.to_policy
    shared = (frame.value, critics, to_policy, frame.read, weights, visited)
    if config.policy_gradient == "likelihood-ratio":
        return likelihood_ratio_terms(
            *shared,
            reads_policies=config.reads_policies,
            importance=config.importance,
            largest=config.importance_clip,
            baseline=config.baseline,
        )
    return pathwise_terms(*shared, reads_policies=config.reads_policies, key=key)


def _policy_optimiser(config: Config) -> optax.GradientTransformation:
    rate = schedule(
        config.policy_lr,
        config.policy_lr_schedule,
        config.all_rounds * config.updates,
    )
    return optax.adam(rate)


def _follow(slow: Any, fast: Any, rate: float) -> Any:
    """Moves a slow copy: Polyak's average."""
    return jax.tree.map(
        lambda old, new: old + rate * (new - old) if eqx.is_inexact_array(old) else new,
        slow,
        fast,
    )
