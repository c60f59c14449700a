"""Initial parameters, drawn without compiling a program for each of their shapes.

XLA takes longer to compile a draw than to draw, and a constructor draws leaf by leaf.
Here numbers are drawn in lengths that are powers of 4, the same few for all modules,
and cut by NumPy. With the default keys the first `n` of many numbers are the `n` that
`jax.random` draws, so that results are those of `jax.random`. Where they are not, and
in traced code, it draws itself.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


_SHORTEST = 1024


def split(key: PRNGKeyArray, num: int) -> tuple[PRNGKeyArray, ...]:
    """Splits a key, as `jax.random.split` does.

    Args:
        key: The key.
        num: How many keys to make of it, none included.

    Returns:
        The keys.
    """
    if not _can_be_cut(key):
        return tuple(jr.split(key, num))
    return _split(key, max(8, 1 << (num - 1).bit_length()))[:num]


def normal(
    key: PRNGKeyArray,
    shape: Sequence[int],
    deviation: float = 1.0,
    *,
    mean: float = 0.0,
) -> Float[Array, "..."]:
    """Normal numbers.

    Args:
        key: Source of randomness.
        shape: Shape of the result.
        deviation: Their standard deviation.
        mean: Their mean.

    Returns:
        An array of the default dtype.
    """
    return _to_device(deviation * _cut(jr.normal, key, shape) + mean)


def normals(
    key: PRNGKeyArray,
    shapes: Sequence[Sequence[int]],
    deviations: Sequence[float | np.ndarray],
) -> tuple[Float[Array, "..."], ...]:
    """Several arrays of normal numbers of mean 0, all from one draw.

    Args:
        key: Source of randomness.
        shapes: Shape of each array.
        deviations: The standard deviation in each array, or of each of its entries.

    Returns:
        Arrays of the default dtype.
    """
    sizes = [math.prod(shape) for shape in shapes]
    flat = _cut(jr.normal, key, (sum(sizes),))
    arrays, start = [], 0
    for shape, size, deviation in zip(shapes, sizes, deviations, strict=True):
        part = flat[start : start + size].reshape(shape)
        arrays.append(_to_device(part * np.asarray(deviation, part.dtype)))
        start += size
    return tuple(arrays)


def uniform(
    key: PRNGKeyArray, shape: Sequence[int], limit: float = 1.0, dtype: Any = float
) -> Float[Array, "..."]:
    """Numbers that are uniform from `-limit` to `limit`.

    Args:
        key: Source of randomness.
        shape: Shape of the result.
        limit: The largest of them.
        dtype: Of the result.

    Returns:
        An array.
    """
    draw = lambda key, shape: jr.uniform(key, shape, dtype, -limit, limit)
    return _to_device(_cut(draw, key, shape))


def fan_in(
    key: PRNGKeyArray, num_in: int, num_out: int, gain: float = 1.0
) -> Float[Array, "num_in num_out"]:
    """A normal matrix for `x @ matrix`, which keeps the variance of its inputs.

    Args:
        key: Source of randomness.
        num_in: How many numbers go in.
        num_out: How many come out.
        gain: Factor of their deviation.

    Returns:
        The matrix.
    """
    return normal(key, (num_in, num_out), gain / math.sqrt(max(num_in, 1)))


def constant(
    value: float | np.ndarray, *shape: int, dtype: Any = float
) -> Float[Array, "..."]:
    """An array that holds one number, or one array again and again."""
    return _to_device(np.full(shape, value, jax.dtypes.canonicalize_dtype(dtype)))


def linear(
    in_size: int,
    out_size: int | Literal["scalar"],
    *,
    key: PRNGKeyArray,
    **options: Any,
) -> eqx.nn.Linear:
    """The layer that `equinox.nn.Linear` gives for the same arguments."""
    make = functools.partial(eqx.nn.Linear, in_size, out_size, **options)
    return _fill(eqx.filter_eval_shape(make, key=key), in_size, key)


def mlp(*args: Any, key: PRNGKeyArray, **options: Any) -> eqx.nn.MLP:
    """The perceptron that `equinox.nn.MLP` gives for the same arguments."""
    make = functools.partial(eqx.nn.MLP, *args, **options)
    result = eqx.filter_eval_shape(make, key=key)
    layers = tuple(
        _fill(layer, layer.in_features, layer_key)
        for layer, layer_key in zip(
            result.layers, split(key, len(result.layers)), strict=True
        )
    )
    result = eqx.tree_at(lambda found: found.layers, result, layers)
    # An activation may hold parameters too.
    shapes = (isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(result))
    return make(key=key) if any(shapes) else result


def gru_cell(
    in_size: int, state_size: int, *, key: PRNGKeyArray, **options: Any
) -> eqx.nn.GRUCell:
    """The cell that `equinox.nn.GRUCell` gives for the same arguments."""
    make = functools.partial(eqx.nn.GRUCell, in_size, state_size, **options)
    return _fill(eqx.filter_eval_shape(make, key=key), state_size, key)


def _fill(layer: Any, size: Any, key: PRNGKeyArray) -> Any:
    """Draws the arrays of a layer of Equinox, in the order of its fields."""
    shapes, treedef = jax.tree.flatten(layer)
    limit = 1 / math.sqrt(1 if size == "scalar" else size)
    return jax.tree.unflatten(
        treedef,
        [
            uniform(subkey, shape.shape, limit, shape.dtype)
            for subkey, shape in zip(split(key, len(shapes)), shapes, strict=True)
        ],
    )


@functools.partial(jax.jit, static_argnums=1)
def _split(key: PRNGKeyArray, num: int) -> tuple[PRNGKeyArray, ...]:
    return tuple(jr.split(key, num))


def _cut(
    draw: Callable[[PRNGKeyArray, tuple[int, ...]], Array],
    key: PRNGKeyArray,
    shape: Sequence[int],
) -> Array | np.ndarray:
    size = math.prod(shape)
    if not _can_be_cut(key):
        return draw(key, tuple(shape))
    length = _SHORTEST
    while length < size:
        length *= 4
    return jax.device_get(draw(key, (length,)))[:size].reshape(shape)


def _can_be_cut(key: PRNGKeyArray) -> bool:
    """Whether draws of all lengths begin alike, and nothing depends on where."""
    config: Any = jax.config
    return (
        not isinstance(key, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]
        and not key.committed
        and str(jr.key_impl(key)) == "threefry2x32"
        and config.jax_threefry_partitionable
    )


def _to_device(numbers: Any) -> Array:
    # `jnp.asarray` compiles a copy for each shape.
    return numbers if isinstance(numbers, Array) else jax.device_put(numbers)
