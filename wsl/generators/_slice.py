from collections.abc import Mapping, Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive, WeightSpace
from wsl.generators._generator import MakeTarget, Network
from wsl.generators._shared_mlp import SharedMLP
from wsl.generators._slices import LeafSlices, plan_slices
from wsl.generators._writer import (
    AbstractBody,
    AbstractWritingGenerator,
    measure_target,
    Writer,
)
from wsl.nn._draw import split


@final
class SliceHyperNetwork(AbstractWritingGenerator[Network]):
    r"""Writes every leaf slice by slice, with an MLP that leaves of one kind share.

    A weight matrix is cut into slices of 16 x 16. Each slice has a learned embedding;
    an MLP reads the embedding and the context and writes the slice. Only embeddings
    grow with the target, so that a generator of a network of 70,000 weights has half a
    million parameters, where an [`MLPHyperNetwork`][wsl.generators.MLPHyperNetwork] has
    18 million. All slices of a kind go through their MLP in one batch.

    **Initialisation.** At the start, over contexts, each leaf has the mean
    \(\mu_l\) and the variance \(\sigma_l^2\) of the target's own initialiser, both
    pooled over the leaf's entries and measured on draws of it. Entry \(j\) of leaf
    \(l\) is \(g_l r_{lj} + o_l\), where the body's raw outputs \(r\) have pooled mean
    \(m_l\) and variance \(s_l^2\) over a sample of contexts, and
    \(g_l = \sigma_l / s_l\), \(o_l = \mu_l - g_l m_l\); both learn. It is the aim of
    hyperfan initialisation (Chang, Flokas and Lipson 2020), for any initialiser and any
    pytree. Leaves that the initialiser gives the same value for all keys (norms' ones,
    biases' zeros) start there exactly, with gain 0, which gradients reach at once.

    A pooled variance says nothing of slices that resemble each other. A matrix that is
    tiled from one pattern has the right variance, but its outputs do not: sums along it
    are far too large, and with plain He initialisation slices resemble each other much.
    Two things keep slices apart: the mean over
    places and contexts is taken off by the MLP's last bias, and a tenth of its first
    layer's variance comes from the context, the rest from the embedding (as one scalar
    command beside embeddings of 8 would have it), whatever the sizes. Then a
    seventh or so of a weight's variance is over contexts, nearly all of it between the
    entries of one network too; as slices move with the context together, more than half
    of the second moment of the network's outputs is over contexts.

    **Deviations from the released code.** It writes a bias with every tile and averages
    over those along the inputs, which shrinks their variance; here a bias is a leaf of
    its own, cut into slices of 16. It scales outputs by 2 / sqrt(fan-in), without
    looking at what scale its MLPs have. It needs widths divisible by 16; here the last
    slice is cropped.

    Source: Faccio et al. 2022 (GoGePo, goal-conditioned generators of deep policies,
    section 3); weights shared between slices as in Ha, Dai and Le 2017.

    Attributes:
        context_size: Length of the context.
        body: Has an embedding for each slice, and an MLP for each kind.
        writer: Standardises the context before, and has the affine map of each leaf.
    """

    context_size: int = eqx.field(static=True)
    body: "_SliceBody"
    writer: Writer

    def __init__(
        self,
        make_target: MakeTarget[Network],
        context_size: int,
        *,
        slice_size: int | tuple[int, int] = 16,
        embedding_size: int = 8,
        width: int = 256,
        depth: int = 2,
        space: WeightSpace | None = None,
        kinds: Mapping[str, str] | None = None,
        contexts: Float[Array, "_num _context"] | None = None,
        key: PRNGKeyArray,
    ):
        """Makes the generator.

        Args:
            make_target: The target's own initialiser, from a key to a network: any
                pytree with floating-point arrays. What else it holds is carried along.
            context_size: Length of the context.
            slice_size: Length of a slice along a leaf's first axis and along its
                second; one number stands for both. Shorter axes and further ones, such
                as those of convolution kernels, stay whole.
            embedding_size: Length of a slice's embedding.
            width: Units of a hidden layer.
            depth: How many hidden layers.
            space: Weight space of the target. If given, axes on which nothing may move,
                such as inputs and outputs, stay whole too, as in the paper, and leaves
                are of one kind only if their axes stand for the same: so the first, the
                hidden and the last layers have an MLP each.
            kinds: For the paths of some leaves (as `jax.tree_util.keystr` writes them)
                the name of their kind, in place of the default: leaves with slices of
                the same shape are of one kind.
            contexts: Contexts as they will be used, `(num, context_size)`: they are
                standardised by its mean and deviation, and the initialisation is
                calibrated on it. Unless given, contexts are taken to be standard
                normal.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive, the target has no floating-point
                arrays, the contexts are of another size, the space is of another
                target, or the kinds do not fit.
        """
        if isinstance(slice_size, int):
            slice_size = (slice_size, slice_size)
        check_positive(
            context_size=context_size,
            slice_size=slice_size,
            embedding_size=embedding_size,
            width=width,
            depth=depth,
        )
        tkey, bkey = split(key, 2)
        target, initial = measure_target(make_target, key=tkey)
        self.context_size = context_size
        leaves = plan_slices(target.space, slice_size, space, kinds or {})
        self.body = eqx.filter_jit(_SliceBody)(
            context_size, leaves, embedding_size, width, depth, key=bkey
        )
        self.writer = Writer(target, initial, self.body, context_size, contexts)

    @property
    def leaves(self) -> tuple[LeafSlices, ...]:
        """How each leaf is cut, and its kind."""
        return self.body.leaves

    @property
    def embeddings(self) -> dict[str, Float[Array, "_slices embedding"]]:
        """The embeddings of each leaf's slices, by the leaf's path."""
        return {
            leaf.path: found
            for leaf, found in zip(self.leaves, self.body.embeddings, strict=True)
        }


