"""How much arithmetic an encoder does."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree


# These move numbers, or choose among them.
_FREE = frozenset(
    """bitcast_convert_type broadcast_in_dim concatenate convert_element_type copy
    dynamic_slice dynamic_update_slice gather optimization_barrier pad reduce_precision
    reshape rev scatter select_n slice split squeeze stack stop_gradient tile transpose
    unstack""".split()
)
_REDUCTIONS = frozenset(["reduce_max", "reduce_min", "reduce_prod", "reduce_sum"])
_SCATTERS = frozenset(
    f"scatter{joint}{name}" for joint in "-_" for name in ("add", "mul", "min", "max")
)
# The product in `EquivariantLinear`.
_ROWS_TIMES_MATRIX = "rows_times_matrix"
# Of results shaped like their operands, yet more than one operation for each entry.
_NOT_ENTRYWISE = frozenset(
    """cholesky fft householder_product lu pallas_call pure_callback qr reduce_window
    schur triangular_solve tridiagonal_solve""".split()
)


def count_flops(encoder: Callable[[PyTree], Any], network: PyTree) -> int:
    """Counts the floating-point operations of encoding one network.

    By walking the encoder's jaxpr: the count depends on shapes alone, and is the same
    on every backend. (XLA's own cost analysis counts the body of a loop once, however
    often it runs, and counts after some rewriting.) A multiplication and an addition
    are two operations, so a product of `(m, k)` and `(k, n)` has `2 m k n`; a
    convolution likewise. Everything else that computes a number from others is one
    operation for each entry, be it a sum or a sine; a reduction of `n` numbers `n - 1`;
    a sort of `n` numbers `n` times the binary logarithm of `n`, rounded up. Loops count
    as often as they run, branches as the dearest. What moves, selects, converts or
    compares numbers, and what works on integers, is free.

    What the encoder computes from its own parameters alone counts too. In a batch it is
    shared by all networks.

    Args:
        encoder: Any encoder, or any other function of one argument: a generator too.
        network: What it is called with; only shapes matter.

    Returns:
        The number of operations.

    Raises:
        ValueError: If the encoder computes something whose cost is not known, or runs a
            loop whose length is not known before it ends.

    Examples:
        >>> import equinox as eqx, jax, wsl
        >>> mlp = eqx.nn.MLP(2, 1, 24, 1, key=jax.random.key(0))
        >>> probing = wsl.encoders.Probing(2, 1, 1, key=jax.random.key(1))
        >>> wsl.encoders.count_flops(probing, mlp)  # 2 (2 24 + 24) + 24 + 24 + 1
        193
    """
    closed, _, _ = eqx.filter_make_jaxpr(_call)(encoder, network)
    return _count(closed)


def _call(encoder: Callable[[PyTree], Any], network: PyTree) -> Any:
    return encoder(network)


def _count(jaxpr: Any) -> int:
    return sum(map(_count_equation, getattr(jaxpr, "jaxpr", jaxpr).eqns))


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    outputs = [x.aval for x in equation.outvars if _is_float(x.aval)]
    if name == "scan":
        return params["length"] * _count(params["jaxpr"])
    if name == "while":
        if _count(params["body_jaxpr"]) + _count(params["cond_jaxpr"]):
            raise ValueError(
                "The encoder runs a loop until a condition holds, so that how much it "
                "computes is not known before it ends. Give the loop a fixed length."
            )
        return 0
    if name == "cond":
        return max(map(_count, params["branches"]))
    if name in _SCATTERS:
        return math.prod(equation.invars[2].aval.shape) if outputs else 0
    inner = [value for value in params.values() if _is_jaxpr(value)]
    if inner:
        return _count(inner[0])
    if not outputs or name in _FREE:
        return 0
    operands = [x.aval.shape for x in equation.invars]
    size = sum(math.prod(aval.shape) for aval in outputs)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * size * math.prod(operands[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        # Of a kernel, all but the output channels is summed over.
        out_axis = params["dimension_numbers"].rhs_spec[0]
        return 2 * size * math.prod(operands[1]) // operands[1][out_axis]
    if name in _REDUCTIONS:
        return math.prod(operands[0]) - size
    if name == "sort":
        length = operands[0][params["dimension"]]
        return math.prod(operands[0]) * max(length - 1, 0).bit_length()
    if name == _ROWS_TIMES_MATRIX:
        return 2 * size * operands[0][-1]
    entrywise = all(_fits(shape, outputs[0].shape) for shape in operands)
    if name in _NOT_ENTRYWISE or not entrywise:
        raise ValueError(f"There is no count of operations for {name!r}.")
    return size


def _fits(shape: tuple[int, ...], result: tuple[int, ...]) -> bool:
    """Whether one number of an operand goes into each of the result."""
    return shape == () or (
        len(shape) == len(result)
        and all(n in (1, m) for n, m in zip(shape, result, strict=True))
    )


def _is_float(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended):
        return False
    return jnp.issubdtype(dtype, jnp.inexact)


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
