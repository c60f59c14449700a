from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wsl.encoders._encoder import AbstractEncoder


@final
class Concatenated(AbstractEncoder):
    """Concatenates the vectors of several encoders.

    For instance what a network answers to probes and the statistics of its weights.

    Attributes:
        encoders: The encoders.
    """

    encoders: tuple[AbstractEncoder, ...]

    def __init__(self, *encoders: AbstractEncoder):
        """Concatenates encoders.

        Args:
            *encoders: The encoders, in the order of their vectors.

        Raises:
            ValueError: If there is none.
        """
        if not encoders:
            raise ValueError(
                "There is nothing to concatenate; give at least one encoder."
            )
        self.encoders = encoders

    @property
    def num_features(self) -> int:
        """Length of the vector: the sum of the encoders' lengths."""
        return sum(encoder.num_features for encoder in self.encoders)

    @property
    def num_reads(self) -> int:
        """How many numbers of a network all encoders read together."""
        return sum(encoder.num_reads for encoder in self.encoders)

    @property
    def is_invariant(self) -> bool:
        """Whether all encoders are invariant."""
        return all(encoder.is_invariant for encoder in self.encoders)

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A network that every one of the encoders can encode.

        Returns:
            The encoders' vectors, one after the other.
        """
        return jnp.concatenate([encoder(network) for encoder in self.encoders])
