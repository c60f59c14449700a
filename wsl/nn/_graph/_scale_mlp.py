"""MLPs that commute with rescaling, or do not see it."""

import math
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive
from wsl.nn._draw import constant, fan_in, normal, split
from wsl.nn._graph._ops import add
from wsl.nn._graph._scale_symmetry import is_scaled, is_signed, ScaleKind


def canonicalise(
    x: Float[Array, "*batch channels"], *, floor: float = 0.0
) -> Float[Array, "*batch channels"]:
    """`x / max(norm(x), floor)`, and 0 where `x` is 0, over the last axis.

    With no floor the result is the same for `x` and `q x`, `q > 0`, to rounding. Any
    such function but a constant jumps at 0, and its gradient grows as `1 / norm(x)`
    near it. At 0 itself value and gradient are defined to be 0, so nothing is ever
    divided by zero, however small a weight. With a floor, gradients are bounded by
    `1 / floor`, at the cost of the symmetry for vectors shorter than that.

    Source: Kalogeropoulos et al. 2024, canonicalisation for positive scaling; their
    code divides by `norm(x) + 1e-10`, which has no gradient at 0.

    Args:
        x: Vectors.
        floor: The shortest length to divide by.

    Returns:
        Vectors of length 1, or less below the floor.
    """
    # First by the largest entry, so that no square underflows or overflows. The result
    # does not depend on what `x` is divided by, so that passes no gradient.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    largest = jnp.maximum(largest, floor)
    is_zero = largest == 0
    x = x / jnp.where(is_zero, 1.0, largest)
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    if floor > 0:
        least = jnp.square(floor / largest)
        return x * jax.lax.rsqrt(jnp.maximum(square, least))
    return jnp.where(is_zero, 0.0, x * jax.lax.rsqrt(jnp.where(is_zero, 1.0, square)))


