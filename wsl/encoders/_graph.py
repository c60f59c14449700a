from collections.abc import Callable
from typing import final, Literal

import equinox as eqx
from jaxtyping import PRNGKeyArray, PyTree

from wsl._space import check_positive, WeightSpace
from wsl.encoders._inputs import count_channels
from wsl.encoders._pooled import AbstractPooledEncoder
from wsl.nn import GraphNetwork, InvariantPool
from wsl.nn._draw import linear, split


@final
class Graph(AbstractPooledEncoder):
    """Message passing on the network's own graph, pooled.

    Units are nodes, weights are edges, biases features of nodes:
    [`GraphNetwork`][wsl.nn.GraphNetwork] from weights to features of `channels`
    channels, `InvariantPool`, and a linear map to the vector. Inputs and outputs with
    names are told apart by embeddings of their nodes.

    Messages are nonlinear in a weight and the states at both its ends, which linear
    layers are not; information travels one layer of the network in each round, and
    anywhere through a state of the whole graph. States are divided by their root mean
    square, so that weights much larger than 1 look alike: give
    [`Standardize`][wsl.nn.Standardize] or [`SignedLog`][wsl.nn.SignedLog] as
    `transform` if there are some.

    Source: Lim et al. 2023; Kofinas et al. 2024.

    Attributes:
        space: Which networks can be encoded.
        transform: What is done to the weights first.
        layers: The message-passing network.
        pool: From its features to a vector.
        readout: From that to the result.
    """

    space: WeightSpace = eqx.field(static=True)
    transform: Callable[[PyTree], PyTree] | None
    layers: GraphNetwork
    pool: InvariantPool
    readout: eqx.nn.Linear

    def __init__(
        self,
        space: WeightSpace,
        num_features: int,
        *,
        channels: int = 16,
        num_layers: int = 3,
        aggregation: Literal["mean", "sum"] = "mean",
        tied: bool = False,
        reduction: Literal["mean", "max", "attention"] = "mean",
        transform: Callable[[PyTree], PyTree] | None = None,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: The weight space of the networks to encode.
            num_features: Length of the vector.
            channels: Channels of all states.
            num_layers: How many rounds of messages.
            aggregation: Mean or sum of the messages.
            tied: Share coefficients over leaves and node sets.
            reduction: How entries are pooled.
            transform: From weight features to weight features; it must commute with
                the group of the space, as layers of `wsl.nn` do.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive, `aggregation` or `reduction` is
                not known, or `transform` does not return features of the space.
        """
        check_positive(
            num_features=num_features, channels=channels, num_layers=num_layers
        )
        network_key, pool_key, readout_key = split(key, 3)
        self.space = space
        self.transform = transform
        self.layers = GraphNetwork(
            space,
            count_channels(space, transform),
            channels,
            hidden_channels=channels,
            num_layers=num_layers,
            aggregation=aggregation,
            tied=tied,
            key=network_key,
        )
        self.pool = InvariantPool(space, channels, reduction, key=pool_key)
        self.readout = linear(self.pool.num_features, num_features, key=readout_key)
