from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray, PyTree


@final
class Pointwise(eqx.Module):
    """Applies a function to every entry of every leaf.

    What acts on each number alone commutes with every permutation, so any activation
    will do.

    Attributes:
        fn: From an array to one of the same shape, entry by entry.

    Examples:
        >>> import jax, jax.numpy as jnp, wsl
        >>> wsl.nn.Pointwise(jax.nn.relu)({"b": jnp.array([[-1.0], [2.0]])})["b"]
        Array([[0.],
               [2.]], dtype=float32)
    """

    fn: Callable[[Array], Array]

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Applies the function.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes.
        """
        return jax.tree.map(self.fn, features)
