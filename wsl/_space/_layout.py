"""How layers look at weight features: what may move first, all the rest in channels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Array, Float

from wsl._space._axes import Slot


class Layout(NamedTuple):
    """The folded form of one leaf's features.

    An index that nothing may move is to a layer what a channel is. Folded features have
    one axis for each slot, in the order of `slots`, and a last one that runs over the
    fixed factors (row-major) and then over the channels.

    Attributes:
        slots: The factors that a group acts on, in the order of the axes.
        sizes: Sizes of all factors of all axes, in order.
        shape: Shape of the leaf.
    """

    slots: tuple[Slot, ...]
    sizes: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def slot_sizes(self) -> tuple[int, ...]:
        """Sizes of the slots: the shape of folded features without the channels."""
        return tuple(slot.size for slot in self.slots)

    @property
    def fixed(self) -> int:
        """Product of the sizes of the fixed factors."""
        return math.prod(self.sizes) // max(math.prod(self.slot_sizes), 1)

    @property
    def order(self) -> tuple[int, ...]:
        """Positions of all factors: the slots', then those of the fixed factors."""
        moving = [slot.dimension for slot in self.slots]
        return (*moving, *(d for d in range(len(self.sizes)) if d not in moving))

    def fold(self, features: Float[Array, "*shape channels"]) -> Float[Array, "..."]:
        """Brings a leaf's features to the folded form.

        Args:
            features: The leaf with one more axis, last.

        Returns:
            Features of shape `(*slot_sizes, fixed * channels)`.
        """
        return fold(features, self.sizes, self.order, self.slot_sizes, self.fixed)

    def unfold(self, folded: Float[Array, "..."]) -> Float[Array, "*shape channels"]:
        """Undoes [`fold`][wsl._space.Layout.fold].

        Args:
            folded: Features of shape `(*slot_sizes, fixed * channels)`.

        Returns:
            Features of the leaf's shape, with one more axis, last.
        """
        return unfold(folded, self.sizes, self.order, self.shape, self.fixed)


def fold(
    features: Array,
    sizes: Sequence[int],
    order: Sequence[int],
    front: Sequence[int],
    width: int,
) -> Array:
    """Brings the factors of a leaf into an order, as `(*front, width * channels)`."""
    channels = features.shape[-1]
    factors = features.reshape(*sizes, channels).transpose(*order, len(sizes))
    return factors.reshape(*front, width * channels)


def unfold(
    folded: Array,
    sizes: Sequence[int],
    order: Sequence[int],
    shape: Sequence[int],
    width: int,
) -> Array:
    """Undoes `fold`."""
    channels = folded.shape[-1] // width
    factors = folded.reshape(*(sizes[d] for d in order), channels)
    back = sorted(range(len(order)), key=order.__getitem__)
    return factors.transpose(*back, len(sizes)).reshape(*shape, channels)