@final
class ScaleInvariantMLP(eqx.Module):
    """An MLP of several vectors that sees none of their multipliers.

    Every vector is first made invariant by itself. Against positive multipliers it is
    canonicalised, divided by its length. Against signs the first layer is symmetrised,
    `rho(x) + rho(-x)`. Against both, the one after the other. Then, with matrices
    `W, V, U` and offsets `b, c, d`,

        h_k = act(W_k x_k + b_k) + act(-W_k x_k + b_k)
        ScaleInv(x_1, x_2, ...) = U act(sum_k V_k h_k + c) + d

    where the term in `-W_k x_k` is there for signs only. Vectors with one and the same
    multiplier are best given as one, concatenated: their ratio is invariant.

    Source: Kalogeropoulos et al. 2024, ScaleInv.

    Attributes:
        kinds: For each vector, the kind of its multipliers.
        weights: For each vector, `W_k`.
        offsets: For each vector, `b_k`.
        mixing: For each vector, `V_k`.
        offset: `c`.
        last: `U`.
        last_offset: `d`.
        activation: `act`.
        floor: Of [`canonicalise`][wsl.nn.canonicalise].
    """

    kinds: tuple[ScaleKind, ...] = eqx.field(static=True)
    weights: tuple[Float[Array, "_ _"], ...]
    offsets: tuple[Float[Array, " _"], ...]
    mixing: tuple[Float[Array, "_ _"], ...]
    offset: Float[Array, " _"]
    last: Float[Array, "_ _"]
    last_offset: Float[Array, " _"]
    activation: Callable[[Array], Array] = eqx.field(static=True)
    floor: float = eqx.field(static=True)

    def __init__(
        self,
        inputs: Sequence[tuple[int, ScaleKind]],
        out_channels: int,
        hidden_channels: int,
        *,
        activation: Callable[[Array], Array] = jax.nn.silu,
        floor: float = 0.0,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            inputs: For each vector, its length and the kind of its multipliers.
            out_channels: Length of the result.
            hidden_channels: Width of the hidden layers.
            activation: Of the hidden layers.
            floor: Shortest length that vectors are divided by.
            key: Source of randomness.

        Raises:
            ValueError: If there are no inputs, a number is not positive, or the floor
                is negative.
        """
        check_positive(
            num_inputs=len(inputs),
            out_channels=out_channels,
            hidden_channels=hidden_channels,
        )
        if floor < 0:
            raise ValueError(f"`floor` must be 0 or more; got {floor}.")
        first, offset, second, last = split(key, 4)
        self.kinds = tuple(kind for _, kind in inputs)
        # Canonicalised vectors have length 1, others are taken to have entries of 1.
        gains = [math.sqrt(2 * (n if is_scaled(kind) else 1)) for n, kind in inputs]
        self.weights = tuple(
            fan_in(k, n, hidden_channels, gain)
            for k, (n, _), gain in zip(
                split(first, len(inputs)), inputs, gains, strict=True
            )
        )
        self.offsets = tuple(
            normal(k, (hidden_channels,), 0.1) for k in split(offset, len(inputs))
        )
        gain = math.sqrt(2 / len(inputs))
        self.mixing = tuple(
            fan_in(k, hidden_channels, hidden_channels, gain)
            for k in split(second, len(inputs))
        )
        self.offset = constant(0.0, hidden_channels)
        self.last = fan_in(last, hidden_channels, out_channels)
        self.last_offset = constant(0.0, out_channels)
        self.activation = activation
        self.floor = floor

    def __call__(
        self, *vectors: Float[Array, "..."], key: PRNGKeyArray | None = None
    ) -> Float[Array, "..."]:
        """Applies the MLP over the last axis.

        Args:
            *vectors: As many as there are inputs, with as many axes each; leading axes
                are broadcast against each other.
            key: Not used.

        Returns:
            Vectors of length `out_channels`.
        """
        hidden = []
        for i, (x, kind) in enumerate(zip(vectors, self.kinds, strict=True)):
            x = canonicalise(x, floor=self.floor) if is_scaled(kind) else x
            x = x @ self.weights[i]
            h = self.activation(add(x, self.offsets[i]))
            if is_signed(kind):
                h = h + self.activation(add(-x, self.offsets[i]))
            hidden.append(h @ self.mixing[i])
        h = self.activation(add(sum(hidden[1:], hidden[0]), self.offset))
        return add(h @ self.last, self.last_offset)


@final
class ScaleEquivariantMLP(eqx.Module):
    """A map of a vector that commutes with multipliers: `g(q x) = q g(x)`.

        ScaleEq(x; z) = (Gamma x) * ScaleInv(x, z)

    with a matrix `Gamma` and an entrywise product. `z` are further vectors with
    multipliers of their own, to which the result is invariant. It starts near
    `Gamma x`: the last offset of `ScaleInv` is 1 at first.

    Source: Kalogeropoulos et al. 2024, ScaleEq.

    Attributes:
        gamma: `(in_channels, out_channels)`.
        invariant: `ScaleInv`.
    """

    gamma: Float[Array, "_ _"]
    invariant: ScaleInvariantMLP

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        kind: ScaleKind,
        *,
        others: Sequence[tuple[int, ScaleKind]] = (),
        activation: Callable[[Array], Array] = jax.nn.silu,
        floor: float = 0.0,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            in_channels: Length of `x`.
            out_channels: Length of the result.
            hidden_channels: Width of the hidden layers.
            kind: Kind of the multipliers of `x`.
            others: For each vector of `z`, its length and kind.
            activation: Of the hidden layers.
            floor: Shortest length that vectors are divided by.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive or the floor is negative.
        """
        check_positive(in_channels=in_channels)
        gamma_key, invariant_key = split(key, 2)
        self.gamma = fan_in(gamma_key, in_channels, out_channels)
        invariant = ScaleInvariantMLP(
            [(in_channels, kind), *others],
            out_channels,
            hidden_channels,
            activation=activation,
            floor=floor,
            key=invariant_key,
        )
        self.invariant = eqx.tree_at(
            lambda mlp: mlp.last_offset, invariant, constant(1.0, out_channels)
        )

    def __call__(
        self,
        x: Float[Array, "..."],
        *others: Float[Array, "..."],
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Applies the map over the last axis.

        Args:
            x: Vectors.
            *others: The vectors `z`; leading axes are broadcast.
            key: Not used.

        Returns:
            Vectors with the multipliers of `x`.
        """
        return (x @ self.gamma) * self.invariant(x, *others)


@final
class RescaleEquivariant(eqx.Module):
    """Products of vectors, whose multipliers multiply: `g(p x, q y) = p q g(x, y)`.

        ReScaleEq(x, y, ...) = (Gamma_1 x) * (Gamma_2 y) * ...

    Source: Kalogeropoulos et al. 2024, ReScaleEq.

    Attributes:
        gammas: One matrix for each vector.
    """

    gammas: tuple[Float[Array, "_ _"], ...]

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, *, key: PRNGKeyArray
    ):
        """Draws the matrices.

        Args:
            in_channels: Length of each vector.
            out_channels: Length of the result.
            key: Source of randomness.

        Raises:
            ValueError: If there are no vectors or a number is not positive.
        """
        check_positive(num_vectors=len(in_channels), out_channels=out_channels)
        self.gammas = tuple(
            fan_in(k, n, out_channels)
            for k, n in zip(split(key, len(in_channels)), in_channels, strict=True)
        )

    def __call__(
        self, *vectors: Float[Array, "..."], key: PRNGKeyArray | None = None
    ) -> Float[Array, "..."]:
        """Applies the map over the last axis.

        Args:
            *vectors: As many as there are matrices, with as many axes each; leading
                axes are broadcast.
            key: Not used.

        Returns:
            Vectors with the product of all multipliers.
        """
        mixed = [x @ gamma for x, gamma in zip(vectors, self.gammas, strict=True)]
        return math.prod(mixed[1:], start=mixed[0])
