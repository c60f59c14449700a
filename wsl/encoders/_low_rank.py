from collections.abc import Mapping, Sequence
from typing import ClassVar, final, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from wsl._space import check_positive
from wsl.encoders._encoder import AbstractEncoder
from wsl.matching import canonical_factors, Factors
from wsl.nn._draw import mlp, normal, split


Kind = Literal["probes", "components"]


@final
class LowRank(AbstractEncoder):
    """Encodes low-rank adapters by their products, in whatever gauge they come.

    An adapter is a dictionary of [`Factors`][wsl.matching.Factors], one for each matrix
    that it changes: LoRA's B and A. Its ranks may differ from adapter to adapter, and
    from matrix to matrix. The vector depends on the products B A alone, so that factors
    B G and G⁻¹ A have the same one for any invertible G.

    - `"probes"`: each product is multiplied with learned vectors, from the right and
      from the left, `B (A x)` and `(yᵀ B) A`, never as a whole. What comes out goes
      through a perceptron for each matrix, and the results through another.
    - `"components"`: the components of the canonical form, `√s u` and `√s v` of every
      singular value, go through a perceptron for each matrix; over both signs of a
      component, and over components, the results are summed.

    Sources: Kahana et al. 2024 (ProbeX), multiplying single matrices with learned
    probes; for canonical components of adapters Putterman et al. 2024 (learning on
    LoRAs, LoL), there as a preparation of networks that are not invariant by
    themselves.

    Attributes:
        kind: How products are looked at.
        shapes: For each matrix, its name and shape.
        probes: For each matrix the probes of the right and the left side.
        matrices: For each matrix the perceptron.
        head: From the sum of what these say to the vector.
    """

    kind: Kind = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, int]], ...] = eqx.field(static=True)
    probes: tuple[tuple[Float[Array, "_n _k"], Float[Array, "_m _k"]], ...]
    matrices: tuple[eqx.nn.MLP, ...]
    head: eqx.nn.MLP
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        num_features: int,
        *,
        kind: Kind = "probes",
        num_probes: int = 8,
        width: int = 64,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            shapes: For each matrix that adapters change, its shape `(m, n)`, by name.
            num_features: Length of the vector.
            kind: How products are looked at.
            num_probes: How many vectors each side of each matrix is multiplied with.
            width: Units of the hidden layers.
            key: Source of randomness.

        Raises:
            ValueError: If a size is not positive, there are no matrices, or there is no
                such kind.
        """
        check_positive(num_features=num_features, num_probes=num_probes, width=width)
        if kind not in ("probes", "components"):
            raise ValueError(f'`kind` must be "probes" or "components"; got {kind!r}.')
        if not shapes or any(min(shape) < 1 for shape in shapes.values()):
            raise ValueError(f"Give the shapes of one matrix or more; got {shapes}.")
        self.kind = kind
        self.shapes = tuple(shapes.items())
        probes_key, matrices_key, head_key = split(key, 3)
        probe_keys = split(probes_key, len(shapes))
        matrix_keys = split(matrices_key, len(shapes))
        probes, matrices = [], []
        for (m, n), pkey, mkey in zip(
            shapes.values(), probe_keys, matrix_keys, strict=True
        ):
            right, left = split(pkey, 2)
            # Of length one, so that what comes out is of the order of the product.
            probes.append(
                (
                    normal(right, (n, num_probes), n**-0.5),
                    normal(left, (m, num_probes), m**-0.5),
                )
            )
            size = (m + n) * num_probes if kind == "probes" else m + n
            matrices.append(mlp(size, width, width, 1, jax.nn.silu, key=mkey))
        self.probes = tuple(probes) if kind == "probes" else ()
        self.matrices = tuple(matrices)
        self.head = mlp(
            width * len(shapes), num_features, width, 1, jax.nn.silu, key=head_key
        )

    @property
    def num_features(self) -> int:
        """Length of the vector."""
        return self.head.layers[-1].weight.shape[0]

    @property
    def num_reads(self) -> int:
        """How many numbers it reads of an adapter of rank 1; of others r times more."""
        return sum(m + n for _, (m, n) in self.shapes)

    def __call__(self, network: Mapping[str, Sequence[Array]]) -> Float[Array, " _n"]:
        """Encodes one adapter.

        Args:
            network: For the name of each matrix its factors, `(m, r)` and `(r, n)`.

        Returns:
            A vector, the same for all factors of the same products.

        Raises:
            ValueError: If a matrix is missing, or factors do not have its shape.
        """
        names = [name for name, _ in self.shapes]
        if set(network) != set(names):
            raise ValueError(
                f"The adapter has the matrices {sorted(network)}; this encoder takes "
                f"{names}."
            )
        found = []
        for i, (name, (m, n)) in enumerate(self.shapes):
            factors = Factors(*network[name])
            shapes = factors.left.shape, factors.right.shape
            if shapes[0][:1] != (m,) or shapes[1][1:] != (n,):
                raise ValueError(
                    f"The factors of {name!r} have shapes {shapes[0]} and {shapes[1]}; "
                    f"expected ({m}, r) and (r, {n}). A batch goes through "
                    "`equinox.filter_vmap`."
                )
            found.append(self._matrix(i, factors))
        return self.head(jnp.concatenate(found))

    def _matrix(self, i: int, factors: Factors) -> Float[Array, " width"]:
        if self.kind == "probes":
            right, left = self.probes[i]
            out = factors.left @ (factors.right @ right)
            back = (left.T @ factors.left) @ factors.right
            return self.matrices[i](jnp.concatenate([out.ravel(), back.ravel()]))
        canonical = canonical_factors(factors)
        tokens = jnp.concatenate([canonical.left.T, canonical.right], axis=1)
        said = jax.vmap(self.matrices[i])
        # A component of size 0 says nothing.
        size = jnp.sqrt(jnp.sum(tokens**2, axis=1, keepdims=True) + 1e-12)
        return jnp.sum(size * (said(tokens) + said(-tokens)), axis=0)
