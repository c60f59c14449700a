"""The parameter graph of a weight space: units are nodes, weights are edges."""

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from wsl._space import (
    ancestors,
    Factor,
    find_slots,
    fold,
    GroupElement,
    Leaf,
    permute_leaf,
    unfold,
    WeightSpace,
)


class NodeSet(NamedTuple):
    """Nodes of one kind: the indices of a name, or the tuples of indices of several.

    Attributes:
        names: Names of index sets, in the order of the space's `index_sets`.
        sizes: Their sizes.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def label(self) -> str:
        """The names as one."""
        return " x ".join(self.names)

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return math.prod(self.sizes)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The set as the factors of an axis."""
        return tuple(map(Factor, self.sizes, self.names))


class Incidence(NamedTuple):
    """How one leaf lies on the graph.

    Attributes:
        path: The leaf's path.
        shape: Its shape.
        ends: Labels of the node sets it connects. None: a number of the whole graph's.
            One: a number for each node. Two: a dense block of edges, target first.
            More: hyperedges.
        target: Whether the first end is where signals arrive. True for two ends; for
            one (`W x` with nothing named in its result) it may be where they leave.
        factors: Sizes of all factors of the leaf's axes.
        order: Positions of all factors: those of the ends, then the nameless.
        sizes: How many nodes each end has.
    """

    path: str
    shape: tuple[int, ...]
    ends: tuple[str, ...]
    target: bool
    factors: tuple[int, ...]
    order: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many weights lie on each edge: the product of the nameless factors."""
        return math.prod(self.shape) // max(math.prod(self.sizes), 1)

    def fold(self, features: Float[Array, "*shape channels"]) -> Float[Array, "..."]:
        """Brings a leaf's features to the form `(*sizes, width * channels)`.

        Args:
            features: The leaf with one more axis, last.

        Returns:
            One axis for each end, and a last one over nameless factors and channels.
        """
        return fold(features, self.factors, self.order, self.sizes, self.width)

    def unfold(self, folded: Float[Array, "..."]) -> Float[Array, "*shape channels"]:
        """Undoes [`fold`][wsl.nn.Incidence.fold].

        Args:
            folded: Features of the form `(*sizes, width * channels)`.

        Returns:
            Features of the leaf's shape, with one more axis, last.
        """
        return unfold(folded, self.factors, self.order, self.shape, self.width)


class Containment(NamedTuple):
    """That every node of one set belongs to a node of another, as units do to heads.

    Attributes:
        whole: Label of the set of tuples.
        part: Label of the set of their parts.
        axes: Which entries of the tuples are the part.
    """

    whole: str
    part: str
    axes: tuple[int, ...]


@final
class GraphFeatures(eqx.Module):
    """Features on a parameter graph, channels last.

    Attributes:
        nodes: For each node set, by its label, `(size, channels)`.
        edges: For each leaf with two ends or more, by its path, `(*sizes, channels)`.
        globals: Features of the graph as a whole, `(channels,)`.
    """

    nodes: dict[str, Float[Array, "_ _"]]
    edges: dict[str, Float[Array, "..."]]
    globals: Float[Array, " _"]


@dataclasses.dataclass(frozen=True)
class ParameterGraph:
    """The graph whose nodes are the indices of a weight space.

    Every name of the space, moving or fixed, is a set of nodes: the inputs, the units
    of each layer, the outputs. Every leaf lies on the sets that its axes name:

    - two axes: edges between two sets, or inside one (recurrent weights);
    - one (biases, scales): features of its nodes;
    - none: features of the graph;
    - three or more: hyperedges, one for each tuple of nodes.

    An axis that is a product of names (the channels times the pixels of a flattened
    feature map) is a set of its own, whose nodes are tuples; a nested name always is
    joined to that of its block, on whatever axis it stands. Such a set *contains* the
    sets of its parts, so that what is known of a channel reaches its pixels. Factors
    without a name become channels.

    The first named axis is the target of an edge and the second its source, as in
    Equinox (a linear layer's weight is `(out, in)`, a convolution's `(out, in, ...)`);
    leaves that multiply from the other side are listed in `transposed`. Edges are
    dense, a block for each leaf: the structure comes from the space alone, never from
    the values, so that a weight that is exactly zero is an edge like any other.

    Source: Lim et al. 2023 (graph metanetworks), Kofinas et al. 2024 (neural graphs).

    Attributes:
        space: The space.
        transposed: Paths of the leaves whose first named axis is the source.
        node_sets: All sets of nodes.
        incidences: For each leaf of the space, where it lies.
        containments: Which sets belong to which.
    """

    space: WeightSpace
    transposed: frozenset[str]
    node_sets: tuple[NodeSet, ...]
    incidences: tuple[Incidence, ...]
    containments: tuple[Containment, ...]

    @classmethod
    def from_space(
        cls, space: WeightSpace, *, transposed: Collection[str] = ()
    ) -> "ParameterGraph":
        """Builds the graph.

        Args:
            space: The space.
            transposed: Paths of leaves whose first named axis is the source of their
                edges, not the target: `x @ w` with `w` of shape `(in, out)`.

        Returns:
            The graph.

        Raises:
            ValueError: If `transposed` names a path that the space does not have.
        """
        paths = [leaf.path for leaf in (*space.leaves, *space.pieces)]
        unknown = [path for path in transposed if path not in paths]
        if unknown:
            raise ValueError(
                f"`transposed` names {unknown}, which the space does not have. Its "
                f"leaves: {paths}."
            )
        found = {}
        incidences = []
        pairs = [(w, leaf) for w in space.leaves for leaf in w.pieces or (w,)]
        for whole, leaf in pairs:
            reverse = whole.path in transposed or leaf.path in transposed
            sets, incidence = _incidence(space, leaf, reverse)
            found.update({one.label: one for one in sets})
            incidences.append(incidence)
        containments = []
        pending = list(found.values())
        while pending:
            whole = pending.pop(0)
            for part, axes in _parts(space, whole):
                containments.append(Containment(whole.label, part.label, axes))
                if part.label not in found:
                    found[part.label] = part
                    pending.append(part)
        return cls(
            space,
            frozenset(transposed),
            tuple(found.values()),
            tuple(incidences),
            tuple(containments),
        )

    @property
    def edges(self) -> tuple[Incidence, ...]:
        """The leaves with two ends or more."""
        return tuple(one for one in self.incidences if len(one.ends) > 1)

    def to_graph(self, features: PyTree) -> GraphFeatures:
        """Lays weight features on the graph.

        Args:
            features: Weight features of the space.

        Returns:
            On each node the channels of all leaves with one end there, leaf after leaf
            (no channels where there are none); the leaves with more on the edges; those
            with none together as globals. All in the promoted dtype.

        Raises:
            ValueError: If the features are not of the space.
        """
        leaves = self.space.cut_features(features)
        # The casts are explicit, so strict promotion need not forbid them.
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*leaves) if leaves else jnp.result_type(float)
        nodes = {one.label: [jnp.zeros((one.size, 0), dtype)] for one in self.node_sets}
        edges, whole = {}, [jnp.zeros((0,), dtype)]
        for leaf, incidence in zip(leaves, self.incidences, strict=True):
            folded = incidence.fold(leaf.astype(dtype))
            if len(incidence.ends) > 1:
                edges[incidence.path] = folded
            else:
                at = nodes[incidence.ends[0]] if incidence.ends else whole
                at.append(folded)
        joined = {label: jnp.concatenate(x, axis=-1) for label, x in nodes.items()}
        return GraphFeatures(joined, edges, jnp.concatenate(whole))

    def to_features(self, graph: GraphFeatures, channels: Sequence[int]) -> PyTree:
        """Undoes [`to_graph`][wsl.nn.ParameterGraph.to_graph].

        Args:
            graph: Features on the graph.
            channels: Channels of each leaf of the space.

        Returns:
            Weight features of the space.
        """
        taken = dict.fromkeys([*(one.label for one in self.node_sets), ""], 0)
        pairs = zip(self.space.leaves, channels, strict=True)
        counts = [count for leaf, count in pairs for _ in leaf.pieces or (leaf,)]
        leaves = []
        for incidence, count in zip(self.incidences, counts, strict=True):
            if len(incidence.ends) > 1:
                folded = graph.edges[incidence.path]
            else:
                label = incidence.ends[0] if incidence.ends else ""
                start, taken[label] = (
                    taken[label],
                    taken[label] + incidence.width * count,
                )
                held = graph.nodes[label] if incidence.ends else graph.globals
                folded = held[..., start : taken[label]]
            leaves.append(incidence.unfold(folded))
        return self.space.join_features(leaves)

    def permute(self, graph: GraphFeatures, element: GroupElement) -> GraphFeatures:
        """Acts on the nodes with a group element, and on the edges with them.

        Args:
            graph: Features on the graph.
            element: A permutation for each group of the space.

        Returns:
            The permuted features.
        """
        sets = {one.label: one for one in self.node_sets}

        def move(x: Array, ends: Sequence[str]) -> Array:
            axes = tuple(sets[end].factors for end in ends)
            nested = dict(self.space.nested)
            slots = find_slots(str(ends), axes, self.space.fixed, nested)
            return permute_leaf(x, axes, slots, element)

        return GraphFeatures(
            {label: move(x, (label,)) for label, x in graph.nodes.items()},
            {one.path: move(graph.edges[one.path], one.ends) for one in self.edges},
            graph.globals,
        )


def _incidence(
    space: WeightSpace, leaf: Leaf, transposed: bool
) -> tuple[list[NodeSet], Incidence]:
    path, shape, slots = leaf.path, leaf.shape, leaf.slots
    factors = [
        (axis, factor) for axis, factors in enumerate(leaf.axes) for factor in factors
    ]
    # Factors of one axis are one end; a nested one joins the end of its block.
    end_of = {d: axis for d, (axis, f) in enumerate(factors) if f.name is not None}
    for slot in slots:
        if slot.parent is not None:
            source, goal = end_of[slot.dimension], end_of[slots[slot.parent].dimension]
            end_of = {d: goal if end == source else end for d, end in end_of.items()}
    rank = {name: i for i, name in enumerate(space.index_sets)}
    ends = sorted(set(end_of.values()))
    target = bool(ends) and (len(ends) > 1 or (ends[0] == 0) != transposed)
    if transposed and len(ends) > 1:
        ends.reverse()
    dimensions, sets = [], []
    for end in ends:
        mine = [d for d in end_of if end_of[d] == end]
        mine.sort(key=lambda d: rank[str(factors[d][1].name)])
        dimensions += mine
        sets.append(
            NodeSet(
                tuple(str(factors[d][1].name) for d in mine),
                tuple(factors[d][1].size for d in mine),
            )
        )
    order = (*dimensions, *(d for d in range(len(factors)) if d not in end_of))
    return sets, Incidence(
        path,
        shape,
        tuple(one.label for one in sets),
        target,
        tuple(factor.size for _, factor in factors),
        order,
        tuple(one.size for one in sets),
    )


def _parts(space: WeightSpace, whole: NodeSet) -> list[tuple[NodeSet, tuple[int, ...]]]:
    """Each name of a product by itself, with the blocks that it lives in."""
    if len(whole.names) < 2:
        return []
    nested = dict(space.nested)
    parts = []
    for i, name in enumerate(whole.names):
        blocks = [whole.names.index(block) for block in ancestors(name, nested)]
        axes = tuple(sorted({*blocks, i}))
        if len(axes) < len(whole.names):
            names = tuple(whole.names[axis] for axis in axes)
            sizes = tuple(whole.sizes[axis] for axis in axes)
            parts.append((NodeSet(names, sizes), axes))
    return parts
