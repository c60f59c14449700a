"""Factors of one product in different gauges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from wsl.matching import canonical_factors, Factors, match_factors, singular_values


def _draw(seed, m=5, r=2, n=4):
    random = np.random.default_rng(seed)
    shapes = (m, r), (r, n)
    return Factors(*(array(random.standard_normal(shape)) for shape in shapes))


def _gauged(factors, seed):
    """The same product in another gauge, far from a rotation."""
    random = np.random.default_rng(seed)
    gauge = random.standard_normal((factors.left.shape[1],) * 2) + np.diag([3.0, 0.2])
    return Factors(
        array(np.asarray(factors.left) @ gauge),
        array(np.linalg.solve(gauge, np.asarray(factors.right))),
    )


def test_canonical_factors_by_hand():
    # 9 at (0, 1) and 4 at (1, 0), whatever the gauge: in order of size, split evenly.
    factors = Factors(
        array([[0.0, 18.0], [-1.0, 0.0]]), array([[-4.0, 0.0], [0.0, 0.5]])
    )
    found = call(canonical_factors, factors)
    np.testing.assert_allclose(found.left, [[3, 0], [0, 2]], atol=1e-5)
    np.testing.assert_allclose(found.right, [[0, 3], [2, 0]], atol=1e-5)
    np.testing.assert_allclose(call(singular_values, factors), [9, 4], rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_no_gauge_changes_the_canonical_form(seed):
    factors = _draw(seed)
    moved = _gauged(factors, seed)
    np.testing.assert_allclose(moved.product, factors.product, atol=1e-4)
    assert np.abs(np.asarray(moved.left - factors.left)).max() > 0.1
    form, other = (call(canonical_factors, x) for x in (factors, moved))
    np.testing.assert_allclose(other.left, form.left, atol=1e-3)
    np.testing.assert_allclose(other.right, form.right, atol=1e-3)
    np.testing.assert_allclose(form.product, factors.product, atol=1e-5)
    # NumPy's, of the whole product.
    expected = np.linalg.svd(np.asarray(factors.product, float))[1][:2]
    np.testing.assert_allclose(call(singular_values, moved), expected, rtol=1e-3)
    # Control: of another product they are others.
    assert (
        np.abs(np.asarray(call(canonical_factors, _draw(9)).left - form.left)).max()
        > 0.1
    )


def test_copies_in_another_gauge_are_matched_back():
    a = _draw(0)
    b = _gauged(a, 1)
    match = call(match_factors, a, b)
    assert match.distance_before > 1
    assert match.distance < 1e-3
    np.testing.assert_allclose(match.aligned.product, b.product, atol=1e-4)
    # A rotation is found by either, a general gauge not by rotations.
    turn = array([[0.6, -0.8], [0.8, 0.6]])
    turned = Factors(a.left @ turn, turn.T @ a.right)
    for orthogonal in (False, True):
        assert call(match_factors, a, turned, orthogonal=orthogonal).distance < 1e-4
    assert call(match_factors, a, b, orthogonal=True).distance > 0.1


def test_queries_and_keys_of_heads_are_factors():
    random = np.random.default_rng(0)
    q, k = (array(random.standard_normal((3, 6, 2))) for _ in range(2))
    gauge = array(random.standard_normal((3, 2, 2)) + 2 * np.eye(2))
    inverse = array(np.linalg.inv(np.asarray(gauge, float)))
    a = Factors(q, k.swapaxes(1, 2))
    b = Factors(q @ gauge, inverse @ a.right)
    x = array(random.standard_normal((5, 6)))

    def scores(f):
        return jnp.einsum("td,hdr,hre,se->hts", x, f.left, f.right, x)

    np.testing.assert_allclose(scores(b), scores(a), atol=1e-3)
    match = call(jax.vmap(match_factors), a, b)
    assert match.distance_before.min() > 0.5
    assert match.distance.max() < 1e-3


def test_factors_that_do_not_fit():
    with pytest.raises(ValueError, match=r"got \(5, 2\) and \(3, 4\)"):
        canonical_factors(Factors(jnp.ones((5, 2)), jnp.ones((3, 4))))
    with pytest.raises(ValueError, match="no larger than"):
        singular_values(Factors(jnp.ones((2, 3)), jnp.ones((3, 4))))
    with pytest.raises(ValueError, match="cannot be aligned"):
        match_factors(_draw(0), _draw(0, r=3))
