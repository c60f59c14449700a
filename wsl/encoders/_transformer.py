from collections.abc import Callable, Collection
from typing import final

import equinox as eqx
from jaxtyping import PRNGKeyArray, PyTree

from wsl._space import check_positive, WeightSpace
from wsl.encoders._inputs import count_channels, embedding
from wsl.encoders._pooled import AbstractPooledEncoder
from wsl.nn import ChannelNorm, InvariantPool, WeightSpaceTransformerBlock
from wsl.nn._draw import linear, split


@final
class Transformer(AbstractPooledEncoder):
    """Attention between the rows and columns of weights, pooled by attention.

    `EquivariantLinear` of near neighbours with drawn constants and ReLU as an
    embedding, `num_layers` blocks
    ([`WeightSpaceTransformerBlock`][wsl.nn.WeightSpaceTransformerBlock]),
    `ChannelNorm`, `InvariantPool` with `num_queries` queries for each leaf, and a
    linear map to the vector.

    Attention costs the square of neighbouring widths and compiles longer than linear
    layers do; it pays where which units matter depends on the network. As in
    [`Equivariant`][wsl.encoders.Equivariant], `release` names fixed index sets that
    the layers treat alike, told apart by learned vectors, and weights should be of
    order 1: see there for `transform`.

    Source: Zhou et al. 2023 (NFT), with pooling by attention as in their
    cross-attention to learned queries.

    Attributes:
        space: Which networks can be encoded.
        transform: What is done to the weights first.
        layers: From weight features to weight features.
        pool: From these to a vector.
        readout: From that to the result.
    """

    space: WeightSpace = eqx.field(static=True)
    transform: Callable[[PyTree], PyTree] | None
    layers: eqx.nn.Sequential
    pool: InvariantPool
    readout: eqx.nn.Linear

    def __init__(
        self,
        space: WeightSpace,
        num_features: int,
        *,
        channels: int = 8,
        num_heads: int = 2,
        num_layers: int = 2,
        num_queries: int = 2,
        release: Collection[str] = (),
        transform: Callable[[PyTree], PyTree] | None = None,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: The weight space of the networks to encode.
            num_features: Length of the vector.
            channels: Channels of all hidden features.
            num_heads: Heads of attention, among which the channels are divided.
            num_layers: How many blocks.
            num_queries: How many queries pool each leaf.
            release: Fixed names of the space whose indices the layers treat alike:
                `space.fixed` for all of them.
            transform: From weight features to weight features; it must commute with
                the group of the space, as layers of `wsl.nn` do.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive, the channels cannot be divided
                among the heads, a name in `release` is not fixed, or `transform` does
                not return features of the space.
        """
        check_positive(
            num_features=num_features, channels=channels, num_layers=num_layers
        )
        first_key, pool_key, readout_key, layers_key = split(key, 4)
        self.space = space
        self.transform = transform
        layers = embedding(
            space,
            count_channels(space, transform),
            channels,
            release=release,
            basis="near-neighbour",
            key=first_key,
        )
        released = space.unfix(*release)
        layers += [
            WeightSpaceTransformerBlock(released, channels, num_heads, key=layer_key)
            for layer_key in split(layers_key, num_layers)
        ]
        self.layers = eqx.nn.Sequential([*layers, ChannelNorm(released, channels)])
        self.pool = InvariantPool(
            released, channels, "attention", num_queries=num_queries, key=pool_key
        )
        self.readout = linear(self.pool.num_features, num_features, key=readout_key)
