from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree


@final
class SignedLog(eqx.Module):
    """Logarithms of weights, with their signs: `sign(x) log(1 + |x| / scale)`.

    Near zero it is `x / scale`, far from it each factor adds the same. Weights of
    networks that trained at many learning rates or diverged span orders of magnitude,
    from 0.01 to over 1,000 in one zoo: as they are, the largest ones drown the rest,
    in features and in gradients. Where all weights are of one order, standardise them
    ([`Standardize`][wsl.nn.Standardize]) instead.

    The function is odd, so that it commutes with sign flips of units as it does with
    permutations; not with rescaling them.

    Attributes:
        scale: Where linear turns to logarithmic.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> wsl.nn.SignedLog()({"b": jnp.array([[0.0], [-1500.0]])})["b"]
        Array([[ 0.       ],
               [-7.3138866]], dtype=float32)
    """

    scale: float = eqx.field(static=True)

    def __init__(self, scale: float = 1.0):
        """Makes the layer.

        Args:
            scale: Where linear turns to logarithmic.

        Raises:
            ValueError: If `scale` is not positive.
        """
        if not scale > 0:
            raise ValueError(f"`scale` must be positive; got {scale}.")
        self.scale = scale

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Applies the function.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes.
        """
        return jax.tree.map(self._apply, features)

    def _apply(self, x: Array) -> Array:
        # `sign(x)` and `abs(x)` have derivative 0 at 0, where ours is `1 / scale`.
        negative = x < 0
        log = jnp.log1p(jnp.where(negative, -x, x) / self.scale)
        return jnp.where(negative, -log, log)
