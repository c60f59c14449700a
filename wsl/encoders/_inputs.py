"""What the encoders that read weights do first."""

from collections.abc import Callable, Collection
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from wsl._space import check_space, WeightSpace
from wsl.nn import EquivariantLinear, IndexEncoding, lift, Pointwise
from wsl.nn._draw import normal, split


def features_of(
    space: WeightSpace, transform: Callable[[PyTree], PyTree] | None, network: PyTree
) -> PyTree:
    """Features of a network's weights."""
    features = lift(space, network)
    return features if transform is None else transform(features)


def count_channels(
    space: WeightSpace, transform: Callable[[PyTree], PyTree] | None
) -> dict[str, int]:
    """Channels of each leaf's features, by its path."""
    check_space(space)
    if transform is None:
        return {leaf.path: 1 for leaf in space.leaves}
    leaves = [
        jax.ShapeDtypeStruct((*leaf.shape, 1), leaf.dtype) for leaf in space.leaves
    ]
    features = jax.tree.unflatten(space.treedef, leaves)
    leaves: Any = eqx.filter_eval_shape(_transformed_leaves, transform, space, features)
    counts = [leaf.shape[-1] for leaf in leaves]
    return dict(zip((leaf.path for leaf in space.leaves), counts, strict=True))


def _transformed_leaves(
    transform: Callable[[PyTree], PyTree], space: WeightSpace, features: PyTree
) -> list[Array]:
    found = transform(features)
    try:
        return space.feature_leaves(found)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            "`transform` must take weight features of the space to weight features of "
            f"the space. {error}"
        ) from error


def embedding(
    space: WeightSpace,
    in_channels: dict[str, int],
    channels: int,
    *,
    release: Collection[str],
    basis: Any,
    key: PRNGKeyArray,
) -> list[Callable[..., PyTree]]:
    """The first layers of a stack: linear, encodings of released indices, ReLU."""
    linear_key, bias_key, encoding_key = split(key, 3)
    linear = EquivariantLinear(
        space.unfix(*release), in_channels, channels, basis=basis, key=linear_key
    )
    # Constants of 0 would make the ReLUs positively homogeneous in the weights, and a
    # norm after them blind to magnitudes.
    linear = eqx.tree_at(
        lambda layer: layer.bias,
        linear,
        replace_fn=lambda bias: normal(bias_key, bias.shape),
    )
    layers: list[Callable[..., PyTree]] = [linear]
    if release:
        names = [name for name in space.index_sets if name in release]
        layers.append(IndexEncoding(space, names, channels, key=encoding_key))
    return [*layers, Pointwise(jax.nn.relu)]
