from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray, PyTree


@final
class ChannelDropout(eqx.Module):
    """Drops whole channels of weight features in training.

    A channel of a leaf is zero at all of its entries or at none, so that the layer
    commutes with every permutation. Each leaf draws its own channels. What is kept is
    divided by `1 - p`.

    Source: Zhou et al. 2023 (NFN), whose experiments use it between layers.

    Attributes:
        p: Probability that a channel is dropped.
        inference: Whether nothing is dropped. Set by `eqx.nn.inference_mode`, as that
            of `eqx.nn.Dropout`.
    """

    p: float
    inference: bool

    def __init__(self, p: float = 0.5, inference: bool = False):
        """Makes the layer.

        Args:
            p: Probability that a channel is dropped.
            inference: Whether nothing is dropped.

        Raises:
            ValueError: If `p` is not in [0, 1).
        """
        if not 0 <= p < 1:
            raise ValueError(f"`p` must be at least 0 and below 1; got {p}.")
        self.p = p
        self.inference = inference

    def __call__(
        self,
        features: PyTree,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
    ) -> PyTree:
        """Drops channels.

        Args:
            features: Weight features.
            key: Source of randomness; not needed at inference or where `p` is 0.
            inference: Stands in for the layer's own flag, if given.

        Returns:
            Features of the same shapes.

        Raises:
            ValueError: If a key is needed and not given.
        """
        inference = self.inference if inference is None else inference
        if inference or self.p == 0:
            return features
        if key is None:
            raise ValueError(
                "ChannelDropout needs a key in training. At inference, set "
                "`eqx.nn.inference_mode(model)`."
            )
        leaves, treedef = jax.tree.flatten(features)
        keys = jr.split(key, max(len(leaves), 1))
        dropped = [
            self._drop(leaf, subkey) for leaf, subkey in zip(leaves, keys, strict=False)
        ]
        return jax.tree.unflatten(treedef, dropped)

    def _drop(self, leaf: Array, key: PRNGKeyArray) -> Array:
        kept = jr.bernoulli(key, 1 - self.p, (1,) * (leaf.ndim - 1) + leaf.shape[-1:])
        return jnp.where(kept, leaf / (1 - self.p), jnp.zeros((), leaf.dtype))
