from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PyTree

from wsl._space import WeightSpace
from wsl.generators._generator import MakeTarget
from wsl.generators._writer import is_generated, measure_target
from wsl.nn._dtypes import wide


@final
class WeightDistance(eqx.Module):
    r"""Mean squared difference of two networks' weights.

    Weights are compared on the scale of the target's own initialiser: with leaf \(l\)'s
    standard deviation \(\sigma_l\) there, the distance of \(\theta\) and \(\theta'\) is
    the mean over all weights of \((\theta_{lj} - \theta'_{lj})^2 / \sigma_l^2\). Leaves
    that the initialiser makes constant have no scale of their own and take that of the
    others, pooled (1 if there are no others).

    Two networks that differ by a permutation of hidden units are far apart;
    [`AnswerDistance`][wsl.generators.AnswerDistance] compares what they compute.

    Attributes:
        space: Leaves of the networks.
        scales: Standard deviation for each leaf, not to be trained.
    """

    space: WeightSpace = eqx.field(static=True)
    scales: Float[Array, " leaves"]

    def __init__(self, make_target: MakeTarget):
        """Measures the initialiser.

        Args:
            make_target: The target's own initialiser, from a key to a network.

        Raises:
            ValueError: If the target has no floating-point arrays.
        """
        target, initial = measure_target(make_target, key=jr.key(0))
        self.space = target.space
        variance = initial.variance
        sizes = jnp.asarray(target.sizes, variance.dtype)
        varied = jnp.sum(jnp.where(variance > 0, sizes, 0.0))
        pooled = jnp.sum(variance * sizes) / jnp.maximum(varied, 1.0)
        pooled = jnp.where(pooled > 0, pooled, 1.0)
        self.scales = jnp.sqrt(jnp.where(variance > 0, variance, pooled))

    def __call__(self, first: PyTree, second: PyTree) -> Float[Array, ""]:
        """Compares two networks.

        Args:
            first: A network of the target.
            second: Another one.

        Returns:
            The distance, 0 for equal weights.

        Raises:
            ValueError: If a network has leaves of other shapes.
        """
        scales = jax.lax.stop_gradient(self.scales)
        leaves = [
            [
                wide(leaf[..., 0])
                for leaf in self.space.feature_leaves(_one_channel(network))
            ]
            for network in (first, second)
        ]
        total = jnp.zeros((), scales.dtype)
        for scale, one, other in zip(scales, *leaves, strict=True):
            total += jnp.sum(((one - other).astype(scales.dtype) / scale) ** 2)
        return total / self.space.size


@final
class AnswerDistance(eqx.Module):
    """Mean squared difference of two networks' answers to given inputs.

    Permuted hidden units, or networks of another architecture, make no difference.

    Attributes:
        inputs: What the networks are run on, not to be trained.
    """

    inputs: Float[Array, "num ..."]

    def __call__(self, first: PyTree, second: PyTree) -> Float[Array, ""]:
        """Compares two networks.

        Args:
            first: A network from one input to one answer, an array of any shape.
            second: Another one.

        Returns:
            The distance, 0 for equal answers.
        """
        inputs = jax.lax.stop_gradient(self.inputs)
        return jnp.mean((jax.vmap(first)(inputs) - jax.vmap(second)(inputs)) ** 2)


def _one_channel(network: PyTree) -> PyTree:
    weights = eqx.filter(network, is_generated)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[..., None], weights)
