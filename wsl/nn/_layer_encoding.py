from collections.abc import Mapping
from typing import final, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._channels import by_path, per_leaf
from wsl.nn._dtypes import like
from wsl.nn._encoding import check_kind, draw_tables
from wsl.nn._fourier import sinusoids


@final
class LayerEncoding(eqx.Module):
    """Tells leaves apart: one vector for each, the same at all of its entries.

    Layers whose coefficients are shared over leaves need it; it breaks no symmetry.
    Learned encodings are added to the channels; sinusoidal ones, Fourier features of
    the leaf's position, are concatenated: `sin(pi f t)`, `cos(pi f t)` and `t`, with
    frequencies `f` from 1 to `max_frequency / 2`.

    Source: Zhou et al. 2023 (NFN, NFT); sinusoids as in Jaegle et al. 2021.

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf that go in.
        tables: For each leaf the learned vector, `(channels,)`; None for a sinusoidal
            encoding.
        positions: For each leaf its position, in a sinusoidal encoding.
        num_bands: Frequencies of a sinusoidal encoding.
        max_frequency: Twice the highest of them.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    tables: tuple[Float[Array, " _channels"], ...] | None
    positions: tuple[float, ...] = eqx.field(static=True)
    num_bands: int = eqx.field(static=True)
    max_frequency: float = eqx.field(static=True)

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        kind: Literal["learned", "sinusoidal"] = "learned",
        *,
        positions: Mapping[str, float] | None = None,
        num_bands: int = 6,
        max_frequency: float = 10.0,
        key: PRNGKeyArray | None = None,
    ):
        """Makes the encoding.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            kind: Learned or sinusoidal.
            positions: For a sinusoidal encoding, the position of each leaf by its path,
                best from -1 to 1. Evenly spaced over that in the order of flattening,
                unless given: then the weight and the bias of one layer differ.
            num_bands: Frequencies of a sinusoidal encoding.
            max_frequency: Twice the highest of them.
            key: Source of randomness, for a learned encoding.

        Raises:
            ValueError: If `positions` or `channels` do not fit the space, `kind` is
                neither, or a learned encoding has no key.
        """
        self.space = space
        self.channels = per_leaf(space, channels)
        paths = [leaf.path for leaf in space.leaves]
        if positions is None:
            spaced = np.linspace(-1.0, 1.0, len(paths)).tolist()
            positions = dict(zip(paths, spaced, strict=True))
        if positions.keys() != set(paths):
            raise ValueError(
                f"Give every leaf its position, by path: {paths}; got "
                f"{list(positions)}."
            )
        self.positions = tuple(
            float(positions[leaf.path])
            for leaf in space.leaves
            for _ in leaf.pieces or (leaf,)
        )
        self.num_bands = num_bands
        self.max_frequency = max_frequency
        self.tables = None
        if kind == "learned":
            drawn = draw_tables([[(count,)] for count in self.channels], key)
            self.tables = tuple(table for (table,) in drawn)
        else:
            check_kind(kind)

    @property
    def out_channels(self) -> dict[str, int]:
        """Channels of each leaf that come out, by path."""
        width = 2 * self.num_bands + 1 if self.tables is None else 0
        return by_path(self.space, [count + width for count in self.channels])

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Encodes.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features with [`out_channels`][wsl.nn.LayerEncoding.out_channels].

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        leaves = self.space.cut_features(features, self.channels)
        tables = self.tables
        if tables is None:
            at = np.asarray(self.positions)
            tables = sinusoids(at, self.num_bands, self.max_frequency)
        encoded = []
        for leaf, table in zip(leaves, tables, strict=True):
            shape = (*leaf.shape[:-1], table.shape[-1])
            laid = jnp.broadcast_to(like(table, leaf), shape)
            encoded.append(
                jnp.concatenate([leaf, laid], axis=-1)
                if self.tables is None
                else leaf + laid
            )
        return self.space.join_features(encoded)
