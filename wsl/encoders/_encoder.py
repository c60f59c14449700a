import abc

import equinox as eqx
from jaxtyping import Array, Float, PyTree


class AbstractEncoder(eqx.Module):
    """Turns the weights of one network into a vector of fixed length.

    An encoder is called with the network itself, an Equinox module whose array leaves
    are its weights. Batches of networks, stacked leaf by leaf, go through
    `eqx.filter_vmap`.

    Attributes:
        num_features: Length of the vector.
        is_invariant: Whether networks that differ by a permutation of hidden units get
            the same vector.
        num_reads: How many numbers of a network the vector is made of: its weights, or
            its answers where the network is run.
    """

    num_features: eqx.AbstractVar[int]
    num_reads: eqx.AbstractVar[int]
    is_invariant: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: The network.

        Returns:
            A vector of `num_features` numbers.
        """
