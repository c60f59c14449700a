"""The equivariant linear maps between leaves, as pooling and broadcasting patterns.

A map from one leaf to another that commutes with the group is a combination of terms,
one for each way to say which indices of input and output are equal: a partition of the
slots of both leaves whose blocks hold slots of one group. Seen from the input, a block
is averaged over or kept; seen from the output, it is broadcast over or carried. So a
term is a pattern of the input, a pattern of the output that keeps the same indices, and
a way to match the two.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from wsl._space import Layout, WeightSpace


class Index(NamedTuple):
    """One index of a tensor.

    Attributes:
        group: The group that acts on it.
        parent: For a nested group, which of the tensor's indices is that of its block;
            None otherwise.
    """

    group: str
    parent: int | None


Form: TypeAlias = tuple[Index, ...]
"""The indices of a tensor, in the order of its axes."""

Blocks: TypeAlias = tuple[tuple[int, ...], ...]
"""A partition of the indices of a form: which of them are equal."""


class Pattern(NamedTuple):
    """A way to pool a tensor, or to broadcast to it.

    Attributes:
        blocks: Which indices of the tensor are equal: its diagonal is read or written.
        kept: Which of these blocks are indices of the pooled tensor, in the order of
            its axes; the others are averaged over, or broadcast to.
    """

    blocks: Blocks
    kept: tuple[int, ...]


class Signature(NamedTuple):
    """Leaves with the same indices. They are pooled together, side by side in channels.

    Attributes:
        form: Their indices.
        sizes: How many values each index has.
        leaves: Which leaves.
        orders: For each leaf, which of its slots each index is.
    """

    form: Form
    sizes: tuple[int, ...]
    leaves: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...]


class Mix(NamedTuple):
    """All terms that carry the same indices.

    Attributes:
        form: The indices.
        inputs: What is pooled to this form: a signature and a pattern of it.
        outputs: What is broadcast from it.
    """

    form: Form
    inputs: tuple[tuple[int, Pattern], ...]
    outputs: tuple[tuple[int, Pattern], ...]


class Basis(NamedTuple):
    """The terms of a layer: in each mix all inputs with all outputs.

    Attributes:
        layouts: The folded form of every leaf.
        signatures: The leaves by their indices.
        mixes: The terms.
        constants: What a constant may be added to: the signatures, and the diagonals.
    """

    layouts: tuple[Layout, ...]
    signatures: tuple[Signature, ...]
    mixes: tuple[Mix, ...]
    constants: tuple[tuple[int, Pattern], ...]


def canonical_order(form: Form) -> tuple[int, ...]:
    """Positions of the indices, sorted, each after that of its block.

    Tensors with the same indices are equal in this order; ties stay as they are.
    """

    def below(block: int | None) -> list[int]:
        return [i for i, index in enumerate(form) if index.parent == block]

    def code(i: int) -> tuple:
        return form[i].group, tuple(sorted(map(code, below(i))))

    def walk(block: int | None) -> Iterator[int]:
        for i in sorted(below(block), key=code):
            yield i
            yield from walk(i)

    return tuple(walk(None))


def reorder(form: Form, order: Sequence[int]) -> Form:
    """The indices in another order, or those of them that `order` names."""
    place = {old: new for new, old in enumerate(order)}
    return tuple(
        Index(form[i].group, None if (up := form[i].parent) is None else place[up])
        for i in order
    )


class CommonOrders:
    """One order of the axes for all tensors with the same indices.

    It is that of the first tensor seen, so that most need no transposition.
    """

    def __init__(self):
        self._seen: dict[Form, Form] = {}

    def order(self, form: Form) -> tuple[int, ...]:
        """The positions of the indices in the common order."""
        canonical = canonical_order(form)
        common = self._seen.setdefault(reorder(form, canonical), form)
        place = dict(zip(canonical_order(common), canonical, strict=True))
        return tuple(place[i] for i in range(len(form)))


def partitions(form: Form) -> list[Blocks]:
    """All ways to say which indices are equal.

    Only indices of one group can be. Those of a nested group are different things in
    different blocks, so they can be equal only where their blocks are.
    """
    found: list[list[list[int]]] = [[]]
    for i in canonical_order(form):
        longer = []
        for blocks in found:
            block_of = _block_of(blocks)

            def place(j: int, block_of: Mapping[int, int] = block_of) -> tuple:
                parent = form[j].parent
                return form[j].group, None if parent is None else block_of[parent]

            for b, block in enumerate(blocks):
                if place(block[0]) == place(i):
                    longer.append([*blocks[:b], [*block, i], *blocks[b + 1 :]])
            longer.append([*blocks, [i]])
        found = longer
    return [tuple(sorted(tuple(sorted(block)) for block in blocks)) for blocks in found]


def patterns(form: Form) -> list[Pattern]:
    """All ways to pool a tensor of this form; an index is kept only with its block's.

    What they keep is in the order of the tensor's axes.
    """
    found = []
    for blocks in partitions(form):
        merged = merge(form, blocks)
        for count in range(len(blocks) + 1):
            for kept in itertools.combinations(range(len(blocks)), count):
                if all(merged[b].parent in (None, *kept) for b in kept):
                    found.append(Pattern(blocks, kept))
    return found


def merge(form: Form, blocks: Blocks) -> Form:
    """The indices of a diagonal."""
    block_of = _block_of(blocks)
    return tuple(
        Index(group, None if parent is None else block_of[parent])
        for group, parent in (form[block[0]] for block in blocks)
    )


def _block_of(blocks: Sequence[Sequence[int]]) -> dict[int, int]:
    """For each index its block."""
    return {member: b for b, block in enumerate(blocks) for member in block}


def symmetries(form: Form) -> list[tuple[int, ...]]:
    """All orders of the indices that leave the form as it is."""
    groups = {index.group: None for index in form}
    places = [[i for i, index in enumerate(form) if index.group == g] for g in groups]
    found = []
    for orders in itertools.product(*map(itertools.permutations, places)):
        new = dict(zip(itertools.chain(*places), itertools.chain(*orders), strict=True))
        order = tuple(new[i] for i in range(len(form)))
        if reorder(form, order) == form:
            found.append(order)
    return found


@functools.lru_cache(maxsize=256)
def find_basis(space: WeightSpace, *, near: bool = False) -> Basis:
    """The terms of a basis of equivariant linear maps.

    Args:
        space: The weight space.
        near: Whether to leave out the terms that carry no index, except to and from
            leaves in which nothing moves.

    Returns:
        The basis.
    """
    leaf_layouts = tuple(leaf.layout for leaf in space.pieces)
    orders = CommonOrders()
    signatures = _signatures(leaf_layouts, orders)
    inputs: dict[Form, list[tuple[int, Pattern]]] = {}
    outputs: dict[Form, list[tuple[int, Pattern]]] = {}
    for s, signature in enumerate(signatures):
        for blocks, kept in patterns(signature.form):
            merged = reorder(merge(signature.form, blocks), kept)
            order = orders.order(merged)
            form = reorder(merged, order)
            kept = tuple(kept[i] for i in order)
            outputs.setdefault(form, []).append((s, Pattern(blocks, kept)))
            for turn in symmetries(form):
                turned = Pattern(blocks, tuple(kept[i] for i in turn))
                inputs.setdefault(form, []).append((s, turned))
    mixes = []
    for form, out_of in outputs.items():
        if form or not near:
            mixes.append(Mix(form, tuple(inputs[form]), tuple(out_of)))
            continue
        for fixed in (True, False):
            into = inputs[form] if fixed else _still(signatures, inputs[form], True)
            part = _still(signatures, out_of, fixed)
            if into and part:
                mixes.append(Mix(form, tuple(into), tuple(part)))
    constants = tuple(outputs.get((), ()))
    return Basis(leaf_layouts, signatures, tuple(mixes), constants)


def _signatures(
    leaf_layouts: Sequence[Layout], orders: CommonOrders
) -> tuple[Signature, ...]:
    """The leaves by their indices, those in which nothing moves first."""
    found: dict[Form, list[tuple[int, tuple[int, ...]]]] = {}
    sizes = {}
    for leaf, layout in enumerate(leaf_layouts):
        indices = tuple(Index(slot.group, slot.parent) for slot in layout.slots)
        order = orders.order(indices)
        form = reorder(indices, order)
        sizes[form] = tuple(layout.slots[i].size for i in order)
        found.setdefault(form, []).append((leaf, order))
    return tuple(
        Signature(form, sizes[form], *zip(*members, strict=True))
        for form, members in sorted(found.items(), key=lambda item: item[0] != ())
    )


def _still(
    signatures: Sequence[Signature], ends: Sequence[tuple[int, Pattern]], still: bool
) -> list[tuple[int, Pattern]]:
    """Those in whose leaves nothing moves, or the others."""
    return [end for end in ends if (signatures[end[0]].form == ()) == still]
