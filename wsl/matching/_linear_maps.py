"""The maps of one group of a linear symmetry: canonical ones, and the nearest.

What a group acts on is a matrix for each block, whose rows x become x Gᵀ, and what its
inverse acts on another, whose rows become x G⁻¹.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wsl._linear import LinearKind, turns
from wsl.matching._factors import canonical_factors, Factors


Side: TypeAlias = Float[Array, "*blocks _ n"]
Maps: TypeAlias = Float[Array, "*blocks n n"]
_STEPS = 20
# How often a step is halved, at most, and what stops it where both sides are flat.
_HALVINGS, _FLAT = 8, 1e-6
# Of a rotary map's size: how far to look for its logarithm, and in how many places.
_REACH, _PLACES = 4.0, 65


def canonical_maps(kind: LinearKind, left: Side, right: Side) -> Maps:
    """The maps into the canonical form of `canonical_weights`.

    Args:
        kind: Of the group.
        left: What its maps act on.
        right: What their inverses act on.

    Returns:
        A map for each block.
    """
    if kind == "orthogonal":
        return _principal(left)
    return _balanced(left, right) if kind == "invertible" else _upright(left, right)


def nearest_maps(kind: LinearKind, a: tuple[Side, Side], b: tuple[Side, Side]) -> Maps:
    """The maps that bring both sides of `b` closest to those of `a`.

    Args:
        kind: Of the group.
        a: What its maps act on, and what their inverses do, of one network.
        b: The same of the other.

    Returns:
        A map for each block. It never takes them further apart.
    """
    if kind == "orthogonal":
        return _procrustes(*a, *b)
    return (_invertible if kind == "invertible" else _turned)(*a, *b)


def _transposed(matrix: Array) -> Array:
    return jnp.swapaxes(matrix, -1, -2)


def _for_each_block(find: Callable[..., Array], *sides: Array) -> Array:
    """Goes over leading axes of all sides."""
    for _ in range(sides[0].ndim - 2):
        find = jax.vmap(find)
    return find(*sides)


# Canonical forms.


def _principal(left: Side) -> Maps:
    def of_one(side: Float[Array, "rows n"]) -> Float[Array, "n n"]:
        _, axes = jnp.linalg.eigh(side.T @ side)
        axes = axes[:, ::-1]
        mapped = side @ axes
        at = jnp.argmax(jnp.abs(mapped), axis=0)
        picked = jnp.take_along_axis(mapped, at[None], axis=0)[0]
        return (axes * jnp.where(picked < 0, -1.0, 1.0)[None]).T

    return _for_each_block(of_one, left)


def _balanced(left: Side, right: Side) -> Maps:
    def of_one(left: Array, right: Array) -> Float[Array, "n n"]:
        canonical = canonical_factors(Factors(left, right.T))
        return jnp.linalg.lstsq(left, canonical.left)[0].T

    return _for_each_block(of_one, left, right)


def _upright(left: Side, right: Side) -> Maps:
    z, w = _as_complex(left), _as_complex(right)
    at = jnp.argmax(jnp.abs(z), axis=-1, keepdims=True)
    largest = jnp.take_along_axis(z, at, axis=-1)[..., 0]
    size = jnp.sqrt(jnp.linalg.norm(w, axis=-1) / jnp.linalg.norm(z, axis=-1))
    factor = size / jnp.abs(largest)
    return turns(factor * largest.real, -factor * largest.imag)


# Alignment.


def _procrustes(a_left: Side, a_right: Side, b_left: Side, b_right: Side) -> Maps:
    # The transposed inverse of an orthogonal map is itself.
    products = _transposed(b_left) @ a_left + _transposed(b_right) @ a_right
    u, _, vt = jnp.linalg.svd(products)
    return _transposed(u @ vt)


@jax.jit
def _invertible(a_left: Side, a_right: Side, b_left: Side, b_right: Side) -> Maps:
    """Steps X, G <- exp(X) G, from the best of three maps.

    To first order in X the left side, now L, becomes L + L Xᵀ, and the right side, now
    R, becomes R - R X. The least squares are where
    (Rᵀ R) X + X (Lᵀ L) = (L_a - L)ᵀ L - Rᵀ (R_a - R).
    """
    sides = a_left, a_right, b_left, b_right

    def distance(maps: Maps) -> Float[Array, "*blocks"]:
        left, right = b_left @ _transposed(maps), b_right @ jnp.linalg.inv(maps)
        parts = [
            jnp.sum(jnp.square(x - y), axis=(-1, -2))
            for x, y in ((left, a_left), (right, a_right))
        ]
        return jnp.where(jnp.isfinite(sum(parts)), sum(parts), jnp.inf)

    def best(found: list[Maps]) -> Maps:
        maps = jnp.stack(found)
        chosen = jnp.argmin(jax.vmap(distance)(maps), axis=0)
        return jnp.take_along_axis(maps, chosen[None, ..., None, None], axis=0)[0]

    def step(_: Any, maps: Maps) -> Maps:
        left, right = b_left @ _transposed(maps), b_right @ jnp.linalg.inv(maps)
        slope = _transposed(a_left - left) @ left - _transposed(right) @ (
            a_right - right
        )
        x = _sylvester(_transposed(right) @ right, _transposed(left) @ left, slope)
        powers = [jax.scipy.linalg.expm(0.5**i * x) @ maps for i in range(_HALVINGS)]
        return best([maps, *powers])

    turned = _procrustes(*sides)
    identity = jnp.broadcast_to(jnp.eye(turned.shape[-1]), turned.shape)
    starts = [identity, turned, _as_copies(*sides)]
    return jax.lax.fori_loop(0, _STEPS, step, best(starts))


def _as_copies(a_left: Side, a_right: Side, b_left: Side, b_right: Side) -> Maps:
    """The G that minimises ‖L_a - L_b Gᵀ‖² + ‖R_a G - R_b‖²: exact for two gauges."""
    above = _transposed(a_left) @ b_left + _transposed(a_right) @ b_right
    return _sylvester(
        _transposed(a_right) @ a_right, _transposed(b_left) @ b_left, above
    )


def _sylvester(q: Maps, p: Maps, sum_: Maps) -> Maps:
    """X with Q X + X P = S, where Q and P have no negative eigenvalues."""
    p_values, x = jnp.linalg.eigh(p)
    q_values, y = jnp.linalg.eigh(q)
    sums = q_values[..., :, None] + p_values[..., None, :]
    floor = _FLAT * jnp.max(sums, axis=(-1, -2), keepdims=True) + 1e-30
    solved = (_transposed(y) @ sum_ @ x) / jnp.maximum(sums, floor)
    return y @ solved @ _transposed(x)


@jax.jit
def _turned(a_left: Side, a_right: Side, b_left: Side, b_right: Side) -> Maps:
    """A number for each block: z becomes r exp(iφ) z, and w becomes exp(iφ) w / r.

    The squared distance is r² ‖z‖² + ‖w‖² / r² - 2 Re exp(-iφ) (r s + t / r) and a
    constant, with s and t the inner products of both sides. So φ is the angle of what
    is in brackets, and r is looked for.
    """
    z_a, w_a, z_b, w_b = map(_as_complex, (a_left, a_right, b_left, b_right))
    s, t = (jnp.sum(jnp.conj(x) * y, -1) for x, y in ((z_b, z_a), (w_b, w_a)))
    z_square, w_square = (jnp.sum(jnp.abs(x) ** 2, -1) for x in (z_b, w_b))

    def bracket(r: Any) -> Any:
        return jax.lax.complex(r * s.real + t.real / r, r * s.imag + t.imag / r)

    def distance(logarithm: Any) -> Any:
        r = jnp.exp(logarithm)
        return r**2 * z_square + w_square / r**2 - 2 * jnp.abs(bracket(r))

    def slope(logarithm: Any) -> Any:
        return jax.jvp(distance, (logarithm,), (jnp.ones_like(logarithm),))[1]

    def best(tried: Any) -> Any:
        values = jnp.nan_to_num(jax.vmap(distance)(tried), nan=jnp.inf)
        at = jnp.argmin(values, axis=0)
        return jnp.take_along_axis(tried, at[None], axis=0)[0]

    # Around that of two gauges, which z_a = f z_b and w_b = conj(f) w_a would say.
    scale = z_square + jnp.sum(jnp.abs(w_a) ** 2, -1)
    copies = jnp.log(jnp.abs(s + t) / scale)
    centre = jnp.nan_to_num(copies, posinf=0.0, neginf=0.0)
    # Coarsely first, for there may be two valleys; then by Newton's steps.
    spacing = 2 * _REACH / (_PLACES - 1)
    places = jnp.linspace(-_REACH, _REACH, _PLACES)
    start = found = best(jax.vmap(lambda place: centre + place)(places))
    for _ in range(_STEPS):
        along, curve = jax.jvp(slope, (found,), (jnp.ones_like(found),))
        step = along / jnp.maximum(curve, 1e-30)
        found -= jnp.clip(jnp.nan_to_num(step), -spacing / 2, spacing / 2)
    r = jnp.exp(best(jnp.stack([found, start, centre, jnp.zeros_like(found)])))
    angle = jnp.angle(bracket(r))
    return turns(r * jnp.cos(angle), r * jnp.sin(angle))


def _as_complex(side: Side) -> Array:
    return jax.lax.complex(side[..., 0], side[..., 1])
