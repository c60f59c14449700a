"""Low-rank factors, whose product is what counts: canonical forms and alignment.

A matrix B A, with B of shape `(m, r)` and A of shape `(r, n)`, is the same for B G and
G⁻¹ A with any invertible G. That group, GL(r), is continuous: no permutation finds it,
and there is nothing to sort. A singular value decomposition does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Factors(NamedTuple):
    """A matrix as a product, B A.

    Attributes:
        left: B, one column for each component.
        right: A, one row for each component.
    """

    left: Float[Array, "m r"]
    right: Float[Array, "r n"]

    @property
    def product(self) -> Float[Array, "m n"]:
        """The matrix."""
        return self.left @ self.right


def canonical_factors(factors: Factors) -> Factors:
    """The factors of the same product that no gauge changes.

    The components of the singular value decomposition of B A, the largest first, each
    split evenly: `left = U √S`, `right = √S Vᵀ`. The sign of a component is such that
    the entry of `left` that is largest in magnitude is positive. Made from two QR
    decompositions and one of an `r x r` matrix, without the `m x n` product.

    Unique where the singular values differ, and no two entries of a column are largest.
    Differentiable where they do.

    Args:
        factors: Any factors of the matrix.

    Returns:
        Its canonical factors, of the same shapes and dtypes.

    Raises:
        ValueError: If the factors do not fit one another, or r is larger than m or n.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> from wsl.matching import canonical_factors, Factors
        >>> factors = Factors(jnp.array([[-6.0], [0.0]]), jnp.array([[0.0, -1.5]]))
        >>> found = canonical_factors(factors)  # of the matrix with a 9 and zeros
        >>> print(abs(found.left).ravel(), abs(found.right).ravel())
        [3. 0.] [0. 3.]
    """
    left, right = _checked(factors)
    q_left, r_left = jnp.linalg.qr(left)
    q_right, r_right = jnp.linalg.qr(right.T)
    u, s, vt = jnp.linalg.svd(r_left @ r_right.T)
    roots = jnp.sqrt(s)
    columns, rows = q_left @ (u * roots[None]), (roots[:, None] * vt) @ q_right.T
    largest = jnp.argmax(jnp.abs(columns), axis=0)
    picked = jnp.take_along_axis(columns, largest[None], axis=0)[0]
    signs = jnp.where(picked < 0, -1.0, 1.0).astype(left.dtype)
    return Factors(columns * signs[None], signs[:, None] * rows)


def singular_values(factors: Factors) -> Float[Array, " r"]:
    """The singular values of the product: invariants of every gauge.

    Args:
        factors: The factors.

    Returns:
        The values, the largest first.

    Raises:
        ValueError: If the factors do not fit one another, or r is larger than m or n.
    """
    left, right = _checked(factors)
    core = jnp.linalg.qr(left, mode="r") @ jnp.linalg.qr(right.T, mode="r").T
    return jnp.linalg.svd(core, compute_uv=False)


class FactorMatch(NamedTuple):
    """How [`match_factors`][wsl.matching.match_factors] aligned factors.

    Attributes:
        gauge: G, of shape `(r, r)`: the aligned factors are B G and G⁻¹ A.
        aligned: The factors of `b` in that gauge.
        distance: Euclidean distance from `a`, over both factors.
        distance_before: The same of `b` as given.
    """

    gauge: Float[Array, "r r"]
    aligned: Factors
    distance: Float[Array, ""]
    distance_before: Float[Array, ""]


def match_factors(a: Factors, b: Factors, *, orthogonal: bool = False) -> FactorMatch:
    """Aligns the factors of one matrix to those of another.

    The gauge that brings the left factors closest, by least squares, which is exact for
    two gauges of one product. With `orthogonal`, the rotation that brings both factors
    closest (orthogonal Procrustes, Schönemann 1966); for factors in a balanced gauge,
    as [`canonical_factors`][wsl.matching.canonical_factors] and training from a small
    start give them, that is all that is left to choose.

    Args:
        a: Factors to align to.
        b: Factors to align, of the same shapes.
        orthogonal: Whether to allow rotations only.

    Returns:
        The gauge, the aligned factors and distances.

    Raises:
        ValueError: If the shapes differ.
    """
    shapes = [tuple(x.shape for x in _checked(f)) for f in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Factors of shapes {shapes[1]} cannot be aligned to {shapes[0]}. Cut the "
            "longer ones' canonical factors to the same rank first."
        )
    if orthogonal:
        u, _, vt = jnp.linalg.svd(b.left.T @ a.left + b.right @ a.right.T)
        gauge = u @ vt
        inverse = gauge.T
    else:
        gauge = jnp.linalg.lstsq(b.left, a.left)[0]
        inverse = jnp.linalg.pinv(gauge)
    aligned = Factors(b.left @ gauge, inverse @ b.right)
    return FactorMatch(gauge, aligned, _distance(a, aligned), _distance(a, b))


def _distance(a: Factors, b: Factors) -> Float[Array, ""]:
    squares = jax.tree.map(lambda x, y: jnp.sum((x - y) ** 2), a, b)
    return jnp.sqrt(squares.left + squares.right)


def _checked(factors: Factors) -> tuple[Array, Array]:
    left, right = factors
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[0]
    if not fits or left.shape[1] > min(left.shape[0], right.shape[1]):
        raise ValueError(
            "Factors have shapes (m, r) and (r, n), with r no larger than m and n; got "
            f"{left.shape} and {right.shape}. A batch goes through `jax.vmap`."
        )
    return left, right
