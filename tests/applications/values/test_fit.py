"""What V is fitted to, and what it must not see."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import wsl
from applications.stores import Archive, Record
from applications.values import fit, labels, predict, value_function
from wsl.encoders import EncodedMLP, Flat


def _make_policy(weights):
    return {"w": weights}


def _value(state_size: int = 0) -> EncodedMLP:
    encoder = Flat(wsl.WeightSpace.from_spec({"w": jnp.zeros(2)}))
    return value_function(encoder, 16, 1, state_size=state_size, key=jr.key(0))


_RECORDS = Record(
    weights=jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]),
    returns=jnp.array([[1.0, 3.0], [5.0, 700.0], [800.0, 900.0]]),
    starts=jnp.array([[[0.0], [1.0]], [[2.0], [3.0]], [[4.0], [5.0]]]),
    valid=jnp.array([[True, True], [True, False], [False, False]]),
)


def test_labels_by_hand():
    returns, valid = labels(_value(), _RECORDS)
    np.testing.assert_array_equal(returns, [[2], [5], [0]])
    np.testing.assert_array_equal(valid, [[True], [True], [False]])
    returns, valid = labels(_value(state_size=1), _RECORDS)
    np.testing.assert_array_equal(returns, _RECORDS.returns)
    np.testing.assert_array_equal(valid, _RECORDS.valid)


def test_predictions_one_by_one():
    value = _value()
    expected = [[value({"w": weights})] for weights in _RECORDS.weights]
    np.testing.assert_allclose(
        predict(value, _make_policy, _RECORDS), np.array(expected), rtol=1e-6
    )
    value = _value(state_size=1)
    expected = [
        [value({"w": weights}, start) for start in starts]
        for weights, starts in zip(_RECORDS.weights, _RECORDS.starts, strict=True)
    ]
    np.testing.assert_allclose(
        predict(value, _make_policy, _RECORDS), np.array(expected), rtol=1e-6
    )


def _fit(records: Record, *, kind: Any = "standard", state_size=0, batches=1) -> Any:
    optimiser = optax.adam(1e-2)
    value = _value(state_size)
    archive = Archive.empty(records, batches).add(records)
    state = optimiser.init(eqx.filter(value, eqx.is_array))
    return _fitted(value, optimiser, state, archive, kind)


@eqx.filter_jit
def _fitted(value, optimiser, state, archive, kind) -> Any:
    return fit(
        value,
        optimiser,
        state,
        archive,
        _make_policy,
        kind=kind,
        batch_size=3,
        updates=300,
        key=jr.key(1),
    )


@pytest.mark.parametrize("kind", ["standard", "rank"])
@pytest.mark.parametrize("state_size", [0, 1])
def test_fits_what_is_valid(kind, state_size):
    value, _, targets, _ = _fit(_RECORDS, kind=kind, state_size=state_size)
    returns, valid = labels(value, _RECORDS)
    known = targets.inverse(predict(value, _make_policy, _RECORDS))
    np.testing.assert_allclose(known[valid], returns[valid], atol=0.3)


@pytest.mark.parametrize("state_size", [0, 1])
def test_what_is_not_valid_has_no_effect(state_size):
    others = jnp.where(_RECORDS.valid, _RECORDS.returns, -1e30)
    changed = eqx.tree_at(lambda r: r.returns, _RECORDS, others)
    same = [_fit(r, state_size=state_size)[0] for r in (_RECORDS, changed)]
    assert eqx.tree_equal(*[eqx.filter(v, eqx.is_array) for v in same])
    # Control: once it is called valid, it has.
    changed = eqx.tree_at(lambda r: r.valid, changed, jnp.ones_like(_RECORDS.valid))
    other = _fit(changed, state_size=state_size)[0]
    assert not eqx.tree_equal(*[eqx.filter(v, eqx.is_array) for v in (same[0], other)])


def test_empty_places_have_no_effect():
    small, large = _fit(_RECORDS), _fit(_RECORDS, batches=4)
    assert jnp.allclose(small[2].mean, 3.5) and jnp.allclose(large[2].mean, 3.5)
    np.testing.assert_allclose(
        predict(small[0], _make_policy, _RECORDS)[:2],
        predict(large[0], _make_policy, _RECORDS)[:2],
        atol=1e-2,
    )


def test_nothing_valid_changes_nothing():
    none = eqx.tree_at(lambda r: r.valid, _RECORDS, jnp.zeros((3, 2), bool))
    for kind in ("standard", "rank"):
        value, _, targets, loss = _fit(none, kind=kind)
        assert loss == 0
        for leaf in jax.tree.leaves(eqx.filter(targets, eqx.is_array))[:1]:
            assert not np.isnan(leaf).any()
        before, after = (eqx.filter(v, eqx.is_array) for v in (_value(), value))
        assert eqx.tree_equal(before, after)
