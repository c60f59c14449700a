"""Message passing that commutes with the rescaling of neurons (ScaleGMN)."""

from collections.abc import Mapping
from typing import final, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.nn._draw import split
from wsl.nn._graph._ops import align, pass_through
from wsl.nn._graph._scale_mlp import RescaleEquivariant, ScaleEquivariantMLP
from wsl.nn._graph._scale_pool import (
    concatenate,
    end_states,
    mean_of,
    ScaleInvariantPool,
)
from wsl.nn._graph._scale_states import (
    bound_states,
    ScaleGraphFeatures,
    ScaleGraphInput,
    ScaleGraphOutput,
)
from wsl.nn._graph._scale_symmetry import join_kinds, ScaleKind, ScaleSymmetry


class _EdgeUpdate(eqx.Module):
    """Messages of one leaf, and the update of its edges."""

    carry: RescaleEquivariant
    forward: ScaleEquivariantMLP
    carry_back: RescaleEquivariant | None
    backward: ScaleEquivariantMLP | None
    outer: RescaleEquivariant
    update: ScaleEquivariantMLP

    def __init__(
        self,
        target: ScaleKind,
        source: ScaleKind,
        channels: int,
        hidden: int,
        bidirectional: bool,
        *,
        floor: float,
        key: PRNGKeyArray,
    ):
        keys = split(key, 6)
        two = 2 * channels
        self.carry = RescaleEquivariant([channels] * 2, channels, key=keys[0])
        self.forward = ScaleEquivariantMLP(
            two, channels, hidden, target, floor=floor, key=keys[1]
        )
        self.carry_back, self.backward = None, None
        if bidirectional:
            self.carry_back = RescaleEquivariant([channels] * 2, channels, key=keys[2])
            self.backward = ScaleEquivariantMLP(
                two, channels, hidden, source, floor=floor, key=keys[3]
            )
        self.outer = RescaleEquivariant([channels] * 2, channels, key=keys[4])
        self.update = ScaleEquivariantMLP(
            two,
            channels,
            hidden,
            join_kinds(target, source),
            others=[
                (channels, target),
                (channels, target),
                (channels, source),
                (channels, source),
                (channels, "none"),
            ],
            floor=floor,
            key=keys[5],
        )


class _NodeUpdate(eqx.Module):
    """Updates of one node set: of nodes and of duals."""

    pairing: RescaleEquivariant
    nodes: ScaleEquivariantMLP
    duals: ScaleEquivariantMLP

    def __init__(
        self,
        kind: ScaleKind,
        channels: int,
        hidden: int,
        *,
        floor: float,
        key: PRNGKeyArray,
    ):
        pair_key, node_key, dual_key = split(key, 3)
        self.pairing = RescaleEquivariant([channels] * 2, channels, key=pair_key)

        def equivariant(key: PRNGKeyArray) -> ScaleEquivariantMLP:
            return ScaleEquivariantMLP(
                2 * channels,
                channels,
                hidden,
                kind,
                others=[(2 * channels, kind), (channels, "none"), (channels, "none")],
                floor=floor,
                key=key,
            )

        self.nodes, self.duals = equivariant(node_key), equivariant(dual_key)


