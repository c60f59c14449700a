from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._dtypes import like, wide


@final
class Standardize(eqx.Module):
    """Takes off the mean of a data set of weights and divides by its deviation.

    Statistics belong to a leaf's channel and to an index that cannot move, and are
    pooled over the data set and all indices that can. (Statistics for each coordinate,
    as NFN and DWSNets keep them, are not the same for all members of an orbit, so that
    they break the symmetry.) They are constants: no gradient reaches them. Where the
    data do not vary, the deviation is taken to be 1.

    Make one by [`fit`][wsl.nn.Standardize.fit].

    Attributes:
        space: Space of the features.
        channels: Channels of each leaf.
        means: For each leaf, `(fixed * channels,)`: the fixed factors in row-major
            order, then the channels.
        deviations: Likewise.
    """

    space: WeightSpace = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    means: tuple[Float[Array, " _fixed_channels"], ...]
    deviations: tuple[Float[Array, " _fixed_channels"], ...]

    @classmethod
    def fit(cls, space: WeightSpace, features: PyTree) -> "Standardize":
        """Measures a data set.

        Args:
            space: Space of the features.
            features: Features of many weight sets: every leaf of shape
                `(num_sets, *leaf_shape, channels)`, as `jax.vmap` of
                [`lift`][wsl.nn.lift] makes them.

        Returns:
            The layer.

        Raises:
            ValueError: If the features are not a batch of this space's.
        """
        batch = {
            leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(features)
        }
        if len(batch) > 1 or 0 in batch:
            raise ValueError(
                "`features` must be those of many weight sets, with one leading axis "
                f"of the same length on all leaves; found lengths {sorted(batch)}."
            )
        space.cut_features(jax.tree.map(lambda leaf: leaf[0], features))
        means, deviations = [], []
        arrays = jax.tree.leaves(features)
        for leaf, array in zip(space.pieces, arrays, strict=True):
            folded = wide(jax.vmap(leaf.layout.fold)(array))
            axes = tuple(range(folded.ndim - 1))
            mean, deviation = jnp.mean(folded, axes), jnp.std(folded, axes)
            # Rounding gives numbers that are all the same a deviation above 0.
            varies = deviation > 1e-6 * jnp.abs(mean)
            means.append(mean)
            deviations.append(jnp.where(varies, deviation, jnp.ones_like(mean)))
        channels = tuple(array.shape[-1] for array in arrays)
        return cls(space, channels, tuple(means), tuple(deviations))

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Standardises one weight set's features.

        Args:
            features: Weight features.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes, of mean 0 and variance 1 over the
            data set.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        return self._apply(features, lambda x, mean, std: (x - mean) / std)

    def undo(self, features: PyTree) -> PyTree:
        """Inverse of the call: back to the scale of the data.

        Args:
            features: Standardised features.

        Returns:
            Features of the same shapes and dtypes.

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        return self._apply(features, lambda x, mean, std: x * std + mean)

    def _apply(
        self, features: PyTree, fn: Callable[[Array, Array, Array], Array]
    ) -> PyTree:
        arrays = self.space.cut_features(features, self.channels)
        results = []
        for i, (leaf, array) in enumerate(zip(self.space.pieces, arrays, strict=True)):
            folded = wide(leaf.layout.fold(array))
            mean, deviation = (
                jax.lax.stop_gradient(like(x[i], folded))
                for x in (self.means, self.deviations)
            )
            results.append(
                leaf.layout.unfold(fn(folded, mean, deviation).astype(array.dtype))
            )
        return self.space.join_features(results)
