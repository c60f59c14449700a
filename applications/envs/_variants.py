"""Variants of a task: the same spaces, and another value of a physical parameter."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Float

from applications.envs._facts import Parameter
from applications.envs._outcome_task import OutcomeTask, split_outcome
from applications.envs._task import AbstractEnvironment, AbstractTask


@runtime_checkable
class HasVariants(Protocol):
    """A task in JAX with variants: its facts have the parameter that they differ in."""

    def variant(self, value: float | Float[Array, ""]) -> AbstractTask:
        """The variant of a value, of the same class and the same spaces.

        Args:
            value: The parameter's value, which may be traced.

        Returns:
            The task.
        """
        ...


def parameter_of(task: AbstractEnvironment) -> Parameter | None:
    """What the variants of a task differ in.

    Args:
        task: The task.

    Returns:
        The parameter; None where there are no variants, or what steps the task cannot
        have another one for each policy.
    """
    bare, _ = split_outcome(task)
    varies = isinstance(bare, AbstractTask) and isinstance(bare, HasVariants)
    return bare.facts.parameter if varies else None


def variant_of(
    task: AbstractEnvironment, value: float | Float[Array, ""]
) -> AbstractEnvironment:
    """The variant of a task.

    Args:
        task: The task, with whatever outcome.
        value: The value of its parameter.

    Returns:
        The variant, with the same outcome.

    Raises:
        ValueError: If the task has no variants, or a number that is no array is not in
            the parameter's range.
    """
    parameter = parameter_of(task)
    if parameter is None:
        raise ValueError(
            "This task has no variants: it has no method `variant`, or its facts name "
            "no parameter."
        )
    if not eqx.is_array(value) and not parameter.low <= value <= parameter.high:
        raise ValueError(
            f"The variant's {parameter.name} is {value}; it goes from {parameter.low:g}"
            f" to {parameter.high:g}."
        )
    bare, outcome = split_outcome(task)
    varied: Any = bare
    varied = varied.variant(value)
    if outcome is None:
        return varied
    assert isinstance(task, OutcomeTask)
    return OutcomeTask(varied, outcome, task.name)
