"""What actions are: vectors in a box, or one of finitely many."""

import dataclasses
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Actions are vectors inside a box.

    Attributes:
        low: Lower bound of every component.
        high: Upper bound of every component.
        levels: How many values a component can have, evenly from bound to bound; any
            between them unless given.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    levels: int | None = None

    def __post_init__(self):
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"levels is {self.levels}; there must be at least 2.")
        if len(self.low) != len(self.high):
            raise ValueError(
                f"low has {len(self.low)} components and high {len(self.high)}; "
                "they must be equally many."
            )

    @property
    def output_size(self) -> int:
        """How many numbers a policy for this kind of action puts out."""
        return len(self.low)

    def select(self, output: Float[Array, " outputs"]) -> Float[Array, " outputs"]:
        """The action for a policy's output: itself, or the nearest of the levels."""
        if self.levels is None:
            return output
        low = jnp.asarray(self.low, output.dtype)
        high = jnp.asarray(self.high, output.dtype)
        parts = self.levels - 1
        share = (self.clip(output) - low) / (high - low)
        return low + (high - low) * (jnp.round(share * parts) / parts)

    def clip(self, action: Float[Array, " action"]) -> Float[Array, " action"]:
        """The nearest action inside the box."""
        low = jnp.asarray(self.low, action.dtype)
        return jnp.clip(action, low, jnp.asarray(self.high, action.dtype))


@dataclasses.dataclass(frozen=True)
class Discrete:
    """One of finitely many actions.

    Attributes:
        count: How many there are.
    """

    count: int

    @property
    def output_size(self) -> int:
        """How many numbers a policy for this kind of action puts out."""
        return self.count

    def select(self, output: Float[Array, " outputs"]) -> Int[Array, ""]:
        """The action for a policy's output: the index of the largest entry."""
        return jnp.argmax(output).astype(jnp.int32)


ActionSpace: TypeAlias = Continuous | Discrete
