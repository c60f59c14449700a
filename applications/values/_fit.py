"""Fitting V to records of policies and their returns."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from applications.stores import Archive, Record
from applications.values._targets import RankTargets, StandardTargets


MakePolicy: TypeAlias = Callable[[Float[Array, " weights"]], PyTree]
Model = TypeVar("Model", bound=PyTree)
TargetKind: TypeAlias = Literal["standard", "rank"]
Targets: TypeAlias = StandardTargets | RankTargets


@runtime_checkable
class Value(Protocol):
    """V(θ), or V(s, θ): called with a policy and, where it has conditions, a state."""

    @property
    def condition_sizes(self) -> tuple[int, ...]:
        """Length of each condition; none for V(θ)."""
        ...

    def __call__(self, policy: PyTree, /, *conditions: Array) -> Any:
        """The value, of shape `()`, in units of the targets."""
        ...


FittedValue = TypeVar("FittedValue", bound=Value)


def predict(
    value: Value, make_policy: MakePolicy, records: Record
) -> Float[Array, "batch labels"]:
    """Values of the policies in records.

    Args:
        value: V(θ) or V(s, θ).
        make_policy: From weights to a policy.
        records: A batch of records.

    Returns:
        One value a policy, or one for each of its start states, in units of the
        targets; in the order of `labels`.
    """

    def of_policy(weights, starts):
        policy = make_policy(weights)
        if value.condition_sizes:
            return jax.vmap(lambda start: value(policy, start))(starts)
        return value(policy)[None]

    return jax.vmap(of_policy)(records.weights, records.starts)


def mean_values(
    value: Value,
    make_policy: MakePolicy,
    population: Float[Array, "policies weights"],
    starts: Float[Array, "starts observation"],
    *,
    deviation: bool = False,
) -> Float[Array, " policies"]:
    """The value of each policy of a population.

    Args:
        value: V(θ) or V(s, θ).
        make_policy: From weights to a policy.
        population: Weights, one policy a row.
        starts: Start states, over which V(s, θ) is averaged.
        deviation: Whether V's deviation is wanted and not V, of those that have one.

    Returns:
        One number a policy, in units of the targets.
    """
    either: Any = value
    say = either.deviation if deviation else either

    def of_policy(weights):
        policy = make_policy(weights)
        if not value.condition_sizes:
            return say(policy)
        return jnp.mean(jax.vmap(lambda start: say(policy, start))(starts))

    return jax.vmap(of_policy)(population)


def labels(
    value: Value, records: Record
) -> tuple[Float[Array, "batch labels"], Bool[Array, "batch labels"]]:
    """What V is to say of the policies in records.

    Args:
        value: V(θ) or V(s, θ).
        records: A batch of records.

    Returns:
        For V(θ) each policy's mean return over its valid episodes, for V(s, θ) the
        return of each episode; and which of these are there.
    """
    if value.condition_sizes:
        return records.returns, records.valid
    any_valid = jnp.any(records.valid, axis=1, keepdims=True)
    mean = jnp.mean(records.returns, axis=1, keepdims=True, where=records.valid)
    return jnp.where(any_valid, mean, jnp.zeros_like(mean)), any_valid


def targets_of(kind: TargetKind, value: Value, archive: Archive[Record]) -> Targets:
    """Makes targets of the returns in an archive.

    Args:
        kind: Whether V learns standardised returns or their ranks.
        value: V(θ) or V(s, θ).
        archive: Policies and their returns.

    Returns:
        The targets.
    """
    returns, valid = labels(value, archive.entries)
    make_targets = StandardTargets if kind == "standard" else RankTargets
    return make_targets(returns.ravel(), (valid & archive.filled[:, None]).ravel())


def fit(
    value: FittedValue,
    optimiser: optax.GradientTransformation,
    optimiser_state: optax.OptState,
    archive: Archive[Record],
    make_policy: MakePolicy,
    *,
    kind: TargetKind,
    batch_size: int,
    updates: int,
    key: PRNGKeyArray,
) -> tuple[FittedValue, optax.OptState, Targets, Float[Array, ""]]:
    """Gradient steps on the mean squared error over an archive.

    Args:
        value: V(θ) or V(s, θ).
        optimiser: Of its parameters.
        optimiser_state: The optimiser's state.
        archive: Policies and their returns.
        make_policy: From weights to a policy.
        kind: Whether V learns standardised returns or their ranks.
        batch_size: Records in a step.
        updates: How many steps.
        key: Source of randomness.

    Returns:
        The value function, the optimiser's state, the targets, whose inverse takes
        values back to returns, and the mean loss over the steps.
    """
    targets = targets_of(kind, value, archive)

    def loss_of(value, key):
        records = archive.sample(batch_size, key=key)
        returns, valid = labels(value, records)
        error = predict(value, make_policy, records) - targets(returns)
        return mean_of_valid(error**2, valid)

    value, optimiser_state, loss = descend(
        loss_of, value, optimiser, optimiser_state, updates=updates, key=key
    )
    return value, optimiser_state, targets, loss


def mean_of_valid(
    losses: Float[Array, "*shape"], valid: Bool[Array, "*shape"]
) -> Float[Array, ""]:
    """The mean of those losses that count; 0 where none does."""
    count = jnp.maximum(jnp.sum(valid), 1).astype(losses.dtype)
    return jnp.sum(losses, where=valid) / count


def descend(
    loss_of: Callable[[Model, PRNGKeyArray], Float[Array, ""]],
    model: Model,
    optimiser: optax.GradientTransformation,
    optimiser_state: optax.OptState,
    *,
    updates: int,
    key: PRNGKeyArray,
) -> tuple[Model, optax.OptState, Float[Array, ""]]:
    """Gradient steps down a loss.

    Args:
        loss_of: The loss, from a model and a key that draws its batch.
        model: The pytree whose floating-point arrays change.
        optimiser: Of these arrays.
        optimiser_state: The optimiser's state.
        updates: How many steps.
        key: Source of randomness.

    Returns:
        The model, the optimiser's state and the mean loss over the steps.
    """
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)

    def update(carry, key):
        arrays, state = carry
        loss, gradient = jax.value_and_grad(
            lambda arrays: loss_of(eqx.combine(arrays, rest), key)
        )(arrays)
        change, state = update_of(optimiser, gradient, state)
        return (eqx.apply_updates(arrays, change), state), loss

    (arrays, optimiser_state), losses = jax.lax.scan(
        update, (arrays, optimiser_state), jr.split(key, updates)
    )
    return eqx.combine(arrays, rest), optimiser_state, jnp.mean(losses)


def update_of(
    optimiser: optax.GradientTransformation, gradient: PyTree, state: optax.OptState
) -> tuple[PyTree, optax.OptState]:
    """An optimiser's step.

    Optax multiplies counts and rates, which strict dtype promotion forbids.
    """
    with jax.numpy_dtype_promotion("standard"):
        return optimiser.update(gradient, state)
