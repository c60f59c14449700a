"""From weights to weight features and back."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from wsl._space import check_space, WeightSpace


def lift(space: WeightSpace, *weights: PyTree) -> PyTree:
    """Weight sets as the channels of weight features.

    One weight set gives features of one channel. Several, such as the weights and their
    gradients, or the weights at some steps of a training run, give one channel each:
    they move together under the group.

    Args:
        space: Space of the weights.
        *weights: Weights of the space, or whole models.

    Returns:
        Features, the leaves of the space, each of shape `(*leaf_shape, len(weights))`.
        A leaf keeps the dtype of the first weight set.

    Raises:
        ValueError: If no weights are given, or some are not of this space.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> weights = {"w": jnp.ones((2, 3))}
        >>> space = wsl.WeightSpace.from_spec(weights)
        >>> wsl.nn.lift(space, weights, weights)["w"].shape
        (2, 3, 2)
    """
    check_space(space)
    if not weights:
        raise ValueError("There is nothing to lift: give one weight set or more.")
    columns = [
        space.feature_leaves(
            jax.tree.map(lambda leaf: leaf[..., None], eqx.filter(one, eqx.is_array))
        )
        for one in weights
    ]
    leaves = [
        jnp.concatenate([leaf.astype(parts[0].dtype) for leaf in parts], axis=-1)
        for parts in zip(*columns, strict=True)
    ]
    return jax.tree.unflatten(space.treedef, leaves)


def lower(space: WeightSpace, features: PyTree) -> PyTree:
    """Weight features of one channel as weights.

    Args:
        space: Space of the features.
        features: Features with one channel on every leaf.

    Returns:
        Weights with the space's shapes and dtypes. Where the space was built from
        a model, join them with its other parts by `eqx.combine`.

    Raises:
        ValueError: If the features are not of this space or have more channels.
    """
    arrays = space.feature_leaves(features, [1] * len(space.leaves))
    return jax.tree.unflatten(
        space.treedef,
        [
            array[..., 0].astype(leaf.dtype)
            for leaf, array in zip(space.leaves, arrays, strict=True)
        ],
    )
