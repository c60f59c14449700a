from collections.abc import Sequence
from typing import final

import equinox as eqx
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
from wsl.nn._draw import normal, split


@final
class ChunkedHyperNetwork(AbstractWritingGenerator[Network]):
    """One MLP that writes the flat vector of weights chunk by chunk.

    Each chunk has a learned embedding; the MLP reads it with the context and writes
    `chunk_size` weights. The last chunk is cropped. Chunks know nothing of layers: a
    chunk may hold the end of one leaf and the beginning of another.

    At the start every leaf has the mean and the variance of the target's own
    initialiser, pooled over its entries and over contexts. The initialisation is
    explained at [`SliceHyperNetwork`][wsl.generators.SliceHyperNetwork].

    Source: von Oswald et al. 2020 (continual learning with hypernetworks, section 2.3).

    Attributes:
        context_size: Length of the context.
        body: Has an embedding for each chunk, and the MLP that all chunks share.
        writer: Standardises the context before, and has the affine map of each leaf.
    """

    context_size: int = eqx.field(static=True)
    body: "_ChunkedBody"
    writer: Writer

    def __init__(
        self,
        make_target: MakeTarget[Network],
        context_size: int,
        *,
        chunk_size: int = 256,
        embedding_size: int = 8,
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
            chunk_size: How many weights a chunk has.
            embedding_size: Length of a chunk's embedding.
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
        check_positive(
            context_size=context_size,
            chunk_size=chunk_size,
            embedding_size=embedding_size,
            width=width,
            depth=depth,
        )
        tkey, ekey, mkey = split(key, 3)
        target, initial = measure_target(make_target, key=tkey)
        num_chunks = -(-sum(target.sizes) // chunk_size)
        self.context_size = context_size
        mlp = eqx.filter_jit(SharedMLP)(
            context_size,
            embedding_size,
            chunk_size,
            width=width,
            depth=depth,
            context_share=0.1,
            key=mkey,
        )
        embeddings = normal(ekey, (num_chunks, embedding_size))
        self.body = _ChunkedBody(mlp, embeddings, target.sizes)
        self.writer = Writer(target, initial, self.body, context_size, contexts)


@final
class _ChunkedBody(AbstractBody):
    """The flat vector of weights, chunk by chunk.

    Attributes:
        mlp: What all chunks share.
        embeddings: One for each chunk.
        sizes: How many entries each leaf has.
    """

    mlp: SharedMLP
    embeddings: Float[Array, "chunks embedding"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __call__(
        self, context: Float[Array, " context"], leaves: Sequence[int]
    ) -> list[Array]:
        chunk_size = self.mlp.biases[-1].shape[0]
        stops = np.cumsum(self.sizes)
        starts = {i: int(stops[i]) - self.sizes[i] for i in leaves}
        reached: set[int] = set()
        for i, start in starts.items():
            end = start + self.sizes[i]
            reached |= set(range(start // chunk_size, -(-end // chunk_size)))
        chunks = np.asarray(sorted(reached))
        vector = self.mlp(self.embeddings[chunks], context).ravel()
        found = []
        for i, start in starts.items():
            chunk, within = divmod(start, chunk_size)
            at = int(np.searchsorted(chunks, chunk)) * chunk_size + within
            found.append(vector[at : at + self.sizes[i]])
        return found
