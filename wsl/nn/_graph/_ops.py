"""What the layers on parameter graphs are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl.nn._draw import normal, split
from wsl.nn._graph._parameter_graph import ParameterGraph


def draw_embeddings(
    graph: ParameterGraph, channels: int, *, key: PRNGKeyArray
) -> dict[str, Float[Array, "..."]]:
    """Normal embeddings of nodes: one for each index of a fixed name, else shared.

    Args:
        graph: The parameter graph.
        channels: Channels of the embeddings.
        key: Source of randomness.

    Returns:
        For each node set, by its label, an array with one axis for each of its names,
        of size 1 for those that move, and a last one for channels.
    """
    fixed = graph.space.fixed
    return {
        one.label: normal(
            k, (*(f.size if f.name in fixed else 1 for f in one.factors), channels)
        )
        for k, one in zip(
            split(key, len(graph.node_sets)), graph.node_sets, strict=True
        )
    }


def spread(embedding: Float[Array, "..."], sizes: Sequence[int]) -> Float[Array, "_ _"]:
    """Embeddings as states of nodes: `(size, channels)`."""
    channels = embedding.shape[-1]
    return jnp.broadcast_to(embedding, (*sizes, channels)).reshape(-1, channels)


def add(x: Float[Array, "..."], offset: Float[Array, " _"]) -> Float[Array, "..."]:
    """Adds to the last axis."""
    return x + jnp.expand_dims(offset, range(x.ndim - 1))


def align(
    x: Float[Array, "..."], axes: Sequence[int], rank: int
) -> Float[Array, "..."]:
    """Gives the axes of `x`, but the last, their places among `rank` axes."""
    return jnp.expand_dims(x, [axis for axis in range(rank) if axis not in axes])


def rms_norm(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Divides by the root mean square over the last axis (Zhang and Sennrich 2019)."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def pass_through(
    lift: Callable[[PyTree], Any],
    layers: Sequence[Callable[[Any], Any]],
    lower: Callable[[Any], PyTree],
    features: PyTree,
) -> PyTree:
    """Weight features through layers on the graph and back, with the same dtypes."""
    graph = lift(features)
    for layer in layers:
        graph = layer(graph)
    return jax.tree.map(lambda x, like: x.astype(like.dtype), lower(graph), features)


def contained(
    graph: ParameterGraph, nodes: dict[str, Float[Array, "_ _"]]
) -> tuple[dict[str, list[Array]], dict[str, list[Array]]]:
    """What nodes get from those that they contain, and that they belong to.

    Args:
        graph: The parameter graph.
        nodes: States of the nodes.

    Returns:
        Two lists for each node set, by its label: the states of the parts of its nodes,
        and the mean states of the nodes that its own are parts of.
    """
    sizes = {one.label: one.sizes for one in graph.node_sets}
    parts: dict[str, list[Array]] = {label: [] for label in nodes}
    wholes: dict[str, list[Array]] = {label: [] for label in nodes}
    for whole, part, axes in graph.containments:
        shape = sizes[whole]
        others = tuple(axis for axis in range(len(shape)) if axis not in axes)
        states = nodes[part].reshape(*sizes[part], -1)
        states = jnp.expand_dims(states, others)
        parts[whole].append(spread(states, shape))
        states = jnp.mean(nodes[whole].reshape(*shape, -1), others)
        wholes[part].append(states.reshape(-1, states.shape[-1]))
    return parts, wholes
