"""Products of tensors with one matrix, that stay two-dimensional under `jax.vmap`.

`jax.vmap` gives `x @ matrix` a batch axis, and the gradient for the matrix a sum over
two axes, for which XLA on CPUs first copies both tensors. Here the batch axis is merged
with the rows instead.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import core
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float


_rows_p = Primitive("rows_times_matrix")


def times_matrix(
    x: Float[Array, "*indices inputs"], matrix: Float[Array, "inputs outputs"]
) -> Float[Array, "*indices outputs"]:
    """The product over the last axis, `x @ matrix`.

    It can be differentiated in both modes and to any order, mapped and compiled as any
    other function.

    Args:
        x: Any number of rows, in any shape.
        matrix: The matrix.

    Returns:
        The products.
    """
    *indices, inputs = x.shape
    rows = _rows_p.bind(x.reshape(-1, inputs), matrix)
    return rows.reshape(*indices, matrix.shape[1])


# JAX calls these with any kind of array, and with none for what it differentiates by.
def _multiply(x: Any, matrix: Any) -> Array:
    return jnp.matmul(x, matrix)


def _abstract(x: Any, matrix: Any) -> core.ShapedArray:
    (result,) = jax.make_jaxpr(_multiply)(x, matrix).out_avals
    return result


def _transpose_x(cotangent: Any, x: Any, matrix: Any) -> Array:
    (result,) = jax.linear_transpose(lambda x: _multiply(x, matrix), x.aval)(cotangent)
    return result


def _transpose_matrix(cotangent: Any, x: Any, matrix: Any) -> Array:
    (result,) = jax.linear_transpose(lambda m: _multiply(x, m), matrix.aval)(cotangent)
    return result


def _batch(arguments: Sequence[Any], axes: Sequence[int | None]) -> tuple[Array, int]:
    x, matrix = arguments
    x_axis, matrix_axis = axes
    if x_axis is not None:
        x = jnp.moveaxis(x, x_axis, 0)
    if matrix_axis is not None:
        matrix = jnp.moveaxis(matrix, matrix_axis, 0)
    if x_axis is not None and matrix_axis is not None:
        return jnp.matmul(x, matrix), 0
    if x_axis is not None:
        size, rows, inputs = x.shape
        product = _rows_p.bind(x.reshape(size * rows, inputs), matrix)
        return product.reshape(size, rows, matrix.shape[1]), 0
    size, inputs, outputs = matrix.shape
    wide = matrix.swapaxes(0, 1).reshape(inputs, size * outputs)
    product = _rows_p.bind(x, wide)
    return product.reshape(x.shape[0], size, outputs), 1


_rows_p.def_impl(_multiply)
_rows_p.def_abstract_eval(_abstract)
ad.defbilinear(_rows_p, _transpose_x, _transpose_matrix)
batching.primitive_batchers[_rows_p] = _batch
mlir.register_lowering(_rows_p, mlir.lower_fun(_multiply, multiple_results=False))
