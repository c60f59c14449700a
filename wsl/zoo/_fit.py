"""Training many networks at once."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from wsl.zoo._siren import Siren


def in_chunks(
    function: Callable, inputs: tuple, *common: Array, size: int = 256
) -> PyTree:
    """Maps a function over the leading axis of its inputs, a chunk at a time.

    Args:
        function: From one element of each input, and `common`, to any pytree.
        inputs: Arrays with one more axis, first.
        *common: What is the same for all elements. Nothing is compiled anew for other
            values.
        size: How many elements go through at once. Memory is in proportion to it.

    Returns:
        The results, with one more axis, first.
    """
    number = len(inputs[0])
    in_axes = (0,) * len(inputs) + (None,) * len(common)
    mapped = eqx.filter_jit(eqx.filter_vmap(function, in_axes=in_axes))
    results = []
    for start in range(0, number, size):
        # A last chunk of another size would be compiled anew.
        chosen = np.minimum(np.arange(start, start + size), number - 1)
        results.append(mapped(*(x[chosen] for x in inputs), *common))
    return join(*results, number=number)


def join(*stacks: PyTree, number: int | None = None) -> PyTree:
    """Stacks one after the other, the first `number` elements of them."""

    def concatenate(*leaves):
        if not eqx.is_array(leaves[0]):
            return leaves[0]
        # In NumPy: JAX would compile anew for each number of elements.
        return jnp.asarray(np.concatenate([np.asarray(x) for x in leaves])[:number])

    return jax.tree.map(concatenate, *stacks)


def fit_siren(
    siren: Siren,
    coordinates: Float[Array | np.ndarray, "points in_size"],
    values: Float[Array | np.ndarray, " points"],
    steps: int | Int[Array, ""],
    learning_rate: float,
) -> tuple[Siren, Float[Array, ""]]:
    """Fits a network to a signal by Adam on the mean squared error.

    Args:
        siren: The network to start from, with one output.
        coordinates: Where the signal is known.
        values: What it is there.
        steps: How many steps to make, with all points in each.
        learning_rate: Adam's.

    Returns:
        The network, and its mean squared error.
    """
    optimiser = optax.adam(learning_rate)
    weights, rest = eqx.partition(siren, eqx.is_array)

    def loss(weights):
        answers = jax.vmap(eqx.combine(weights, rest))(coordinates)
        return jnp.mean(jnp.square(answers[:, 0] - values))

    def step(_, carry):
        weights, state = carry
        updates, state = optimiser.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, updates), state

    # Optax mixes precisions where it corrects Adam's bias.
    with jax.numpy_dtype_promotion("standard"):
        start = (weights, optimiser.init(weights))
        weights, _ = jax.lax.fori_loop(0, steps, step, start)
    return eqx.combine(weights, rest), loss(weights)
