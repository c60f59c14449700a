from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from wsl._space import WeightSpace
from wsl.encoders._encoder import AbstractEncoder
from wsl.encoders._inputs import features_of
from wsl.nn import GraphNetwork, InvariantPool


class AbstractPooledEncoder(AbstractEncoder):
    """Equivariant layers, an invariant pool, a linear map.

    Attributes:
        space: Which networks can be encoded.
        transform: What is done to the weights first.
        layers: From weight features to weight features.
        pool: From these to a vector.
        readout: From that to the result.
    """

    space: eqx.AbstractVar[WeightSpace]
    transform: eqx.AbstractVar[Callable[[PyTree], PyTree] | None]
    layers: eqx.AbstractVar[eqx.nn.Sequential | GraphNetwork]
    pool: eqx.AbstractVar[InvariantPool]
    readout: eqx.AbstractVar[eqx.nn.Linear]
    is_invariant: ClassVar[bool] = True

    @property
    def num_features(self) -> int:
        """Length of the vector."""
        return self.readout.weight.shape[0]

    @property
    def num_reads(self) -> int:
        """How many numbers of a network it reads: all weights."""
        return self.space.size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A network of the space, or only its weights.

        Returns:
            A vector, the same for networks that differ by an element of the group.

        Raises:
            ValueError: If the network is not of the space.
        """
        features = features_of(self.space, self.transform, network)
        pooled = self.pool(self.layers(features))
        return self.readout(pooled.astype(self.readout.weight.dtype))
