"""Conditions: numbers of a command that are given and not achieved.

A policy under a condition is put together with its number: a row of the population is
its weights and, last, the number.
"""

import abc
import dataclasses
from typing import Any, final

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from applications.envs import AbstractEnvironment, parameter_of
from applications.policies import (
    AbstractNumbered,
    AbstractPolicy,
    InVariant,
    MLPPolicy,
)
from applications.settings import UserError


# Parts of the range: policies are compared with those of the same part.
PARTS = 8
# Multiples of it are far from each other, without their whole part.
_GOLDEN = 0.618034


@dataclasses.dataclass(frozen=True)
class AbstractCondition(abc.ABC):
    """A number that a policy is given beside what it is to achieve.

    Attributes:
        name: What it is.
        low: The least one.
        high: The largest one.
        own: That of a run's own policy.
        whole: Whether there are whole numbers alone.
    """

    name: str
    low: float
    high: float
    own: float
    whole: bool

    @abc.abstractmethod
    def place(self, policy: Any, number: Float[Array, ""]) -> Any:
        """A policy that acts under the condition; its `policy` is what is acted by."""

    @abc.abstractmethod
    def finished(self, policy: Any, number: float) -> AbstractPolicy:
        """Of a policy under the condition, what a policy file has."""

    @abc.abstractmethod
    def variant(self, number: float) -> float | None:
        """The variant of the task that a policy file names; None for the task's own."""

    @abc.abstractmethod
    def describe(self, number: float) -> str:
        """A sentence on policies with that number."""

    def numbers(self, shares: Float[Array, " count"]) -> Float[Array, " count"]:
        """The numbers at shares of the range, from 0 to below 1."""
        if self.whole:
            return self.low + jnp.floor(shares * (self.high - self.low + 1))
        return self.low + shares * (self.high - self.low)

    def evenly(self, count: int) -> Float[Array, " count"]:
        """Numbers from end to end of the range."""
        numbers = jnp.linspace(self.low, self.high, count)
        return jnp.round(numbers) if self.whole else numbers

    def apart(self, count: int) -> Float[Array, " count"]:
        """Numbers that are far from those beside them; the last one is the own."""
        shares = _GOLDEN * jnp.arange(count, dtype=jnp.float32) % 1.0
        return self.numbers(shares).at[-1].set(self.own)

    def in_pairs(self, count: int, *, key: PRNGKeyArray) -> Float[Array, " count"]:
        """Numbers evenly over the range in any order, two and two the same."""
        pairs = -(-count // 2)
        order_key, share_key = jr.split(key)
        places = jr.permutation(order_key, jnp.arange(pairs, dtype=jnp.float32))
        shares = (places + jr.uniform(share_key, (pairs,))) / pairs
        return jnp.repeat(self.numbers(shares), 2)[:count]

    def part(self, numbers: Float[Array, "*batch"]) -> Int[Array, "*batch"]:
        """In which of the parts of the range numbers are."""
        shares = (numbers - self.low) / (self.high - self.low)
        return jnp.clip((PARTS * shares).astype(jnp.int32), 0, PARTS - 1)

    def scaled(self, number: Float[Array, ""]) -> Float[Array, " 1"]:
        """The number as a network reads it: -1 and 1 are the ends of the range."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return (number[None] - middle) / half

    def check(self, number: float) -> None:
        """Refuses a number that there is not.

        Args:
            number: The number.

        Raises:
            UserError: With the range.
        """
        if self.low <= number <= self.high and (not self.whole or number % 1 == 0):
            return
        whole = " in whole numbers" if self.whole else ""
        raise UserError(
            f"--command has a {self.name} of {number:g}; it goes from {self.low:g} to "
            f"{self.high:g}{whole}."
        )


@final
class SizedPolicy(AbstractNumbered):
    """A perceptron of which only the first hidden units are in use.

    Attributes:
        policy: The perceptron. Weights to and from its other units are 0.
        number: How many units of each hidden layer are in use.
    """

    policy: AbstractPolicy
    number: Float[Array, ""]

    def __init__(self, policy: AbstractPolicy, number: Float[Array, ""]):
        """Puts them together.

        Args:
            policy: The perceptron, with weights of 0 to and from its other units.
            number: How many units of each hidden layer are in use.
        """
        self.policy = policy
        self.number = number


@final
@dataclasses.dataclass(frozen=True)
class SizeCondition(AbstractCondition):
    """How many units of each hidden layer are in use."""

    def place(self, policy: MLPPolicy, number: Float[Array, ""]) -> SizedPolicy:
        """The perceptron with only so many units in use, as of `MLPPolicy.limited`."""
        return SizedPolicy(policy.limited(number), number)

    def finished(self, policy: SizedPolicy, number: float) -> AbstractPolicy:
        """A perceptron that has no other units."""
        whole: Any = policy.policy
        widths = [layer.out_features for layer in whole.layers[:-1]]
        return whole.resized(tuple(min(width, round(number)) for width in widths))

    def variant(self, number: float) -> None:
        """The task's own: only the policy is another one."""

    def describe(self, number: float) -> str:
        units = f"{number:g} unit{'s' * (number != 1)}"
        return f"It has {units} in each hidden layer."


@final
@dataclasses.dataclass(frozen=True)
class VariantCondition(AbstractCondition):
    """The value of the task's parameter."""

    def place(self, policy: AbstractPolicy, number: Float[Array, ""]) -> InVariant:
        """The policy in a variant of the task."""
        return InVariant(policy, number)

    def finished(self, policy: InVariant, number: float) -> AbstractPolicy:
        """The policy itself: the file says in which variant."""
        return policy.policy

    def variant(self, number: float) -> float:
        """The one with this value of the parameter."""
        return number

    def describe(self, number: float) -> str:
        return f"It is for the variant with a {self.name} of {number:g}."


def size_condition(policy: str, hidden: tuple[int, ...]) -> SizeCondition:
    """The sizes of perceptrons.

    Args:
        policy: The name of what policies are.
        hidden: The widths of their hidden layers.

    Returns:
        The condition: from one unit to the width of the widest layer.

    Raises:
        UserError: If policies are no perceptrons, or have no units to leave out.
    """
    if policy != "mlp":
        raise UserError(
            "--command-kind return-size is for perceptrons: drop it or --policy."
        )
    most = max(hidden, default=1)
    if most == 1:
        raise UserError(
            "--command-kind return-size needs units to leave out: give --hidden widths "
            "above 1."
        )
    return SizeCondition("size", 1.0, float(most), float(most), True)


def variant_condition(task: AbstractEnvironment) -> VariantCondition:
    """The variants of a task.

    Args:
        task: The task.

    Returns:
        The condition, by the parameter of its facts.

    Raises:
        UserError: If the task has no variants.
    """
    parameter = parameter_of(task)
    if parameter is None:
        raise UserError(
            "--command-kind return-variant is not for this task, which has no variants:"
            " it is not stepped in JAX, or its facts name no parameter."
        )
    low, high, own = parameter.low, parameter.high, parameter.own
    return VariantCondition(parameter.name, low, high, own, False)
