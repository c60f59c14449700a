from collections.abc import Callable, Collection
from typing import final, Literal

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray, PyTree

from wsl._space import check_positive, WeightSpace
from wsl.encoders._inputs import count_channels, embedding
from wsl.encoders._pooled import AbstractPooledEncoder
from wsl.nn import ChannelNorm, EquivariantLinear, InvariantPool, Pointwise
from wsl.nn._draw import linear, split


@final
class Equivariant(AbstractPooledEncoder):
    """Linear layers that commute with permutations, and a pool that forgets them.

    `EquivariantLinear`, ReLU, then `num_layers - 1` times `EquivariantLinear`,
    `ChannelNorm`, ReLU; then `InvariantPool` and a linear map to the vector. The first
    layer's constants are drawn, not zero, and no norm follows it: a single weight's
    channels are multiples of it, which a norm would reduce to its sign.

    With all index sets that mean something fixed (HNP in the paper) each input and each
    output has coefficients of its own, and their number grows with the square of how
    many there are: for networks of few inputs and outputs. For others name them in
    `release` (NP): the layers then treat inputs alike, and outputs, and a learned
    vector for each index, added after the first layer, tells them apart.

    Weights go in as they are unless `transform` is given. They should be of order 1:
    [`Standardize.fit`][wsl.nn.Standardize.fit] on the networks to train on, or
    [`SignedLog`][wsl.nn.SignedLog] where they differ by orders of magnitude; for
    networks in whose weights small changes matter, as implicit representations, the
    paper has [`GaussianFourierFeatures`][wsl.nn.GaussianFourierFeatures] after that.
    Several go into `equinox.nn.Sequential`.

    Source: Zhou et al. 2023 (NFN): invariant networks, NP and HNP; for general spaces
    Zhou et al. 2024 (UNF). Norms and the first constants are ours. There is no dropout:
    encoders draw no random numbers.

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
        channels: int = 16,
        num_layers: int = 3,
        basis: Literal["full", "near-neighbour", "layer-tied"] = "full",
        release: Collection[str] = (),
        reduction: Literal["mean", "max", "attention"] = "mean",
        transform: Callable[[PyTree], PyTree] | None = None,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: The weight space of the networks to encode.
            num_features: Length of the vector.
            channels: Channels of all hidden features.
            num_layers: How many linear layers.
            basis: Which terms they have: see
                [`EquivariantLinear`][wsl.nn.EquivariantLinear].
            release: Fixed names of the space whose indices the layers treat alike:
                `space.fixed` for all of them.
            reduction: How entries are pooled.
            transform: From weight features to weight features; it must commute with
                the group of the space, as layers of `wsl.nn` do.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive, `basis` or `reduction` is not
                known, a name in `release` is not fixed, or `transform` does not return
                features of the space.
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
            basis=basis,
            key=first_key,
        )
        released = space.unfix(*release)
        for layer_key in split(layers_key, num_layers)[1:]:
            layers += [
                EquivariantLinear(
                    released, channels, channels, basis=basis, key=layer_key
                ),
                ChannelNorm(released, channels),
                Pointwise(jax.nn.relu),
            ]
        self.layers = eqx.nn.Sequential(layers)
        self.pool = InvariantPool(released, channels, reduction, key=pool_key)
        self.readout = linear(self.pool.num_features, num_features, key=readout_key)
