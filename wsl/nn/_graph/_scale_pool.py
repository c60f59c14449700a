"""Pooling that neither permuting nor rescaling neurons changes."""

from collections.abc import Collection, Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive
from wsl.nn._draw import split
from wsl.nn._graph._ops import align
from wsl.nn._graph._parameter_graph import Incidence
from wsl.nn._graph._scale_mlp import RescaleEquivariant, ScaleInvariantMLP
from wsl.nn._graph._scale_states import bound_states, ScaleGraphFeatures
from wsl.nn._graph._scale_symmetry import join_kinds, ScaleKind, ScaleSymmetry


def end_states(
    graph: ScaleGraphFeatures, incidence: Incidence
) -> tuple[Array, Array, Array, Array]:
    """Nodes and duals at both ends of edges: `x_i, x_j, y_i, y_j`."""
    target, source = incidence.ends
    return (
        align(graph.nodes[target], (0,), 2),
        align(graph.nodes[source], (1,), 2),
        align(graph.duals[target], (0,), 2),
        align(graph.duals[source], (1,), 2),
    )


def concatenate(x: Array, y: Array) -> Array:
    """Joins along the last axis what may have to be broadcast along the others."""
    shape = jnp.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    return jnp.concatenate(
        [jnp.broadcast_to(a, (*shape, a.shape[-1])) for a in (x, y)], axis=-1
    )


def mean_of(received: Sequence[Array], zero: Array) -> Array:
    """The mean of some arrays; `zero` if there are none."""
    return sum(received[1:], received[0]) / len(received) if received else zero


@final
class ScaleInvariantPool(eqx.Module):
    """A vector that neither permuting nor rescaling neurons changes.

        z   = mean over node sets of mean_i ScaleInv(x_i, y_i, x_i * y_i), and
              over leaves of mean_ij ScaleInv([e_ij, ReScaleEq(x_i, y_j)])
        out = MLP(z, u)

    with coefficients of its own for every node set and leaf. `x_i * y_i` stands for the
    `asinh` of their product, after a matrix each.

    Source: Kalogeropoulos et al. 2024: the invariant readout, here with
    edges too.

    Attributes:
        symmetry: The symmetry.
        pairings: Of nodes and their duals, for each node set, by its label.
        from_nodes: The MLPs of nodes, for each node set.
        outers: Of targets and duals of sources, for each leaf with two ends, by its
            path.
        from_edges: The MLPs of edges, for each leaf with two ends.
        head: The last MLP.
    """

    symmetry: ScaleSymmetry = eqx.field(static=True)
    pairings: dict[str, RescaleEquivariant]
    from_nodes: dict[str, ScaleInvariantMLP]
    outers: dict[str, RescaleEquivariant]
    from_edges: dict[str, ScaleInvariantMLP]
    head: ScaleInvariantMLP

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        channels: int,
        out_channels: int,
        *,
        with_edges: bool = True,
        floor: float = 0.0,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry, and with it the space.
            channels: Channels of all states on the graph.
            out_channels: Length of the result.
            with_edges: Whether to pool edges, not nodes alone.
            floor: Shortest length that vectors are divided by: see
                [`canonicalise`][wsl.nn.canonicalise].
            key: Source of randomness.

        Raises:
            ValueError: If a number of channels is not positive or the floor is
                negative.
        """
        check_positive(channels=channels, out_channels=out_channels)
        self.symmetry = symmetry
        sets: dict[str, ScaleKind] = {
            one.label: symmetry.kind(one.label) for one in symmetry.graph.node_sets
        }
        leaves: dict[str, ScaleKind] = {
            one.path: join_kinds(*map(symmetry.kind, one.ends))
            for one in symmetry.graph.edges
            if with_edges
        }
        pair_key, node_key, outer_key, edge_key, head_key = split(key, 5)

        def products(key: PRNGKeyArray, names: Collection[str]):
            return {
                name: RescaleEquivariant([channels] * 2, channels, key=k)
                for name, k in zip(names, split(key, len(names)), strict=True)
            }

        def invariant(key: PRNGKeyArray, *inputs: tuple[int, ScaleKind]):
            return ScaleInvariantMLP(inputs, channels, channels, floor=floor, key=key)

        self.pairings = products(pair_key, sets)
        self.from_nodes = {
            label: invariant(k, (channels, kind), (channels, kind), (channels, "none"))
            for k, (label, kind) in zip(
                split(node_key, len(sets)), sets.items(), strict=True
            )
        }
        self.outers = products(outer_key, leaves)
        self.from_edges = {
            path: invariant(k, (2 * channels, kind))
            for k, (path, kind) in zip(
                split(edge_key, len(leaves)), leaves.items(), strict=True
            )
        }
        self.head = ScaleInvariantMLP(
            [(channels, "none"), (channels, "none")],
            out_channels,
            channels,
            key=head_key,
        )

    def __call__(
        self, graph: ScaleGraphFeatures, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " out_channels"]:
        """Pools.

        Args:
            graph: States on the graph.
            key: Not used.

        Returns:
            A vector.
        """
        graph = bound_states(self.symmetry, graph)
        pooled = []
        for label, mlp in self.from_nodes.items():
            x, y = graph.nodes[label], graph.duals[label]
            pairs = jnp.arcsinh(self.pairings[label](x, y))
            pooled.append(jnp.mean(mlp(x, y, pairs), 0))
        for one in self.symmetry.graph.edges:
            if one.path in self.from_edges:
                x_i, _, _, y_j = end_states(graph, one)
                product = self.outers[one.path](x_i, y_j)
                both = concatenate(graph.edges[one.path], product)
                pooled.append(jnp.mean(self.from_edges[one.path](both), (0, 1)))
        return self.head(mean_of(pooled, jnp.zeros_like(graph.globals)), graph.globals)
