from collections.abc import Mapping, Sequence
from typing import final, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._channels import by_path, per_leaf
from wsl.nn._draw import normal, split
from wsl.nn._fourier import sinusoids


# Of learned encodings at first: small beside features of order 1.
_INITIAL_SCALE = 0.02


@final
class IndexEncoding(eqx.Module):
    """Tells the indices of fixed axes apart: which input, which output.

    Needed where a layer works on a larger group than the model has, as do layers built
    on spaces from [`unfix`][wsl.WeightSpace.unfix]: they treat all inputs alike, and
    all outputs, until an encoding marks them. It goes along every part of an axis that
    has one of the names, on whatever leaf, so on a first layer along its columns and on
    a last one along its rows and its bias.

    Learned encodings are added to the channels: one vector for each index, for each
    axis of each leaf. Sinusoidal ones are concatenated: every leaf gets
    `2 * num_bands + 1` more channels for each name, zero where the leaf has no such
    axis. (For each time the name stands on one leaf, if some leaf has it several times,
    so that rows are told from columns.) Per index `i` of `n`, at `t` from -1 to 1, they
    are `sin(pi f t)`, `cos(pi f t)` and `t`, with frequencies `f` from 1 to
    `max_frequency / 2`.

    Source: Zhou et al. 2023 (NFN, NFT); sinusoids as in Jaegle et al. 2021. Those
    are added up over axes in NFN; here each axis has channels of its own.

    Examples:
        >>> import jax, jax.numpy as jnp, wsl
        >>> weights = {"w": jnp.zeros((4, 3))}
        >>> space = wsl.WeightSpace.from_spec(
        ...     weights, {"['w']": ("hidden", "input")}, fixed=["input"]
        ... )
        >>> encode = wsl.nn.IndexEncoding(space, ["input"], 1, "sinusoidal")
        >>> encode(wsl.nn.lift(space, weights))["w"].shape
        (4, 3, 14)
        >>> larger = space.unfix("input")  # for the layers that follow

    Attributes:
        space: The model's own space.
        names: Names whose indices are encoded.
        channels: Channels of each leaf that go in.
        tables: For each leaf, for each of its encoded factors, the learned vectors,
            `(size, channels)`; None for a sinusoidal encoding.
        num_bands: Frequencies of a sinusoidal encoding.
        max_frequency: Twice the highest of them.
    """

    space: WeightSpace = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    tables: tuple[tuple[Float[Array, "_size _channels"], ...], ...] | None
    num_bands: int = eqx.field(static=True)
    max_frequency: float = eqx.field(static=True)

    def __init__(
        self,
        space: WeightSpace,
        names: Sequence[str],
        channels: int | Mapping[str, int],
        kind: Literal["learned", "sinusoidal"] = "learned",
        *,
        num_bands: int = 6,
        max_frequency: float = 10.0,
        key: PRNGKeyArray | None = None,
    ):
        """Makes the encoding.

        Args:
            space: The model's own space, in which the names are fixed. Features of a
                released space have the same leaves and can be encoded by it.
            names: Names whose indices are encoded.
            channels: Channels of all leaves, or of each by its path.
            kind: Learned or sinusoidal.
            num_bands: Frequencies of a sinusoidal encoding.
            max_frequency: Twice the highest of them, in half periods over the axis.
            key: Source of randomness, for a learned encoding.

        Raises:
            ValueError: If a name is not fixed in the space (an encoding of indices that
                may move breaks the model's own symmetry), `channels` does not fit,
                `kind` is neither, or a learned encoding has no key.
        """
        for name in names:
            if name not in space.fixed:
                raise ValueError(
                    f"{name!r} is not fixed in this space; fixed: "
                    f"{sorted(space.fixed)}. An encoding of indices that may move "
                    "breaks the symmetry. For a released name, give the space from "
                    "before its release."
                )
        self.space = space
        self.names = tuple(dict.fromkeys(names))
        self.channels = per_leaf(space, channels)
        self.num_bands = num_bands
        self.max_frequency = max_frequency
        self.tables = None
        if kind == "learned":
            shapes = [
                [(space.index_sets[name], count) for _, name in self._encoded(i)]
                for i, count in enumerate(self.channels)
            ]
            self.tables = draw_tables(shapes, key)
        else:
            check_kind(kind)

    @property
    def out_channels(self) -> dict[str, int]:
        """Channels of each leaf that come out, by path."""
        width = 0
        if self.tables is None:
            width = len(self._blocks()) * (2 * self.num_bands + 1)
        return by_path(self.space, [count + width for count in self.channels])

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Encodes.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features with [`out_channels`][wsl.nn.IndexEncoding.out_channels].

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        leaves = self.space.cut_features(features, self.channels)
        encoded = []
        for i, leaf in enumerate(leaves):
            laid = [
                self._along(i, dimension, table, leaf)
                for (dimension, _), table in zip(
                    self._encoded(i), self._tables(i), strict=True
                )
            ]
            if self.tables is not None:
                encoded.append(sum(laid, start=leaf))
                continue
            along = dict(zip(self._leaf_blocks(i), laid, strict=True))
            empty = jnp.zeros((*leaf.shape[:-1], 2 * self.num_bands + 1), leaf.dtype)
            parts = [along.get(block, empty) for block in self._blocks()]
            encoded.append(jnp.concatenate([leaf, *parts], axis=-1))
        return self.space.join_features(encoded)

    def _encoded(self, i: int) -> list[tuple[int, str]]:
        """Positions and names of the encoded factors of one leaf."""
        factors = self.space.pieces[i].factors
        return [
            (dimension, factor.name)
            for dimension, factor in enumerate(factors)
            if factor.name in self.names
        ]

    def _leaf_blocks(self, i: int) -> list[tuple[str, int]]:
        """For each encoded factor of one leaf, the name and the how-manieth it is."""
        names = [name for _, name in self._encoded(i)]
        return [(name, names[:at].count(name)) for at, name in enumerate(names)]

    def _blocks(self) -> list[tuple[str, int]]:
        found = [b for i in range(len(self.channels)) for b in self._leaf_blocks(i)]
        return sorted(set(found), key=lambda b: (self.names.index(b[0]), b[1]))

    def _tables(self, i: int) -> list[Array]:
        if self.tables is not None:
            return list(self.tables[i])
        return [
            sinusoids(
                np.linspace(-1.0, 1.0, self.space.index_sets[name]),
                self.num_bands,
                self.max_frequency,
            )
            for _, name in self._encoded(i)
        ]

    def _along(self, i: int, dimension: int, table: Array, leaf: Array) -> Array:
        """A table laid along one factor of a leaf, the same at all other indices."""
        sizes = self.space.pieces[i].layout.sizes
        width = table.shape[-1]
        shape = [1] * len(sizes)
        shape[dimension] = sizes[dimension]
        laid = table.astype(leaf.dtype).reshape(*shape, width)
        laid = jnp.broadcast_to(laid, (*sizes, width))
        return laid.reshape(*leaf.shape[:-1], width)


def check_kind(kind: str) -> None:
    """Raises if an encoding that is not learned is not sinusoidal either."""
    if kind != "sinusoidal":
        raise ValueError(f'`kind` must be "learned" or "sinusoidal"; got {kind!r}.')


def draw_tables(
    shapes: Sequence[Sequence[tuple[int, ...]]], key: PRNGKeyArray | None
) -> tuple[tuple[Array, ...], ...]:
    """Learned vectors as they are at first, for each leaf those of the shapes given."""
    if key is None:
        raise ValueError("A learned encoding needs a key.")
    keys = iter(split(key, sum(map(len, shapes))))
    return tuple(
        tuple(normal(next(keys), shape, _INITIAL_SCALE) for shape in leaf)
        for leaf in shapes
    )
