from collections.abc import Callable
from typing import ClassVar, final, Literal

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.encoders._encoder import AbstractEncoder
from wsl.encoders._inputs import count_channels, features_of
from wsl.nn import (
    ScaleGraphInput,
    ScaleInvariantPool,
    ScaleMessagePassing,
    ScaleSymmetry,
)
from wsl.nn._draw import split


@final
class ScaleEquivariantGraph(AbstractEncoder):
    """Message passing that permuting and rescaling units leave alone.

    [`ScaleGraphInput`][wsl.nn.ScaleGraphInput], `num_layers` rounds of
    [`ScaleMessagePassing`][wsl.nn.ScaleMessagePassing] and
    [`ScaleInvariantPool`][wsl.nn.ScaleInvariantPool]. Two networks get one vector if
    they differ by a permutation of hidden units, or by what `symmetry` says may
    multiply them: -1 for odd activations such as sine and tanh, positive numbers for
    ReLUs.

    Weights go in as they are unless `transform` is given, which must commute with the
    symmetry too. Where units are rescaled that leaves multiplying each leaf by a
    constant, as [`ScaleEncoding`][wsl.nn.ScaleEncoding] does; where they only flip
    signs any odd function will do, such as [`SignedLog`][wsl.nn.SignedLog]. Fourier
    features, or a mean taken off, break it. Signs alone leave magnitudes to be seen, so
    there weights should be of order 1. Phases that a sine unit may be shifted by are
    not part of the symmetry.

    Source: Kalogeropoulos et al. 2024: ScaleGMN and, bidirectional, ScaleGMN-B.

    Attributes:
        symmetry: The symmetry, and with it which networks can be encoded.
        transform: What is done to the weights first.
        embed: From weights to states on the graph.
        layers: Rounds of messages.
        pool: From states to the result.
        num_features: Length of the vector.
    """

    symmetry: ScaleSymmetry = eqx.field(static=True)
    transform: Callable[[PyTree], PyTree] | None
    embed: ScaleGraphInput
    layers: tuple[ScaleMessagePassing, ...]
    pool: ScaleInvariantPool
    num_features: int = eqx.field(static=True)
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        num_features: int,
        *,
        channels: int = 8,
        num_layers: int = 2,
        bidirectional: bool = True,
        aggregation: Literal["mean", "sum"] = "mean",
        floor: float = 0.0,
        transform: Callable[[PyTree], PyTree] | None = None,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry of the networks to encode.
            num_features: Length of the vector.
            channels: Channels of all states.
            num_layers: How many rounds of messages.
            bidirectional: Whether messages also go backward, from outputs to inputs.
            aggregation: Mean or sum of the messages.
            floor: Shortest length that vectors are divided by: see
                [`canonicalise`][wsl.nn.canonicalise].
            transform: From weight features to weight features; it must commute with
                the symmetry.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive, the floor is negative,
                `aggregation` is not known, or `transform` does not return features of
                the space.
        """
        check_positive(
            num_features=num_features, channels=channels, num_layers=num_layers
        )
        embed_key, pool_key, *keys = split(key, num_layers + 2)
        self.symmetry = symmetry
        self.transform = transform
        self.embed = ScaleGraphInput(
            symmetry,
            count_channels(symmetry.space, transform),
            channels,
            key=embed_key,
        )
        self.layers = tuple(
            ScaleMessagePassing(
                symmetry,
                channels,
                bidirectional=bidirectional,
                aggregation=aggregation,
                floor=floor,
                key=layer_key,
            )
            for layer_key in keys
        )
        self.pool = ScaleInvariantPool(
            symmetry, channels, num_features, floor=floor, key=pool_key
        )
        self.num_features = num_features

    @property
    def num_reads(self) -> int:
        """How many numbers of a network it reads: all weights."""
        return self.symmetry.space.size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A network of the symmetry's space, or only its weights.

        Returns:
            A vector, the same for networks that differ by a permutation or by
            multipliers of the symmetry.

        Raises:
            ValueError: If the network is not of the space.
        """
        graph = self.embed(features_of(self.symmetry.space, self.transform, network))
        for layer in self.layers:
            graph = layer(graph)
        return self.pool(graph)
