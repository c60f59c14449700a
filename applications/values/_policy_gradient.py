"""The gradient of a value of single steps in the weights of a policy, term by term."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.policies import AbstractPolicy
from applications.values._step_critic import AnyStepCritic, values_of
from applications.values._step_values import StepValue


Importance: TypeAlias = Literal["clip", "self-normalised", "none"]
ToPolicy: TypeAlias = Callable[[Float[Array, " weights"]], AbstractPolicy]


class Visited(NamedTuple):
    """States that were visited, and what was done there.

    Attributes:
        states: As critics and policies are shown them.
        drawn: What stochastic policies drew.
        log_prob: Logarithm of its density, by those that drew it.
        valid: Which of them count.
    """

    states: Float[Array, "visits observation"]
    drawn: Float[Array, "visits outputs"]
    log_prob: Float[Array, " visits"] | None
    valid: Bool[Array, " visits"]


class Terms(NamedTuple):
    """The two terms of a gradient that points up.

    Attributes:
        action: By way of the actions; None for V(s, θ).
        theta: In the place of θ; None for values without.
        effective: Effective share of the sample, where likelihood ratios are weighed.
    """

    action: Float[Array, " weights"] | None
    theta: Float[Array, " weights"] | None
    effective: Float[Array, ""] | None = None


def pathwise_terms(
    value: StepValue,
    critics: AnyStepCritic,
    to_policy: ToPolicy,
    read: Callable[..., Any],
    weights: Float[Array, " weights"],
    visited: Visited,
    *,
    reads_policies: bool,
    key: PRNGKeyArray,
) -> Terms:
    """The gradient through actions that the policy would take.

    Of the mean over visited states of V(s, θ), or of Q(s, a, θ) at a = π_θ(s):

        ∇_a Q ∇_θ π_θ(s) + ∇_θ Q.

    Of stochastic policies a is drawn, with its gradient; of discrete ones it is the
    mean over actions. Classical actor-critics leave the second term out.

    Source: Faccio et al. (2021), deterministic and stochastic PAVF; Silver et al.
    (2014) for the first term.

    Args:
        value: How critics are asked.
        critics: An ensemble, of whose values the mean is taken.
        to_policy: From weights to the policy.
        read: From weights to what critics are shown of it.
        weights: θ.
        visited: States; what was done there does not matter.
        reads_policies: Whether the critics read θ.
        key: Draws actions.

    Returns:
        The terms.
    """

    def objective(shown: Any, acting: Any) -> Float[Array, ""]:
        values = value.of_policy(critics, shown, acting, visited.states, key=key)
        return _mean(jnp.mean(values, axis=0), visited.valid)

    action = theta = None
    if value.reads_actions:
        action = jax.grad(lambda w: objective(read(weights), to_policy(w)))(weights)
    if reads_policies:
        theta = jax.grad(lambda w: objective(read(w), to_policy(weights)))(weights)
    return Terms(action, theta)


def likelihood_ratio_terms(
    value: StepValue,
    critics: AnyStepCritic,
    to_policy: Callable[..., Any],
    read: Callable[..., Any],
    weights: Float[Array, " weights"],
    visited: Visited,
    *,
    reads_policies: bool,
    importance: Importance,
    largest: float,
    baseline: bool,
) -> Terms:
    """The gradient that weighs the actions that were taken.

    With ρ = π_θ(a|s) / π_b(a|s), the mean over visited states and actions of

        ρ (Q(s, a, θ) ∇_θ log π_θ(a|s) + ∇_θ Q(s, a, θ)).

    Source: Faccio et al. (2021), stochastic PAVF; Degris, White and Sutton (2012) for
    the first term. A baseline in it, the value of the policy without noise, is of ours.

    Args:
        value: How critics are asked.
        critics: An ensemble, of whose values the mean is taken.
        to_policy: From weights to the policy, a `StochasticPolicy`.
        read: From weights to what critics are shown of it.
        weights: θ.
        visited: States and actions.
        reads_policies: Whether the critics read θ.
        importance: Whether ratios are clipped, divided by their mean, or left out.
        largest: Where they are clipped.
        baseline: Whether there is one.

    Returns:
        The terms, and (Σ ρ)² / (n Σ ρ²).
    """
    fixed = to_policy(weights)
    conditions = value.conditions(
        visited.states, visited.drawn, before_tanh=fixed.log_std.size > 0
    )
    assert visited.log_prob is not None

    def log_prob(policy: Any) -> Float[Array, " visits"]:
        return jax.vmap(policy.log_prob)(visited.states, visited.drawn)

    def values(weights: Array, conditions: Array) -> Float[Array, " visits"]:
        return jnp.mean(values_of(critics, read(weights), conditions), axis=0)

    ratio = jnp.exp(log_prob(fixed) - visited.log_prob)
    ratio = jnp.where(visited.valid, ratio, 0.0)
    weight = _importance_weights(ratio, visited.valid, importance, largest)
    advantage = values(weights, conditions)
    if baseline:
        shape = (*visited.drawn.shape[:-1], -1)
        calm = jax.vmap(_without_noise(fixed))(visited.states).reshape(shape)
        at = jnp.concatenate([visited.states, calm], axis=-1)
        advantage = advantage - values(weights, at)
    score = lambda w: _mean(weight * advantage * log_prob(to_policy(w)), visited.valid)
    slope = lambda w: _mean(weight * values(w, conditions), visited.valid)
    theta = jax.grad(slope)(weights) if reads_policies else None
    count = jnp.maximum(jnp.sum(visited.valid), 1).astype(ratio.dtype)
    squares = jnp.maximum(jnp.sum(jnp.square(ratio)), 1e-30)
    effective = jnp.square(jnp.sum(ratio)) / (count * squares)
    return Terms(jax.grad(score)(weights), theta, effective)


def _without_noise(policy: Any) -> Callable[[Array], Array]:
    """What is read of a policy's action without noise; of discrete ones, their chances.

    The value is not linear in these, but any function of the state is a baseline.
    """
    if policy.log_std.size:
        return lambda state: jnp.tanh(policy.mean.unbounded(state))
    return lambda state: jax.nn.softmax(policy.mean.unbounded(state))


def _importance_weights(
    ratio: Float[Array, " visits"],
    valid: Bool[Array, " visits"],
    importance: Importance,
    largest: float,
) -> Float[Array, " visits"]:
    match importance:
        case "none":
            return jnp.ones_like(ratio)
        case "clip":
            return jnp.minimum(ratio, largest)
        case "self-normalised":
            mean = _mean(ratio, valid)
            return ratio / jnp.where(mean > 0, mean, 1.0)


def _mean(x: Float[Array, " visits"], valid: Bool[Array, " visits"]) -> Array:
    count = jnp.maximum(jnp.sum(valid), 1).astype(x.dtype)
    return jnp.sum(jnp.where(valid, x, 0.0)) / count
