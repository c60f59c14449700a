import math
from collections.abc import Callable
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl.encoders._encoder import AbstractEncoder


@final
class Probing(AbstractEncoder):
    """What the network answers to learned inputs (policy fingerprinting).

    The probing inputs are parameters of the encoder and learn with whatever reads its
    vector. Any callable that maps one input to one output can be encoded, whatever its
    architecture or size, and its hidden units may be permuted at will.

    Source: Harb et al. 2020 (policy evaluation networks); Faccio et al. 2022, where the
    features are the actions [π(s̃₁), ..., π(s̃_K)] in K learned states.

    Attributes:
        probes: The learned inputs, `(num_probes, *input_shape)`.
        output_size: How many numbers a network answers to one input.
    """

    probes: Float[Array, "num_probes ..."]
    output_size: int = eqx.field(static=True)
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        input_shape: int | tuple[int, ...],
        output_size: int,
        num_probes: int,
        *,
        initializer: Callable[..., Array] | None = None,
        key: PRNGKeyArray,
    ):
        """Makes the encoder and draws its first probes.

        Args:
            input_shape: Shape of one input of the networks; an integer stands for a
                vector.
            output_size: How many numbers a network answers to one input.
            num_probes: How many inputs to learn.
            initializer: Draws the first probes, as those of `jax.nn.initializers`.
                Uniform on [0, 1) unless given, as in the paper's released code.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive.
        """
        shape = (input_shape,) if isinstance(input_shape, int) else input_shape
        if min(*shape, output_size, num_probes, 1) < 1:
            raise ValueError(
                "Sizes must be positive; got "
                f"input_shape={input_shape}, output_size={output_size}, "
                f"num_probes={num_probes}."
            )
        if initializer is None:
            initializer = jax.nn.initializers.uniform(scale=1.0)
        self.probes = initializer(key, (num_probes, *shape), jnp.float32)
        self.output_size = output_size

    @property
    def num_features(self) -> int:
        """Length of the vector: probes times outputs."""
        return self.probes.shape[0] * self.output_size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A callable from one input to one output. The network itself, not
                only its array leaves: it is run.

        Returns:
            Its answers, probe after probe.

        Raises:
            ValueError: If it is not callable or answers with another number of outputs.
        """
        advice = "Join weights with the rest of their model by `eqx.combine` first."
        if not callable(network):
            raise ValueError(
                "Probing runs the network, so it needs a callable; got "
                f"{type(network).__name__}. {advice}"
            )
        try:
            answers: Any = jax.vmap(network)(self.probes)
        except TypeError as error:
            # What `eqx.filter(network, eqx.is_array)` leaves of an activation.
            if "'NoneType' object is not callable" in str(error):
                raise ValueError(
                    f"The network is only its weights. {advice}"
                ) from error
            raise
        if math.prod(answers.shape[1:]) != self.output_size:
            raise ValueError(
                f"The network answers one probe with shape {answers.shape[1:]}; this "
                f"encoder expects {self.output_size} numbers."
            )
        return answers.ravel()
