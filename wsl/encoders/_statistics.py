from collections.abc import Callable
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wsl._space import check_space, WeightSpace
from wsl.encoders._encoder import AbstractEncoder
from wsl.encoders._inputs import count_channels, features_of
from wsl.nn._dtypes import wide


_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@final
class Statistics(AbstractEncoder):
    """Mean, variance and quartiles of every leaf.

    Seven numbers a leaf: the mean, the variance and the quantiles at 0, 25, 50, 75 and
    100 %, interpolated linearly. There is nothing to learn. Any permutation of any
    leaf's entries gives the same vector, far more than a network's symmetries: which
    weights meet at one unit is lost. A strong baseline for how well networks were
    trained.

    Source: Unterthiner et al. 2020 (their seven weight statistics a layer).

    Attributes:
        space: Which networks can be encoded.
        transform: What is done to the weights first.
        channels: Channels of each leaf, after that.
    """

    space: WeightSpace = eqx.field(static=True)
    transform: Callable[[PyTree], PyTree] | None
    channels: tuple[int, ...] = eqx.field(static=True)
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        space: WeightSpace,
        *,
        transform: Callable[[PyTree], PyTree] | None = None,
    ):
        """Makes the encoder.

        Args:
            space: The weight space of the networks to encode.
            transform: From weight features to weight features, for instance
                [`SignedLog`][wsl.nn.SignedLog]. Each of its channels has statistics of
                its own.

        Raises:
            ValueError: If `transform` does not return features of the space, or a leaf
                has no entries.
        """
        check_space(space)
        empty = [leaf.path for leaf in space.leaves if 0 in leaf.shape]
        if empty:
            raise ValueError(f"There are no statistics of no numbers; empty: {empty}.")
        self.space = space
        self.transform = transform
        self.channels = tuple(count_channels(space, transform).values())

    @property
    def num_features(self) -> int:
        """Length of the vector: seven numbers for each leaf and channel."""
        return (2 + len(_QUANTILES)) * sum(self.channels)

    @property
    def num_reads(self) -> int:
        """How many numbers of a network it reads: all weights."""
        return self.space.size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A network of the space, or only its weights.

        Returns:
            For each leaf, for each channel: mean, variance, quantiles in rising order.

        Raises:
            ValueError: If the network is not of the space.
        """
        features = features_of(self.space, self.transform, network)
        leaves = self.space.feature_leaves(features, self.channels)
        vectors = [_summarise(wide(leaf)) for leaf in leaves]
        # The cast is explicit, so strict promotion need not forbid it.
        with jax.numpy_dtype_promotion("standard"):
            return jnp.concatenate([jnp.zeros(0, jnp.float32), *vectors])


def _summarise(leaf: Float[Array, "*shape channels"]) -> Float[Array, " statistics"]:
    entries = leaf.reshape(-1, leaf.shape[-1])
    quantiles = jnp.quantile(entries, jnp.asarray(_QUANTILES, entries.dtype), axis=0)
    moments = jnp.stack([jnp.mean(entries, 0), jnp.var(entries, 0)])
    return jnp.concatenate([moments, quantiles]).T.ravel()
