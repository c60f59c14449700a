from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive
from wsl.generators._generator import MakeTarget, Network
from wsl.generators._shared_mlp import SharedMLP
from wsl.generators._writer import (
    AbstractBody,
    AbstractWritingGenerator,
    measure_target,
    Writer,
)
from wsl.nn._draw import split


@final
class MLPHyperNetwork(AbstractWritingGenerator[Network]):
    """An MLP that writes all weights at once.

    The plainest generator. Its last layer has `width` parameters for every weight of
    the target, so that it is for small targets, and for comparisons.

    At the start every leaf has the mean and the variance of the target's own
    initialiser, pooled over its entries and over contexts; about a third of the
    variance is over contexts. The initialisation is explained at
    [`SliceHyperNetwork`][wsl.generators.SliceHyperNetwork].

    Attributes:
        context_size: Length of the context.
        body: Writes all leaves in one scale.
        writer: Standardises the context before, and has the affine map of each leaf.
    """

    context_size: int = eqx.field(static=True)
    body: "_WholeBody"
    writer: Writer

    def __init__(
        self,
        make_target: MakeTarget[Network],
        context_size: int,
        *,
        width: int = 256,
        depth: int = 2,
        contexts: Float[Array, "_num _context"] | None = None,
        key: PRNGKeyArray,
    ):
        """Makes the generator.

        Args:
            make_target: The target's own initialiser, from a key to a network: any
                pytree with floating-point arrays. What else it holds is carried along.
            context_size: Length of the context.
            width: Units of a hidden layer.
            depth: How many hidden layers.
            contexts: Contexts as they will be used, `(num, context_size)`: they are
                standardised by its mean and deviation, and the initialisation is
                calibrated on it. Unless given, contexts are taken to be standard
                normal.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive, the target has no floating-point
                arrays, or the contexts are of another size.
        """
        check_positive(context_size=context_size, width=width, depth=depth)
        tkey, mkey = split(key, 2)
        target, initial = measure_target(make_target, key=tkey)
        self.context_size = context_size
        mlp = eqx.filter_jit(SharedMLP)(
            context_size,
            0,
            sum(target.sizes),
            width=width,
            depth=depth,
            context_share=0.5,
            key=mkey,
        )
        self.body = _WholeBody(mlp, target.sizes)
        self.writer = Writer(target, initial, self.body, context_size, contexts)


@final
class _WholeBody(AbstractBody):
    """All weights at once.

    Attributes:
        mlp: The MLP.
        sizes: How many entries each leaf has.
    """

    mlp: SharedMLP
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __call__(
        self, context: Float[Array, " context"], leaves: Sequence[int]
    ) -> list[Array]:
        stops = np.cumsum(self.sizes)
        (features,) = self.mlp.features(jnp.zeros((1, 0), context.dtype), context)
        weight, bias = self.mlp.weights[-1], self.mlp.biases[-1]
        if len(leaves) < len(self.sizes):
            rows = [slice(stops[i] - self.sizes[i], stops[i]) for i in leaves]
            weight = jnp.concatenate([weight[r] for r in rows])
            bias = jnp.concatenate([bias[r] for r in rows])
        ends = np.cumsum([self.sizes[i] for i in leaves])
        return jnp.split(weight @ features + bias, ends[:-1])
