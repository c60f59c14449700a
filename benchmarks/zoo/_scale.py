"""What is measured of a model before training, and what is not to learn in it."""

import operator
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from benchmarks.zoo._fit import map_networks
from wsl.encoders import AbstractEncoder
from wsl.nn import Standardize


@final
class VectorScale(eqx.Module):
    """Takes mean and deviation out of an encoder's vectors.

    Attributes:
        mean: Mean over the training networks, before training.
        std: Standard deviation over them, 1 where nothing varies.
    """

    mean: Float[Array, " features"]
    std: Float[Array, " features"]

    @classmethod
    def of(cls, encoder: AbstractEncoder, networks: PyTree) -> "VectorScale":
        """Measures the vectors of networks that are stacked leaf by leaf."""
        vectors = map_networks(encoder, networks)
        std = jnp.std(vectors, axis=0)
        return cls(jnp.mean(vectors, axis=0), jnp.where(std > 1e-6, std, 1.0))

    @classmethod
    def identity(cls, size: int) -> "VectorScale":
        """Leaves vectors of some length as they are."""
        return cls(jnp.zeros(size), jnp.ones(size))

    def __call__(self, vector: Float[Array, " features"]) -> Float[Array, " features"]:
        """Standardises one vector."""
        return (vector - self.mean) / self.std


def trained_arrays(model: eqx.Module, *parts: str) -> PyTree:
    """Which arrays of a model learn.

    Args:
        model: The model.
        *parts: Names of the attributes that do, with dots for those of attributes.

    Returns:
        A filter as `equinox.partition` takes it: the floating-point arrays of those
        attributes but for what `Standardize` has measured. Weight decay would move
        what has no gradient.
    """
    measured = lambda x: isinstance(x, Standardize)
    spec = jax.tree.map(lambda _: False, model)
    for part in parts:
        where = operator.attrgetter(part)
        learns = jax.tree.map(
            lambda x: not measured(x) and eqx.is_inexact_array(x),
            where(model),
            is_leaf=measured,
        )
        spec = eqx.tree_at(where, spec, learns)
    return spec
