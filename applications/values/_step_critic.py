"""Values of single steps, V(s, θ) and Q(s, a, θ), and ensembles of them."""

from typing import Any, final, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl.encoders import AbstractEncoder


# Of the first weights on what is read of a policy: with ordinary ones the value's
# gradient in θ would be noise before anything is learned.
_POLICY_GAIN = 0.02


@runtime_checkable
class AnyStepCritic(Protocol):
    """What is asked of a critic: a code of a policy, and values of states with it."""

    def code(self, policy: PyTree) -> Array:
        """What it keeps of a policy."""
        ...

    def value(self, code: Array, conditions: Array) -> Array:
        """The value of one state, or of one action in it."""
        ...


@final
class StepCritic(eqx.Module):
    """V(s, θ), Q(s, a, θ), or V(s) and Q(s, a): a perceptron on conditions and a code.

    The first layer is split: what it makes of the policy, its code, is computed once
    for all states, so that a value costs the same whatever the size of θ.

    Attributes:
        encoder: From a policy to a vector; None for values without θ.
        of_policy: From that vector to the first hidden layer; None likewise.
        first: From the conditions to the first hidden layer.
        hidden: The other hidden layers.
        norms: Layer normalisation before each activation; empty for none.
        last: From the last hidden layer to the value.
    """

    encoder: AbstractEncoder | None
    of_policy: eqx.nn.Linear | None
    first: eqx.nn.Linear
    hidden: tuple[eqx.nn.Linear, ...]
    norms: tuple[eqx.nn.LayerNorm, ...]
    last: eqx.nn.Linear

    def __init__(
        self,
        encoder: AbstractEncoder | None,
        condition_size: int,
        width: int,
        depth: int,
        *,
        normalise: bool = False,
        key: PRNGKeyArray,
    ):
        """Draws a critic.

        Args:
            encoder: From a policy to a vector; None for values without θ.
            condition_size: Numbers of a state, and of an action if it is read.
            width: Width of the hidden layers.
            depth: How many, one at least.
            normalise: Whether hidden layers are normalised.
            key: Source of randomness.
        """
        policy_key, first_key, last_key, *keys = jr.split(key, depth + 2)
        self.encoder = encoder
        self.of_policy = None
        if encoder is not None:
            size = encoder.num_features
            drawn = eqx.nn.Linear(size, width, use_bias=False, key=policy_key)
            weight = jr.normal(policy_key, drawn.weight.shape)
            weight = weight * (_POLICY_GAIN / size**0.5)
            self.of_policy = eqx.tree_at(lambda layer: layer.weight, drawn, weight)
        self.first = eqx.nn.Linear(condition_size, width, key=first_key)
        self.hidden = tuple(eqx.nn.Linear(width, width, key=key) for key in keys)
        norms = depth if normalise else 0
        self.norms = tuple(eqx.nn.LayerNorm(width) for _ in range(norms))
        self.last = eqx.nn.Linear(width, "scalar", key=last_key)

    def code(self, policy: PyTree) -> Float[Array, " code"]:
        """What the first layer makes of a policy; nothing without θ.

        Args:
            policy: The policy.

        Returns:
            As many numbers as a hidden layer has units, or none.
        """
        if self.encoder is None or self.of_policy is None:
            return jnp.zeros(0)
        return self.of_policy(self.encoder(policy))

    def value(
        self, code: Float[Array, " code"], conditions: Float[Array, " conditions"]
    ) -> Float[Array, ""]:
        """The value of one state, or of one action in it.

        Args:
            code: From `code`.
            conditions: A state, and after it what is read of an action.

        Returns:
            The value, in units of the targets.
        """
        x = self.first(conditions)
        x = x + code if code.size else x
        for i, layer in enumerate((*self.hidden, self.last)):
            x = jax.nn.silu(self.norms[i](x) if self.norms else x)
            x = layer(x)
        return x


def draw_ensemble(
    encoder: Any,
    condition_size: int,
    width: int,
    depth: int,
    *,
    count: int,
    normalise: bool,
    key: PRNGKeyArray,
) -> StepCritic:
    """Draws several critics.

    Args:
        encoder: From a key to an encoder, or None.
        condition_size: As of `StepCritic`.
        width: As of `StepCritic`.
        depth: As of `StepCritic`.
        count: How many critics.
        normalise: As of `StepCritic`.
        key: Source of randomness.

    Returns:
        The critics, stacked leaf by leaf.
    """

    @eqx.filter_vmap
    def draw(key: PRNGKeyArray) -> StepCritic:
        encoder_key, head_key = jr.split(key)
        return StepCritic(
            None if encoder is None else encoder(encoder_key),
            condition_size,
            width,
            depth,
            normalise=normalise,
            key=head_key,
        )

    return draw(jr.split(key, count))


def rescaled(critics: StepCritic, factor: Float[Array, ""]) -> StepCritic:
    """Multiplies all values by a factor, when what they are in units of changes.

    Source: van Hasselt et al. (2016), "Learning values across many orders of
    magnitude", equation 3.

    Args:
        critics: A critic, or an ensemble.
        factor: The factor.

    Returns:
        Critics that say so many times what these do, of the same states and policies.
    """
    where: Any = lambda critics: (critics.last.weight, critics.last.bias)
    weight, bias = where(critics)
    return eqx.tree_at(where, critics, (factor * weight, factor * bias))


def values_of(
    critics: AnyStepCritic,
    policy: PyTree,
    conditions: Float[Array, "*steps conditions"],
) -> Float[Array, "critics ..."]:
    """What each critic of an ensemble says of states, or actions in them.

    Args:
        critics: The ensemble.
        policy: One policy, which each critic reads once.
        conditions: States, with actions after them.

    Returns:
        Values.
    """

    def of_one(critic: AnyStepCritic) -> Float[Array, "*steps"]:
        code, value = critic.code(policy), critic.value
        of = lambda conditions: value(code, conditions)
        for _ in conditions.shape[:-1]:
            of = jax.vmap(of)
        return of(conditions)

    return eqx.filter_vmap(of_one)(critics)
