"""Between weight features and states that rescale with the neurons."""

from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive, WeightSpace
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant, fan_in, normal, split
from wsl.nn._graph._ops import (
    add,
    draw_embeddings,
    spread,
)
from wsl.nn._graph._scale_symmetry import is_scaled, join_kinds, ScaleSymmetry


@final
class ScaleGraphFeatures(eqx.Module):
    """States on the parameter graph of a network whose neurons may be rescaled.

    When neuron `i` is multiplied by `q_i`,

    - `nodes`, as activations and biases are, are multiplied by `q_i`;
    - `duals`, as gradients with respect to activations are, are divided by it;
    - `edges` from `j` to `i`, as weights are, are multiplied by `q_i / q_j`;
    - `globals` stay as they are.

    Attributes:
        nodes: For each node set, by its label, `(size, channels)`.
        duals: Likewise.
        edges: For each leaf with two ends, by its path, `(targets, sources, channels)`.
        globals: `(channels,)`.
    """

    nodes: dict[str, Float[Array, "_ _"]]
    duals: dict[str, Float[Array, "_ _"]]
    edges: dict[str, Float[Array, "_ _ _"]]
    globals: Float[Array, " _"]


def bound_states(
    symmetry: ScaleSymmetry, graph: ScaleGraphFeatures
) -> ScaleGraphFeatures:
    """Bounds the states that no positive multiplier acts on.

    Products of states would grow without limit in a deep stack. What this divides by
    does not depend on signs.

    Args:
        symmetry: The symmetry.
        graph: States on the graph.

    Returns:
        `x / sqrt(1 + mean(x ** 2))` over channels, or `x` where it may be rescaled.
    """

    def bound(x: Array, *ends: str) -> Array:
        if is_scaled(join_kinds(*map(symmetry.kind, ends))):
            return x
        return x * jax.lax.rsqrt(1 + jnp.mean(jnp.square(x), axis=-1, keepdims=True))

    return ScaleGraphFeatures(
        {label: bound(x, label) for label, x in graph.nodes.items()},
        {label: bound(x, label) for label, x in graph.duals.items()},
        {
            one.path: bound(graph.edges[one.path], *one.ends)
            for one in symmetry.graph.edges
        },
        bound(graph.globals),
    )


@final
class ScaleGraphInput(eqx.Module):
    """Lays weight features on the parameter graph, without breaking the scale symmetry.

    Every leaf goes through a matrix of its own, with no offset: into the edges, the
    nodes that it multiplies (biases) or the duals of those that it divides (the last
    matrix, if outputs have no name). Only where nothing is rescaled, at inputs and
    outputs, are learned embeddings added; they tell those of a fixed name apart.

    Source: Kalogeropoulos et al. 2024 (ScaleGMN).

    Attributes:
        symmetry: The symmetry.
        in_channels: Channels of each leaf.
        weights: For each leaf, `(width * in_channels, channels)`.
        embeddings: Two for each node set that is not rescaled: of nodes and duals.
    """

    symmetry: ScaleSymmetry = eqx.field(static=True)
    in_channels: tuple[int, ...] = eqx.field(static=True)
    weights: tuple[Float[Array, "_ _"], ...]
    embeddings: tuple[dict[str, Float[Array, "..."]], dict[str, Float[Array, "..."]]]

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        in_channels: int | Mapping[str, int],
        channels: int,
        *,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry, and with it the space.
            in_channels: Channels of all leaves, or of each by its path.
            channels: Channels of all states on the graph.
            key: Source of randomness.

        Raises:
            ValueError: If `in_channels` does not fit the space or `channels` is not
                positive.
        """
        check_positive(channels=channels)
        self.symmetry = symmetry
        self.in_channels = per_leaf(symmetry.space, in_channels)
        weight_key, node_key, dual_key = split(key, 3)
        widths = [
            one.width * count
            for one, count in zip(
                symmetry.graph.incidences, self.in_channels, strict=True
            )
        ]
        self.weights = tuple(
            fan_in(k, n, channels)
            for k, n in zip(split(weight_key, len(widths)), widths, strict=True)
        )

        def embed(key: PRNGKeyArray) -> dict[str, Array]:
            embeddings = draw_embeddings(symmetry.graph, channels, key=key)
            return {
                label: embedding
                for label, embedding in embeddings.items()
                if symmetry.kind(label) == "none"
            }

        self.embeddings = embed(node_key), embed(dual_key)

    def __call__(
        self, features: PyTree, *, key: PRNGKeyArray | None = None
    ) -> ScaleGraphFeatures:
        """Lays features on the graph.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            States of `channels` channels, of the parameters' dtype.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        graph = self.symmetry.graph
        leaves = self.symmetry.space.cut_features(features, self.in_channels)
        channels = self.weights[0].shape[-1] if self.weights else 1
        nodes, duals = (
            {
                one.label: spread(embeddings[one.label], one.sizes)
                if one.label in embeddings
                else jnp.zeros((one.size, channels))
                for one in graph.node_sets
            }
            for embeddings in self.embeddings
        )
        edges, whole = {}, jnp.zeros(channels)
        for leaf, weight, incidence in zip(
            leaves, self.weights, graph.incidences, strict=True
        ):
            state = incidence.fold(leaf.astype(weight.dtype)) @ weight
            if len(incidence.ends) == 2:
                edges[incidence.path] = state
            elif incidence.ends:
                at = nodes if incidence.target else duals
                at[incidence.ends[0]] = at[incidence.ends[0]] + state
            else:
                whole = whole + state
        return ScaleGraphFeatures(nodes, duals, edges, whole)


