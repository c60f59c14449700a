from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace


@final
class ResidualEdit(eqx.Module):
    """Edits weights by a small step: `U' = U + gamma * layer(U)`.

    `gamma` is learned. It starts small, so that an editor that knows nothing yet leaves
    the network nearly as it is.

    Source: Zhou et al. 2023 (NFN), the experiments on editing INRs, with `gamma` at
    0.01 at first.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> edit = wsl.nn.ResidualEdit(wsl.nn.Pointwise(jnp.square))
        >>> edit({"b": jnp.array([[10.0]])})["b"]
        Array([[11.]], dtype=float32)

    Attributes:
        layer: From features to features of the same shapes, or from weights to weights.
        gamma: Size of the step: one number, or one for each leaf.
    """

    layer: Callable[..., Any]
    gamma: Float[Array, "..."]

    def __init__(
        self,
        layer: Callable[..., Any],
        scale: float = 0.01,
        *,
        per_leaf: WeightSpace | None = None,
    ):
        """Wraps a layer or a whole model.

        Args:
            layer: From features to features of the same shapes. Called with a keyword
                argument `key`.
            scale: First value of `gamma`.
            per_leaf: The space of the features, if every leaf is to have a `gamma` of
                its own.
        """
        self.layer = layer
        shape = () if per_leaf is None else (len(per_leaf.leaves),)
        self.gamma = jnp.full(shape, float(scale))

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Edits.

        Args:
            features: Weight features, or weights.
            key: Passed on to the layer.

        Returns:
            Edited features, of the same shapes and dtypes.

        Raises:
            ValueError: If the layer's results have other shapes than its inputs.
        """
        leaves, treedef = jax.tree.flatten(features)
        steps, found = jax.tree.flatten(self.layer(features, key=key))
        shapes = [leaf.shape for leaf in leaves], [step.shape for step in steps]
        if treedef != found or shapes[0] != shapes[1]:
            raise ValueError(
                "The layer of a residual edit must keep the shapes of its features; "
                f"given {shapes[0]}, it returns {shapes[1]}."
            )
        gammas = jnp.broadcast_to(self.gamma, (len(leaves),))
        edited = [
            leaf + gamma.astype(leaf.dtype) * step.astype(leaf.dtype)
            for leaf, gamma, step in zip(leaves, gammas, steps, strict=True)
        ]
        return jax.tree.unflatten(treedef, edited)
