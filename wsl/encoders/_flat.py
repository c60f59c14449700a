from typing import ClassVar, final

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from wsl._space import check_space, WeightSpace
from wsl.encoders._encoder import AbstractEncoder


@final
class Flat(AbstractEncoder):
    """All weights, one after the other.

    The plainest encoder, and the one with the most information: nothing is lost and
    nothing is shared between networks that compute the same function with their hidden
    units in another order. It is what V(θ) reads in parameter-based value functions
    (Faccio et al. 2021).

    Attributes:
        space: Which networks can be encoded.
    """

    space: WeightSpace = eqx.field(static=True)
    is_invariant: ClassVar[bool] = False

    def __init__(self, space: WeightSpace):
        """Makes the encoder.

        Args:
            space: The weight space of the networks to encode.

        Raises:
            ValueError: If `space` is no weight space.
        """
        check_space(space)
        self.space = space

    @property
    def num_features(self) -> int:
        """Length of the vector: the number of weights."""
        return self.space.size

    @property
    def num_reads(self) -> int:
        """How many numbers of a network it reads: all weights."""
        return self.space.size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A network of `space`, or only its weights.

        Returns:
            Its weights as one vector.

        Raises:
            ValueError: If the network is not of `space`.
        """
        return self.space.flatten(network)
