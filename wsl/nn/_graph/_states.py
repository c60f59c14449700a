"""Between weight features and states on the parameter graph."""

from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive, WeightSpace
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant, fan_in, normal, split
from wsl.nn._graph._ops import (
    add,
    draw_embeddings,
    rms_norm,
    spread,
)
from wsl.nn._graph._parameter_graph import GraphFeatures, ParameterGraph


@final
class GraphInput(eqx.Module):
    """Lays weight features on the parameter graph, and mixes channels.

    Edges start as an affine map of their leaf, nodes as the sum of those of all leaves
    that lie on them (biases), each leaf with coefficients of its own, so that they also
    tell one leaf from another. Node sets without such a leaf start from an embedding.
    Embeddings also tell apart the nodes of a fixed name (inputs and outputs), whose
    order means something; moving nodes share one.

    Source: Lim et al. 2023; Kofinas et al. 2024, for the
    embeddings of input and output nodes.

    Attributes:
        graph: The parameter graph.
        in_channels: Channels of each leaf.
        weights: For each leaf, `(width * in_channels, channels)`.
        offsets: For each leaf, `(channels,)`.
        embeddings: For each node set, by its label: sizes of its fixed names, 1 for
            those that move, then `channels`.
    """

    graph: ParameterGraph = eqx.field(static=True)
    in_channels: tuple[int, ...] = eqx.field(static=True)
    weights: tuple[Float[Array, "_ _"], ...]
    offsets: tuple[Float[Array, " _"], ...]
    embeddings: dict[str, Float[Array, "..."]]

    def __init__(
        self,
        space: WeightSpace,
        in_channels: int | Mapping[str, int],
        channels: int,
        *,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: Space of the features.
            in_channels: Channels of all leaves, or of each by its path.
            channels: Channels of all states on the graph.
            key: Source of randomness.

        Raises:
            ValueError: If `in_channels` does not fit the space or `channels` is not
                positive.
        """
        check_positive(channels=channels)
        self.graph = ParameterGraph.from_space(space)
        self.in_channels = per_leaf(space, in_channels)
        weight_key, offset_key, embedding_key = split(key, 3)
        widths = [
            one.width * count
            for one, count in zip(self.graph.incidences, self.in_channels, strict=True)
        ]
        self.weights = tuple(
            fan_in(k, n, channels)
            for k, n in zip(split(weight_key, len(widths)), widths, strict=True)
        )
        self.offsets = tuple(
            normal(k, (channels,)) for k in split(offset_key, len(widths))
        )
        self.embeddings = draw_embeddings(self.graph, channels, key=embedding_key)

    def __call__(
        self, features: PyTree, *, key: PRNGKeyArray | None = None
    ) -> GraphFeatures:
        """Lays features on the graph.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            States on nodes, edges and the whole graph, all of `channels` channels and
            of the parameters' dtype.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        leaves = self.graph.space.cut_features(features, self.in_channels)
        nodes = {
            one.label: [spread(self.embeddings[one.label], one.sizes)]
            for one in self.graph.node_sets
        }
        edges, whole = {}, []
        for i, incidence in enumerate(self.graph.incidences):
            weight = self.weights[i]
            state = incidence.fold(leaves[i].astype(weight.dtype)) @ weight
            state = add(state, self.offsets[i])
            if len(incidence.ends) > 1:
                edges[incidence.path] = state
            elif incidence.ends:
                nodes[incidence.ends[0]].append(state)
            else:
                whole.append(state)
        channels = self.offsets[0].shape if self.offsets else (1,)
        return GraphFeatures(
            {label: sum(states[1:], states[0]) for label, states in nodes.items()},
            edges,
            sum(whole, jnp.zeros(channels)),
        )


@final
class GraphOutput(eqx.Module):
    """Reads weight features off the parameter graph.

    Every leaf is an affine map of the states where it lies: edges, nodes or globals.

    Attributes:
        graph: The parameter graph.
        out_channels: Channels of each leaf.
        weights: For each leaf, `(channels, width * out_channels)`.
        offsets: For each leaf, `(width * out_channels,)`.
    """

    graph: ParameterGraph = eqx.field(static=True)
    out_channels: tuple[int, ...] = eqx.field(static=True)
    weights: tuple[Float[Array, "_ _"], ...]
    offsets: tuple[Float[Array, " _"], ...]

    def __init__(
        self,
        space: WeightSpace,
        channels: int,
        out_channels: int | Mapping[str, int],
        *,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            space: Space of the features.
            channels: Channels of all states on the graph.
            out_channels: Channels of all leaves, or of each by its path.
            key: Source of randomness.

        Raises:
            ValueError: If `out_channels` does not fit the space or `channels` is not
                positive.
        """
        check_positive(channels=channels)
        self.graph = ParameterGraph.from_space(space)
        self.out_channels = per_leaf(space, out_channels)
        widths = [
            one.width * count
            for one, count in zip(self.graph.incidences, self.out_channels, strict=True)
        ]
        self.weights = tuple(
            fan_in(k, channels, n)
            for k, n in zip(split(key, len(widths)), widths, strict=True)
        )
        self.offsets = tuple(constant(0.0, n) for n in widths)

    def __call__(
        self, graph: GraphFeatures, *, key: PRNGKeyArray | None = None
    ) -> PyTree:
        """Reads features.

        Args:
            graph: States on the graph.
            key: Not used.

        Returns:
            Weight features with `out_channels` channels.
        """
        leaves = []
        for i, incidence in enumerate(self.graph.incidences):
            if len(incidence.ends) > 1:
                state = graph.edges[incidence.path]
            elif incidence.ends:
                state = graph.nodes[incidence.ends[0]]
            else:
                state = graph.globals
            state = add(rms_norm(state) @ self.weights[i], self.offsets[i])
            leaves.append(incidence.unfold(state))
        return self.graph.space.join_features(leaves)
