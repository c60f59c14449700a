"""Message passing on the parameter graph."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive, WeightSpace
from wsl.nn._draw import constant, fan_in, split
from wsl.nn._graph._ops import (
    add,
    align,
    contained,
    pass_through,
    rms_norm,
)
from wsl.nn._graph._parameter_graph import GraphFeatures, ParameterGraph
from wsl.nn._graph._states import GraphInput, GraphOutput


Aggregation = Literal["mean", "sum"]


class _Update(eqx.Module):
    """`outs[k]` of `act(sum of linear maps of the inputs + offset)`."""

    ins: tuple[Float[Array, "_ _"], ...]
    offset: Float[Array, " _"]
    outs: tuple[Float[Array, "_ _"], ...]

    def __init__(
        self,
        num_in: int,
        num_out: int,
        channels: int,
        hidden: int,
        *,
        key: PRNGKeyArray,
    ):
        keys = split(key, num_in + num_out)
        gain = math.sqrt(2 / num_in)  # inputs are summed, and the activation halves
        self.ins = tuple(fan_in(k, channels, hidden, gain) for k in keys[:num_in])
        self.offset = constant(0.0, hidden)
        self.outs = tuple(fan_in(k, hidden, channels) for k in keys[num_in:])

    def hidden(self, act: Callable[[Array], Array], *inputs: Array) -> Array:
        # Each input is mixed before it is broadcast against the others.
        mixed = [x @ w for x, w in zip(inputs, self.ins, strict=True)]
        return act(add(sum(mixed[1:], mixed[0]), self.offset))


@final
class MessagePassing(eqx.Module):
    """One round of messages along the edges of the parameter graph.

    With states `x_i` of nodes, `e_ij` of the edge from node `j` to node `i` and `u` of
    the graph, every MLP `phi` with one hidden layer, and every leaf and node set with
    MLPs of its own (or `tied`: shared by all of the same kind):

        e_ij <- e_ij + phi_e(e_ij, x_i, x_j, u)
        x_i  <- x_i + phi_v(x_i, m_i, p_i, w_i, u)
        m_i  =  mean over leaves and edges of phi_in(e_ij, x_i, x_j, u) at targets,
                of phi_out(...) at sources
        u    <- u + phi_u(u, mean of x, mean of phi_u'(e_ij, ...))

    The MLPs of one edge share their hidden layer, and their last matrix, being linear,
    is applied after the mean. `p_i` and `w_i` are the mean states of the nodes that
    node `i` contains or belongs to ([`Containment`][wsl.nn.Containment]). MLPs see
    states divided by their root mean square over channels (Zhang and Sennrich 2019),
    which keeps deep stacks stable. A leaf with three axes or more sends a
    message to each of its ends, from all tuples of nodes at the others.

    The mean over edges keeps the scale of messages when networks are wider than those
    trained on; a sum does not. No edge is masked, not even where a weight is zero.

    Source: Lim et al. 2023 (the update of Battaglia et al.
    2018, algorithm 1), with a residual connection and directions told apart.

    Attributes:
        graph: The parameter graph.
        edge_updates: For each kind of edge.
        node_updates: For each kind of node.
        global_update: For the graph.
        kinds: Which of `edge_updates` each leaf of `graph.edges` has.
        aggregation: How messages are put together.
        activation: Of the hidden layers.
    """

    graph: ParameterGraph = eqx.field(static=True)
    edge_updates: tuple[_Update, ...]
    node_updates: tuple[_Update, ...]
    global_update: _Update
    kinds: tuple[int, ...] = eqx.field(static=True)
    aggregation: Aggregation = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        space: WeightSpace,
        channels: int,
        *,
        hidden_channels: int | None = None,
        aggregation: Aggregation = "mean",
        tied: bool = False,
        activation: Callable[[Array], Array] = jax.nn.silu,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: Space of the features.
            channels: Channels of all states on the graph.
            hidden_channels: Width of the MLPs' hidden layers; by default `channels`.
            aggregation: Mean or sum of the messages.
            tied: Share MLPs over all leaves with as many ends, and over all node sets,
                so that the number of parameters does not grow with the network.
            activation: Of the hidden layers.
            key: Source of randomness.

        Raises:
            ValueError: If a number of channels is not positive or the aggregation is
                neither.
        """
        hidden = channels if hidden_channels is None else hidden_channels
        check_positive(channels=channels, hidden_channels=hidden)
        if aggregation not in ("mean", "sum"):
            raise ValueError(
                f'`aggregation` must be "mean" or "sum"; got {aggregation!r}.'
            )
        self.graph = ParameterGraph.from_space(space)
        arities = [len(one.ends) for one in self.graph.edges]
        owners = sorted(set(arities)) if tied else arities
        self.kinds = tuple(
            owners.index(arity) if tied else i for i, arity in enumerate(arities)
        )
        edge_key, node_key, global_key = split(key, 3)
        # In: the edge, its ends, the graph. Out: the edge, its ends, the graph.
        self.edge_updates = tuple(
            _Update(n + 2, n + 2, channels, hidden, key=k)
            for k, n in zip(split(edge_key, len(owners)), owners, strict=True)
        )
        node_kinds = self.graph.node_sets[: 1 if tied else None]
        self.node_updates = tuple(
            _Update(5, 1, channels, hidden, key=k)
            for k in split(node_key, len(node_kinds))
        )
        self.global_update = _Update(3, 1, channels, hidden, key=global_key)
        self.aggregation = aggregation
        self.activation = activation

    def __call__(
        self, graph: GraphFeatures, *, key: PRNGKeyArray | None = None
    ) -> GraphFeatures:
        """Passes messages.

        Args:
            graph: States on the graph, with as many channels everywhere as the layer.
            key: Not used.

        Returns:
            States of the same shapes.
        """
        normed = jax.tree.map(rms_norm, graph)
        zero = jnp.zeros_like(graph.globals)
        nodes, u = normed.nodes, normed.globals
        messages: dict[str, list[Array]] = {label: [] for label in nodes}
        edges, from_edges = {}, []
        for incidence, kind in zip(self.graph.edges, self.kinds, strict=True):
            update, rank = self.edge_updates[kind], len(incidence.ends)
            states = [
                align(nodes[end], (a,), rank) for a, end in enumerate(incidence.ends)
            ]
            e = normed.edges[incidence.path]
            hidden = update.hidden(self.activation, e, *states, align(u, (), rank))
            out, *to_ends, to_graph = update.outs
            edges[incidence.path] = graph.edges[incidence.path] + hidden @ out
            for a, (end, weight) in enumerate(
                zip(incidence.ends, to_ends, strict=True)
            ):
                others = tuple(axis for axis in range(rank) if axis != a)
                messages[end].append(self._pool(hidden, others) @ weight)
            from_edges.append(self._pool(hidden, tuple(range(rank))) @ to_graph)
        parts, wholes = contained(self.graph, nodes)
        updated = {}
        for i, node_set in enumerate(self.graph.node_sets):
            label = node_set.label
            x = nodes[label]
            inputs = [
                self._join(received[label], jnp.zeros_like(x))
                for received in (messages, parts, wholes)
            ]
            update = self.node_updates[min(i, len(self.node_updates) - 1)]
            hidden = update.hidden(self.activation, x, *inputs, align(u, (), 1))
            updated[label] = graph.nodes[label] + hidden @ update.outs[0]
        update = self.global_update
        from_nodes = [self._pool(x, (0,)) for x in nodes.values()]
        hidden = update.hidden(
            self.activation,
            u,
            self._join(from_nodes, zero),
            self._join(from_edges, zero),
        )
        return GraphFeatures(updated, edges, graph.globals + hidden @ update.outs[0])

    def _pool(self, x: Array, axes: tuple[int, ...]) -> Array:
        return jnp.mean(x, axes) if self.aggregation == "mean" else jnp.sum(x, axes)

    def _join(self, received: Sequence[Array], zero: Array) -> Array:
        if not received:
            return zero
        total = sum(received[1:], received[0])
        return total / len(received) if self.aggregation == "mean" else total


@final
class GraphNetwork(eqx.Module):
    """A message-passing network from weight features to weight features.

    [`GraphInput`][wsl.nn.GraphInput], some [`MessagePassing`][wsl.nn.MessagePassing]
    and [`GraphOutput`][wsl.nn.GraphOutput], in this order. It commutes with the group
    of the space, and with fewer restrictions than a stack of linear layers: see them
    for the equations.

    Source: Lim et al. 2023.

    Attributes:
        lift: From features to states.
        layers: Rounds of messages.
        lower: From states to features.
    """

    lift: GraphInput
    layers: tuple[MessagePassing, ...]
    lower: GraphOutput

    def __init__(
        self,
        space: WeightSpace,
        in_channels: int | Mapping[str, int],
        out_channels: int | Mapping[str, int],
        *,
        hidden_channels: int = 32,
        num_layers: int = 3,
        aggregation: Aggregation = "mean",
        tied: bool = False,
        activation: Callable[[Array], Array] = jax.nn.silu,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: Space of the features.
            in_channels: Channels of all leaves of the input, or of each by its path.
            out_channels: Likewise of the output.
            hidden_channels: Channels of all states on the graph.
            num_layers: How many rounds of messages. Information travels one layer of
                the network in each, and anywhere through the global state.
            aggregation: Mean or sum of the messages.
            tied: Share MLPs over leaves and node sets.
            activation: Of the MLPs' hidden layers.
            key: Source of randomness.

        Raises:
            ValueError: If a number of channels does not fit, `num_layers` is negative,
                or the aggregation is neither.
        """
        if num_layers < 0:
            raise ValueError(f"`num_layers` must be 0 or more; got {num_layers}.")
        first, last, *keys = split(key, num_layers + 2)
        self.lift = GraphInput(space, in_channels, hidden_channels, key=first)
        self.layers = tuple(
            MessagePassing(
                space,
                hidden_channels,
                aggregation=aggregation,
                tied=tied,
                activation=activation,
                key=layer_key,
            )
            for layer_key in keys
        )
        self.lower = GraphOutput(space, hidden_channels, out_channels, key=last)

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
