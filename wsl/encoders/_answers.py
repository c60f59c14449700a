"""What the probing encoders share: running a network."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from wsl.encoders._encoder import AbstractEncoder


_ADVICE = "Join weights with the rest of their model by `eqx.combine` first."


def identity(x: Any) -> Any:
    """Returns its argument: the default of `map_probe` and `map_answer`."""
    return x


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
    if isinstance(network, list | tuple) and network and callable(network[0]):
        raise ValueError(
            f"This is a {type(network).__name__} of {len(network)} networks; one is "
            "expected. Stack them, and go over the stack: "
            "`equinox.filter_vmap(encoder)(wsl.stack(networks))`."
        )
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
        raise _cannot_answer(probes, network, error) from error
    except ValueError as error:
        raise _cannot_answer(probes, network, error) from error
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


def _cannot_answer(probes: Array, network: PyTree, error: Exception) -> ValueError:
    shapes = [
        f"{jtu.keystr(path)} {leaf.shape}"
        for path, leaf in jtu.tree_leaves_with_path(network)
        if eqx.is_array(leaf)
    ]
    return ValueError(
        f"The network cannot answer a probe of shape {probes.shape[1:]}: {error}\n"
        f"Its leaves: {', '.join(shapes[:4])}{', ...' * (len(shapes) > 4)}. If these "
        "are networks stacked leaf by leaf, go over the stack by "
        "`equinox.filter_vmap(encoder)(networks)`."
    )


class AbstractFixedProbing(AbstractEncoder):
    """What a network answers to probes that do not depend on the network.

    Attributes:
        probes: The inputs, `(num_probes, *input_shape)`, before `map_probe`.
        output_size: How many numbers are read of one answer.
        map_probe: Applied to each probe before the network sees it.
        map_answer: Applied to each answer before it is read.
    """

    probes: eqx.AbstractVar[Float[Array, "num_probes ..."]]
    output_size: eqx.AbstractVar[int]
    map_probe: eqx.AbstractVar[Callable[[Array], Array]]
    map_answer: eqx.AbstractVar[Callable[[Any], Array]]
    is_invariant: ClassVar[bool] = True

    @property
    def num_reads(self) -> int:
        """How many numbers of a network's answers it reads: as many as features."""
        return self.num_features

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A callable from one input to one output. The network itself, not
                only its array leaves: it is run.

        Returns:
            Its answers, probe after probe.

        Raises:
            ValueError: If it is not callable, or there is another number of outputs
                to read.
        """
        return answers_to(
            self.probes, network, self.output_size, self.map_probe, self.map_answer
        )