@final
class _SliceBody(AbstractBody):
    """Leaves slice by slice.

    Attributes:
        leaves: How each leaf is cut.
        mlps: An MLP for each kind.
        embeddings: For each leaf, one for each of its slices.
    """

    leaves: tuple[LeafSlices, ...] = eqx.field(static=True)
    mlps: dict[str, SharedMLP]
    embeddings: tuple[Float[Array, "_slices embedding"], ...]

    def __init__(
        self,
        context_size: int,
        leaves: tuple[LeafSlices, ...],
        embedding_size: int,
        width: int,
        depth: int,
        *,
        key: PRNGKeyArray,
    ):
        ekey, mkey = jr.split(key)
        self.leaves = leaves
        ends = np.cumsum([leaf.num_slices for leaf in leaves])
        embeddings = jr.normal(ekey, (int(ends[-1]), embedding_size))
        self.embeddings = tuple(jnp.split(embeddings, ends[:-1]))
        out_sizes = {leaf.kind: int(np.prod(leaf.slice_shape)) for leaf in leaves}
        keys = jr.split(mkey, len(out_sizes))
        self.mlps = {
            kind: SharedMLP(
                context_size,
                embedding_size,
                out_size,
                width=width,
                depth=depth,
                context_share=0.1,
                key=subkey,
            )
            for (kind, out_size), subkey in zip(out_sizes.items(), keys, strict=True)
        }

    def __call__(
        self, context: Float[Array, " context"], leaves: Sequence[int]
    ) -> list[Array]:
        found: dict[int, Array] = {}
        for kind, mlp in self.mlps.items():
            chosen = [i for i in leaves if self.leaves[i].kind == kind]
            if not chosen:
                continue
            places = jnp.concatenate([self.embeddings[i] for i in chosen])
            ends = np.cumsum([self.leaves[i].num_slices for i in chosen])
            parts = jnp.split(mlp(places, context), ends[:-1])
            for i, part in zip(chosen, parts, strict=True):
                found[i] = self.leaves[i].join(part).ravel()
        return [found[i] for i in leaves]
