"""What the probing encoders share: the arguments' checks, and running a network."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


_ADVICE = "Join weights with the rest of their model by `eqx.combine` first."


def identity(x: Any) -> Any:
    """What is done to probes and answers unless something else is asked for."""
    return x


def check_sizes(**sizes: int | tuple[int, ...]) -> None:
    """Refuses sizes, by name, that are not positive."""
    numbers = [
        number
        for size in sizes.values()
        for number in ((size,) if isinstance(size, int) else size)
    ]
    if min(numbers) < 1:
        given = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(f"Sizes must be positive; got {given}.")


def shape_of(input_shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one input, for which an integer may stand."""
    return (input_shape,) if isinstance(input_shape, int) else input_shape


def answers_to(
    probes: Float[Array, "num_probes ..."],
    network: PyTree,
    output_size: int,
    map_probe: Callable[[Array], Array],
    map_answer: Callable[[Any], Array],
) -> Float[Array, " answers"]:
    """Runs a network on probes and reads its answers.

    Args:
        probes: The inputs, before `map_probe`.
        network: A callable from one input to one output.
        output_size: How many numbers are read of each answer.
        map_probe: Applied to each probe before the network sees it.
        map_answer: Applied to each answer before it is read.

    Returns:
        The numbers read, probe after probe.

    Raises:
        ValueError: If there is no network that can be run, or another number of numbers
            to read.
    """
    if not callable(network):
        raise ValueError(
            "Probing runs the network, so it needs a callable; got "
            f"{type(network).__name__}. {_ADVICE}"
        )
    run: Callable[[Array], Any] = network
    try:
        answers: Any = jax.vmap(lambda probe: map_answer(run(map_probe(probe))))(probes)
    except TypeError as error:
        # What `eqx.filter(network, eqx.is_array)` leaves of an activation.
        if "'NoneType' object is not callable" in str(error):
            raise ValueError(f"The network is only its weights. {_ADVICE}") from error
        raise
    if not isinstance(answers, jax.Array):
        raise ValueError(
            f"The network answers with a {type(answers).__name__}, not one array. Say "
            "what to read of it by `map_answer`."
        )
    shape = answers.shape[1:]
    if math.prod(shape) != output_size:
        made = "" if map_answer is identity else " after `map_answer`"
        raise ValueError(
            f"The network answers one probe with shape {shape}{made}; this encoder "
            f"expects {output_size} numbers."
        )
    return jnp.ravel(answers)