@final
class ScaleGraphOutput(eqx.Module):
    """Reads weight features that rescale as the weights do off the parameter graph.

    Every leaf is a matrix times the states where it lies: edges, nodes or duals. Only
    what belongs to no neuron gets an offset too.

    Attributes:
        symmetry: The symmetry.
        out_channels: Channels of each leaf.
        weights: For each leaf, `(channels, width * out_channels)`.
        offsets: For each leaf without ends, by its path, `(width * out_channels,)`.
    """

    symmetry: ScaleSymmetry = eqx.field(static=True)
    out_channels: tuple[int, ...] = eqx.field(static=True)
    weights: tuple[Float[Array, "_ _"], ...]
    offsets: dict[str, Float[Array, " _"]]

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        channels: int,
        out_channels: int | Mapping[str, int],
        *,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry, and with it the space.
            channels: Channels of all states on the graph.
            out_channels: Channels of all leaves, or of each by its path.
            key: Source of randomness.

        Raises:
            ValueError: If `out_channels` does not fit the space or `channels` is not
                positive.
        """
        check_positive(channels=channels)
        self.symmetry = symmetry
        self.out_channels = per_leaf(symmetry.space, out_channels)
        widths = {
            one: one.width * count
            for one, count in zip(
                symmetry.graph.incidences, self.out_channels, strict=True
            )
        }
        self.weights = tuple(
            fan_in(k, channels, n)
            for k, n in zip(split(key, len(widths)), widths.values(), strict=True)
        )
        self.offsets = {
            one.path: constant(0.0, n) for one, n in widths.items() if not one.ends
        }

    def __call__(
        self, graph: ScaleGraphFeatures, *, key: PRNGKeyArray | None = None
    ) -> PyTree:
        """Reads features.

        Args:
            graph: States on the graph.
            key: Not used.

        Returns:
            Weight features with `out_channels` channels.
        """
        leaves = []
        for weight, incidence in zip(
            self.weights, self.symmetry.graph.incidences, strict=True
        ):
            if len(incidence.ends) == 2:
                state = graph.edges[incidence.path] @ weight
            elif incidence.ends:
                at = graph.nodes if incidence.target else graph.duals
                state = at[incidence.ends[0]] @ weight
            else:
                state = add(graph.globals @ weight, self.offsets[incidence.path])
            leaves.append(incidence.unfold(state))
        return self.symmetry.space.join_features(leaves)


@final
class ScaleEncoding(eqx.Module):
    """Multiplies features by learned encodings of the leaf and of its fixed indices.

    It tells layers, inputs and outputs apart, as encodings that are added or appended
    do. But those, being constants, do not rescale with the neurons, and break the scale
    symmetry; a product keeps it.

    Source: Kalogeropoulos et al. 2024 (ScaleGMN), positional encodings.

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf.
        encodings: For each leaf, `(fixed * channels,)`: the fixed factors in row-major
            order, then the channels.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    encodings: tuple[Float[Array, " _"], ...]

    def __init__(
        self,
        space: WeightSpace,
        channels: int | Mapping[str, int],
        *,
        key: PRNGKeyArray,
    ):
        """Draws the encodings, normal around 1 with deviation 0.1.

        Args:
            space: Space of the features.
            channels: Channels of all leaves, or of each by its path.
            key: Source of randomness.

        Raises:
            ValueError: If `channels` does not fit the space.
        """
        self.space = space
        self.channels = per_leaf(space, channels)
        self.encodings = tuple(
            normal(k, (leaf.layout.fixed * count,), 0.1, mean=1.0)
            for k, leaf, count in zip(
                split(key, len(self.channels)),
                space.pieces,
                self.channels,
                strict=True,
            )
        )

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Multiplies.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        arrays = self.space.cut_features(features, self.channels)
        encoded = []
        for leaf, encoding, array in zip(
            self.space.pieces, self.encodings, arrays, strict=True
        ):
            folded = leaf.layout.fold(array)
            factor = jnp.expand_dims(
                encoding.astype(array.dtype), range(folded.ndim - 1)
            )
            encoded.append(leaf.layout.unfold(folded * factor))
        return self.space.join_features(encoded)
