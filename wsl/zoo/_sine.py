"""The sine, vectorised."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


# pi in two parts: the first has so few bits that its product with a whole number below
# 2**15 is exact in single precision.
_PI_HIGH = 3.140625
_PI_LOW = math.pi - _PI_HIGH


@jax.custom_jvp
def sine(x: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    """Sine of each number, by a polynomial in single precision.

    XLA calls the C library for every sine on a CPU, one number at a time, which is most
    of what a SIREN costs; this runs on whole vector registers.

    Args:
        x: Angles, in radians. Up to 10,000 the result is within 1e-6 of the sine.

    Returns:
        Their sines. In another precision than single, those of `jax.numpy.sin`.
    """
    if x.dtype != jnp.float32:
        return jnp.sin(x)
    remainder, sign = _reduce(x)
    return sign * remainder * _taylor(jnp.square(remainder), 1, 7)


@jax.custom_jvp
def _cosine(x: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    if x.dtype != jnp.float32:
        return jnp.cos(x)
    remainder, sign = _reduce(x)
    return sign * _taylor(jnp.square(remainder), 0, 8)


sine.defjvp(lambda x, dx: (sine(*x), _cosine(*x) * dx[0]))
_cosine.defjvp(lambda x, dx: (_cosine(*x), -sine(*x) * dx[0]))


def _reduce(x: Array) -> tuple[Array, Array]:
    """The angle less the nearest multiple k of pi, and -1 to the power k."""
    k = jnp.round(x * (1 / math.pi))
    remainder = (x - k * _PI_HIGH) - k * _PI_LOW
    return remainder, 1 - 2 * jnp.abs(k - 2 * jnp.round(k / 2))


def _taylor(square: Array, start: int, num_terms: int) -> Array:
    """Sum of (-1)^i x^2i / (2i + start)! for i below `num_terms`."""
    total = jnp.zeros_like(square)
    for i in reversed(range(num_terms)):
        total = total * square + (-1) ** i / math.factorial(2 * i + start)
    return total
