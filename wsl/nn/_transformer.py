from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._activation import Pointwise
from wsl.nn._attention import WeightSpaceAttention
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant, fan_in, split
from wsl.nn._dtypes import like
from wsl.nn._norm import ChannelNorm


@final
class WeightSpaceTransformerBlock(eqx.Module):
    """Weight-space attention and a perceptron at each entry, each with a residual.

    `x + attention(norm(x))`, then `x + perceptron(norm(x))`. The perceptron has one
    hidden layer of GELUs, and coefficients of its own for every leaf; it sees the
    channels of one entry.

    Source: Zhou et al. 2023 (NFT); norms before the layers as in Xiong et al. 2020.

    Attributes:
        space: Space of the features.
        attention: Between entries.
        norms: Before the attention and before the perceptron.
        hidden: For each leaf, the matrix and the bias of the perceptron's first layer.
        readout: Those of its second.
        activation: Of its hidden layer.
    """

    space: WeightSpace = eqx.field(static=True)
    attention: WeightSpaceAttention
    norms: tuple[ChannelNorm, ChannelNorm]
    hidden: tuple[tuple[Array, Array], ...]
    readout: tuple[tuple[Array, Array], ...]
    activation: Pointwise

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        num_heads: int,
        *,
        head_channels: int | None = None,
        expansion: int = 2,
        key: PRNGKeyArray,
    ):
        """Makes the block.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            num_heads: Number of heads.
            head_channels: As of
                [`WeightSpaceAttention`][wsl.nn.WeightSpaceAttention].
            expansion: Width of the perceptron, in multiples of the channels.
            key: Source of randomness.

        Raises:
            ValueError: If `channels` does not fit the space, a number is not positive,
                or the channels cannot be divided into heads.
        """
        if expansion < 1:
            raise ValueError(f"`expansion` must be positive; got {expansion}.")
        attention_key, hidden_key, readout_key = split(key, 3)
        counts = per_leaf(space, channels)
        self.space = space
        self.attention = WeightSpaceAttention(
            space,
            channels,
            num_heads,
            head_channels=head_channels,
            key=attention_key,
        )
        self.norms = (ChannelNorm(space, channels), ChannelNorm(space, channels))
        self.hidden = tuple(
            (fan_in(k, n, expansion * n), constant(0.0, expansion * n))
            for n, k in zip(counts, split(hidden_key, len(counts)), strict=True)
        )
        self.readout = tuple(
            (fan_in(k, expansion * n, n), constant(0.0, n))
            for n, k in zip(counts, split(readout_key, len(counts)), strict=True)
        )
        self.activation = Pointwise(jax.nn.gelu)

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Applies the block.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        attended = self.attention(self.norms[0](features))
        features = jax.tree.map(jnp.add, features, attended)
        leaves = self.space.cut_features(self.norms[1](features))
        hidden = self.space.join_features(_dense(leaves, self.hidden))
        leaves = self.space.cut_features(self.activation(hidden))
        result = self.space.join_features(_dense(leaves, self.readout))
        return jax.tree.map(jnp.add, features, result)


def _dense(
    leaves: list[Array], parameters: tuple[tuple[Array, Array], ...]
) -> list[Array]:
    mapped = []
    for x, (matrix, bias) in zip(leaves, parameters, strict=True):
        mapped.append(x @ matrix.astype(x.dtype) + like(bias, x))
    return mapped
