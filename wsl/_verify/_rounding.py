"""How far rounding moves a function's outputs, measured on the function itself."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from wsl._space import WeightSpace


def with_noise(
    arrays: Sequence[np.ndarray], noise: float, random: np.random.Generator
) -> list[np.ndarray]:
    """Adds normal noise, in units of each array's root mean square.

    The unit of an array of zeros is the mean of the others', or 1 if all are zero.
    """
    sizes = [_rms(array) for array in arrays]
    known = [size for size in sizes if size > 0]
    typical = sum(known) / len(known) if known else 1.0
    return [
        (
            array + noise * (size or typical) * random.standard_normal(array.shape)
        ).astype(array.dtype)
        for array, size in zip(arrays, sizes, strict=True)
    ]


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(array.astype(float) ** 2))) if array.size else 0.0


def jitter(tree: PyTree, random: np.random.Generator) -> PyTree:
    """Moves every floating-point number up or down by its last digit."""

    def move(array: Any) -> Any:
        if not eqx.is_inexact_array(array) and not isinstance(array, np.ndarray):
            return array
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return array
        sign = random.choice([-1.0, 1.0], array.shape)
        eps = float(jnp.finfo(array.dtype).eps)
        return (np.asarray(array).astype(float) * (1 + eps * sign)).astype(array.dtype)

    return jax.tree.map(move, tree)


def arrays_of(outputs: PyTree) -> list[np.ndarray]:
    """The numbers among a function's outputs, as NumPy arrays."""
    arrays = []
    for leaf in jax.tree.leaves(outputs):
        if eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jr.key_data(leaf)
        if eqx.is_array_like(leaf):
            arrays.append(np.asarray(leaf))
    return arrays


class Ruler(NamedTuple):
    """Measures how far outputs are from given ones, in units of what rounding explains.

    Attributes:
        outputs: The outputs to compare with.
        scales: Largest magnitude in each output, 1 where all is zero.
        tolerances: For each output, the largest difference that rounding explains.
            Infinite where rounding changes integers.
    """

    outputs: list[np.ndarray]
    scales: list[float]
    tolerances: list[float]

    @property
    def tolerance(self) -> float:
        """The smallest tolerance, relative to its output's scale."""
        pairs = zip(self.tolerances, self.scales, strict=True)
        return min((tolerance / scale for tolerance, scale in pairs), default=math.inf)

    def ratios(self, outputs: Sequence[np.ndarray]) -> list[float]:
        """For each output, the largest difference in units of its tolerance."""
        return [
            _difference(mine, other) / tolerance
            for mine, other, tolerance in zip(
                self.outputs, outputs, self.tolerances, strict=True
            )
        ]

    def ratio(self, outputs: Sequence[np.ndarray]) -> float:
        """The largest of the ratios."""
        return max(self.ratios(outputs), default=0.0)


def make_ruler(
    outputs: Sequence[np.ndarray], jittered: Sequence[Sequence[np.ndarray]], depth: int
) -> Ruler:
    """Sets tolerances from what a change of the last digits does.

    Sums of `n` numbers in another order differ by about √n times as much as a sum whose
    terms are each changed in the last digit (a random walk of partial sums), except in
    16-bit types, which are summed in float32. A further factor of 8 leaves room for
    chance.

    Args:
        outputs: Outputs of the function.
        jittered: Its outputs on numbers changed by their last digits, a few times.
        depth: Length of the longest sums.

    Returns:
        The ruler.
    """
    scales, tolerances = [], []
    for i, output in enumerate(outputs):
        finite = np.abs(np.where(np.isfinite(output), output, 0).astype(float))
        scale = float(finite.max(initial=0.0)) or 1.0
        noise = max((_difference(output, other[i]) for other in jittered), default=0.0)
        if jnp.issubdtype(output.dtype, jnp.inexact):
            info = jnp.finfo(output.dtype)
            walk = 1.0 if info.bits <= 16 else math.sqrt(depth)
            tolerance = 8 * walk * max(noise, float(info.eps) * scale)
        else:
            tolerance = math.inf if noise else 0.5
        scales.append(scale)
        tolerances.append(tolerance)
    return Ruler(list(outputs), scales, tolerances)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; infinite where only one is NaN or infinite."""
    if a.shape != b.shape:
        return math.inf
    if not jnp.issubdtype(a.dtype, jnp.complexfloating):
        a, b = a.astype(float), b.astype(float)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(a - b))
    return float(np.nan_to_num(gap, nan=math.inf, posinf=math.inf).max(initial=0.0))


def longest_sum(space: WeightSpace) -> int:
    """An upper guess of how many products one entry of an output sums up."""
    shapes = (leaf.shape for leaf in space.leaves)
    sums = (math.prod(shape) // max(min(shape), 1) for shape in shapes if shape)
    return max(*sums, 1, 1)