@final
class ScaleMessagePassing(eqx.Module):
    """One round of messages that commutes with the rescaling of neurons.

    States rescale as [`ScaleGraphFeatures`][wsl.nn.ScaleGraphFeatures] says: nodes
    `x_i` with `q_i`, their duals `y_i` with `1 / q_i`, edges `e_ij` with `q_i / q_j`.
    With the maps [`ScaleEq`][wsl.nn.ScaleEquivariantMLP] and
    [`ReScaleEq`][wsl.nn.RescaleEquivariant], every leaf and node set with
    coefficients of its own, and `[a, b]` a concatenation of what has one multiplier:

        m_i   = mean_j ScaleEq([x_i, ReScaleEq(e_ij, x_j)])    (forward)
        n_j   = mean_i ScaleEq([y_j, ReScaleEq(e_ij, y_i)])    (backward)
        x_i  <- x_i + ScaleEq([x_i, m_i]; [y_i, n_i], x_i * y_i, u)
        y_i  <- y_i + ScaleEq([y_i, n_i]; [x_i, m_i], x_i * y_i, u)
        e_ij <- e_ij + ScaleEq([e_ij, ReScaleEq(x_i, y_j)]; x_i, y_i, x_j, y_j, u)
        u    <- u + MLP(mean of ScaleInv(x_i, y_i, x_i * y_i), u)

    where the products `x_i * y_i`, after a matrix each, are invariant, and enter as
    `asinh` of themselves. The forward variant leaves the backward messages out. States
    that no positive multiplier acts on are bounded on the right hand sides, by
    `x / sqrt(1 + mean(x ** 2))` over channels.

    Backward messages differ from the paper's. There a node has one state, and what goes
    back along an edge must go from `q_i` to `q_j`: edges get a second feature, the
    reciprocal of the weight, which has no bound near 0 and is not defined at it. Here
    the duals carry what goes back, as in back-propagation: `e_ij y_i` rescales with
    `(q_i / q_j) / q_i = 1 / q_j`, as `y_j` does. No weight is ever divided by. Pairs
    `x_i * y_i` also give every neuron invariants that involve both its sides.

    Source: Kalogeropoulos et al. 2024: the layers of ScaleGMN and of
    ScaleGMN-B, with duals in place of reciprocal edges.

    Attributes:
        symmetry: The symmetry.
        edge_updates: For each leaf with two ends, by its path.
        node_updates: For each node set, by its label.
        pool: For the update of `u`.
        bidirectional: Whether messages also go backward.
        aggregation: How messages are put together.
    """

    symmetry: ScaleSymmetry = eqx.field(static=True)
    edge_updates: dict[str, _EdgeUpdate]
    node_updates: dict[str, _NodeUpdate]
    pool: ScaleInvariantPool
    bidirectional: bool = eqx.field(static=True)
    aggregation: Literal["mean", "sum"] = eqx.field(static=True)

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        channels: int,
        *,
        hidden_channels: int | None = None,
        bidirectional: bool = True,
        aggregation: Literal["mean", "sum"] = "mean",
        floor: float = 0.0,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry, and with it the space.
            channels: Channels of all states on the graph.
            hidden_channels: Width of the MLPs' hidden layers; by default `channels`.
            bidirectional: Whether messages also go backward, from outputs to inputs.
            aggregation: Mean or sum of the messages over the edges of a leaf.
            floor: Shortest length that vectors are divided by: see
                [`canonicalise`][wsl.nn.canonicalise].
            key: Source of randomness.

        Raises:
            ValueError: If a number of channels is not positive, the floor is negative
                or the aggregation is neither.
        """
        hidden = channels if hidden_channels is None else hidden_channels
        check_positive(channels=channels, hidden_channels=hidden)
        if aggregation not in ("mean", "sum"):
            raise ValueError(
                f'`aggregation` must be "mean" or "sum"; got {aggregation!r}.'
            )
        self.symmetry = symmetry
        edge_key, node_key, pool_key = split(key, 3)
        graph = symmetry.graph
        self.edge_updates = {
            one.path: _EdgeUpdate(
                symmetry.kind(one.ends[0]),
                symmetry.kind(one.ends[1]),
                channels,
                hidden,
                bidirectional,
                floor=floor,
                key=k,
            )
            for one, k in zip(
                graph.edges, split(edge_key, len(graph.edges)), strict=True
            )
        }
        self.node_updates = {
            one.label: _NodeUpdate(
                symmetry.kind(one.label), channels, hidden, floor=floor, key=k
            )
            for one, k in zip(
                graph.node_sets, split(node_key, len(graph.node_sets)), strict=True
            )
        }
        self.pool = ScaleInvariantPool(
            symmetry, channels, channels, with_edges=False, floor=floor, key=pool_key
        )
        self.bidirectional = bidirectional
        self.aggregation = aggregation

    def __call__(
        self, graph: ScaleGraphFeatures, *, key: PRNGKeyArray | None = None
    ) -> ScaleGraphFeatures:
        """Passes messages.

        Args:
            graph: States on the graph, with as many channels everywhere as the layer.
            key: Not used.

        Returns:
            States of the same shapes.
        """
        before, graph = graph, bound_states(self.symmetry, graph)
        to_nodes: dict[str, list[Array]] = {label: [] for label in graph.nodes}
        to_duals: dict[str, list[Array]] = {label: [] for label in graph.nodes}
        pool = jnp.mean if self.aggregation == "mean" else jnp.sum
        edges = {}
        for one in self.symmetry.graph.edges:
            update, e = self.edge_updates[one.path], graph.edges[one.path]
            target, source = one.ends
            x_i, x_j, y_i, y_j = end_states(graph, one)
            message = update.forward(concatenate(x_i, update.carry(e, x_j)))
            to_nodes[target].append(pool(message, 1))
            if update.carry_back is not None and update.backward is not None:
                message = update.backward(concatenate(y_j, update.carry_back(e, y_i)))
                to_duals[source].append(pool(message, 0))
            edges[one.path] = before.edges[one.path] + update.update(
                concatenate(e, update.outer(x_i, y_j)),
                *(x_i, y_i, x_j, y_j, align(graph.globals, (), 2)),
            )
        nodes, duals = {}, {}
        for label, update in self.node_updates.items():
            x, y = graph.nodes[label], graph.duals[label]
            from_x = concatenate(x, mean_of(to_nodes[label], jnp.zeros_like(x)))
            from_y = concatenate(y, mean_of(to_duals[label], jnp.zeros_like(y)))
            pairs = jnp.arcsinh(update.pairing(x, y))
            whole = align(graph.globals, (), 1)
            nodes[label] = before.nodes[label] + update.nodes(
                from_x, from_y, pairs, whole
            )
            duals[label] = before.duals[label] + update.duals(
                from_y, from_x, pairs, whole
            )
        return ScaleGraphFeatures(
            nodes, duals, edges, before.globals + self.pool(before)
        )


@final
class ScaleGraphNetwork(eqx.Module):
    """A message-passing network that commutes with permuting and rescaling neurons.

    From weight features that rescale as the weights do to others that do:
    [`ScaleGraphInput`][wsl.nn.ScaleGraphInput], some
    [`ScaleMessagePassing`][wsl.nn.ScaleMessagePassing] and
    [`ScaleGraphOutput`][wsl.nn.ScaleGraphOutput], in this order.

    Source: Kalogeropoulos et al. 2024: ScaleGMN and, bidirectional, ScaleGMN-B.

    Attributes:
        lift: From features to states.
        layers: Rounds of messages.
        lower: From states to features.
    """

    lift: ScaleGraphInput
    layers: tuple[ScaleMessagePassing, ...]
    lower: ScaleGraphOutput

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        in_channels: int | Mapping[str, int],
        out_channels: int | Mapping[str, int],
        *,
        hidden_channels: int = 32,
        num_layers: int = 3,
        bidirectional: bool = True,
        aggregation: Literal["mean", "sum"] = "mean",
        floor: float = 0.0,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry, and with it the space.
            in_channels: Channels of all leaves of the input, or of each by its path.
            out_channels: Likewise of the output.
            hidden_channels: Channels of all states on the graph.
            num_layers: How many rounds of messages. In each, states are multiplied with
                each other: with many rounds, six or more, they may grow large.
            bidirectional: Whether messages also go backward.
            aggregation: Mean or sum of the messages.
            floor: Shortest length that vectors are divided by.
            key: Source of randomness.

        Raises:
            ValueError: If a number of channels does not fit, `num_layers` or the floor
                is negative, or the aggregation is neither.
        """
        if num_layers < 0:
            raise ValueError(f"`num_layers` must be 0 or more; got {num_layers}.")
        first, last, *keys = split(key, num_layers + 2)
        self.lift = ScaleGraphInput(symmetry, in_channels, hidden_channels, key=first)
        self.layers = tuple(
            ScaleMessagePassing(
                symmetry,
                hidden_channels,
                bidirectional=bidirectional,
                aggregation=aggregation,
                floor=floor,
                key=layer_key,
            )
            for layer_key in keys
        )
        self.lower = ScaleGraphOutput(symmetry, hidden_channels, out_channels, key=last)

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Applies the network.

        Args:
            features: Weight features with `in_channels` channels.
            key: Not used.

        Returns:
            Weight features with `out_channels` channels, of the same dtypes.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        return pass_through(self.lift, self.layers, self.lower, features)
