"""Adapters are encoded by their products, in whatever gauge."""

import jax
import jax.random as jr
import numpy as np
import pytest

from tests.wsl.helpers import array, call
from wsl.encoders import LowRank


_SHAPES = {"up": (6, 4), "down": (4, 6)}


def _adapter(seed, rank=2):
    random = np.random.default_rng(seed)
    return {
        name: (
            array(random.standard_normal((m, rank))),
            array(random.standard_normal((rank, n))),
        )
        for name, (m, n) in _SHAPES.items()
    }


def _gauged(adapter, seed):
    random = np.random.default_rng(seed)
    moved = {}
    for name, (left, right) in adapter.items():
        gauge = random.standard_normal((2, 2)) + np.diag([4.0, 0.5])
        moved[name] = (
            array(np.asarray(left) @ gauge),
            array(np.linalg.solve(gauge, np.asarray(right))),
        )
    return moved


@pytest.mark.parametrize("kind", ["probes", "components"])
def test_no_gauge_is_seen(kind):
    encoder = LowRank(_SHAPES, 3, kind=kind, num_probes=2, width=8, key=jr.key(0))
    adapter = _adapter(0)
    vector = call(encoder, adapter)
    assert vector.shape == (3,) == (encoder.num_features,)
    assert encoder.is_invariant and encoder.num_reads == 20
    moved = call(encoder, _gauged(adapter, 1))
    np.testing.assert_allclose(moved, vector, atol=1e-4)
    # Controls: another adapter, and the factors of one matrix with those of another.
    assert np.abs(np.asarray(call(encoder, _adapter(1))) - vector).max() > 1e-3
    mixed = {**adapter, "up": (adapter["up"][0], _adapter(5)["up"][1])}
    assert np.abs(np.asarray(call(encoder, mixed)) - vector).max() > 1e-3
    # A component of size 0 more says nothing.
    padded = {
        name: (
            array(np.pad(left, ((0, 0), (0, 1)))),
            array(np.pad(right, ((0, 1), (0, 0)))),
        )
        for name, (left, right) in adapter.items()
    }
    np.testing.assert_allclose(call(encoder, padded), vector, atol=1e-4)


def test_gradients_reach_it_and_are_finite():
    for kind in ("probes", "components"):
        encoder = LowRank(_SHAPES, 3, kind=kind, num_probes=2, width=8, key=jr.key(0))
        gradient = jax.jit(jax.grad(lambda x, e=encoder: e(x).sum()))(_adapter(0))
        for leaf in jax.tree.leaves(gradient):
            assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


def test_adapters_that_do_not_fit():
    encoder = LowRank(_SHAPES, 3, width=8, key=jr.key(0))
    with pytest.raises(ValueError, match=r"the matrices \['up'\]"):
        encoder({"up": _adapter(0)["up"]})
    wrong = {**_adapter(0), "up": _adapter(0)["down"]}
    with pytest.raises(ValueError, match=r"expected \(6, r\) and \(r, 4\)"):
        encoder(wrong)
    with pytest.raises(ValueError, match="one matrix or more"):
        LowRank({}, 3, key=jr.key(0))
