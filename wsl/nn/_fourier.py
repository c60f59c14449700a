"""Fourier features: of positions, and of the weights themselves."""

import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl.nn._draw import normal
from wsl.nn._dtypes import wide


def sinusoids(
    positions: np.ndarray, num_bands: int, max_frequency: float
) -> Float[Array, "size encoding"]:
    """Sines, cosines and the position itself (Jaegle et al. 2021, Perceiver).

    Args:
        positions: Numbers from -1 to 1, shape `(size,)`.
        num_bands: How many frequencies, evenly spaced from 1 to `max_frequency / 2`.
        max_frequency: Twice the highest.

    Returns:
        For each position `2 * num_bands + 1` numbers.
    """
    frequencies = np.linspace(1.0, max_frequency / 2, num_bands)
    phases = np.pi * positions[:, None] * frequencies
    parts = [np.sin(phases), np.cos(phases), positions[:, None]]
    return jnp.asarray(np.concatenate(parts, axis=-1), float)


@final
class GaussianFourierFeatures(eqx.Module):
    """Cosines and sines of random projections of each entry's channels.

    An entry with channels `x` becomes `[cos(2 pi B x), sin(2 pi B x)]`, with the
    entries of `B` normal with deviation `scale`. `B` is never trained. Small changes of
    a weight can then be seen by what follows.

    Source: Tancik et al. 2020 (Gaussian Fourier features); Zhou et al. 2023 (NFN) put
    them on weights, with 128 frequencies of scale 3.

    Attributes:
        frequencies: `B`, the same for all leaves.
    """

    frequencies: Float[Array, "num_frequencies channels"]

    def __init__(
        self,
        channels: int,
        num_frequencies: int = 128,
        scale: float = 3.0,
        *,
        key: PRNGKeyArray,
    ):
        """Draws the frequencies.

        Args:
            channels: Channels that go in.
            num_frequencies: Half the number of channels that come out.
            scale: Standard deviation of the frequencies, in periods per unit.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive.
        """
        if min(channels, num_frequencies) < 1 or scale <= 0:
            raise ValueError(
                f"Numbers must be positive; got channels={channels}, "
                f"num_frequencies={num_frequencies}, scale={scale}."
            )
        self.frequencies = normal(key, (num_frequencies, channels), scale)

    @property
    def out_channels(self) -> int:
        """Channels that come out: twice the number of frequencies."""
        return 2 * self.frequencies.shape[0]

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Encodes every entry.

        Args:
            features: Weight features, each leaf with the layer's number of channels.
            key: Not used.

        Returns:
            Features of `out_channels` channels.

        Raises:
            ValueError: If a leaf has another number of channels.
        """
        return jax.tree.map(self._encode, features)

    def _encode(self, leaf: Array) -> Array:
        channels = self.frequencies.shape[1]
        if leaf.ndim < 1 or leaf.shape[-1] != channels:
            raise ValueError(
                f"Expected features of {channels} channels; got shape {leaf.shape}."
            )
        # Phases are many periods: 16-bit numbers would not hold them.
        x = wide(leaf)
        frequencies = jax.lax.stop_gradient(self.frequencies).astype(x.dtype)
        phases = 2 * math.pi * (x @ frequencies.T)
        encoded = jnp.concatenate([jnp.cos(phases), jnp.sin(phases)], axis=-1)
        return encoded.astype(leaf.dtype)
