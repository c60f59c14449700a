"""How layers look at weight features: what may move first, all the rest in channels."""

import math
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
        channels = features.shape[-1]
        factors = features.reshape(*self.sizes, channels)
        factors = factors.transpose(*self.order, len(self.sizes))
        return factors.reshape(*self.slot_sizes, self.fixed * channels)

    def unfold(self, folded: Float[Array, "..."]) -> Float[Array, "*shape channels"]:
        """Undoes [`fold`][wsl._space.Layout.fold].

        Args:
            folded: Features of shape `(*slot_sizes, fixed * channels)`.

        Returns:
            Features of the leaf's shape, with one more axis, last.
        """
        channels = folded.shape[-1] // self.fixed
        factors = folded.reshape(*(self.sizes[d] for d in self.order), channels)
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        factors = factors.transpose(*back, len(self.sizes))
        return factors.reshape(*self.shape, channels)
