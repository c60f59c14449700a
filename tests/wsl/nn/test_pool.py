"""`InvariantPool`: invariant, and for the mean, all there is."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given

from tests.helpers import examples
from tests.wsl.helpers import act, array, call, draw_element
from tests.wsl.nn.helpers import (
    assert_commutes,
    assert_healthy,
    broken_by_most,
    DEEP,
    draw_features,
    MLP,
    MOVED,
    NESTED,
    RECURRENT,
    SMALL,
    SPACES,
    uneven,
    without_type_checks,
)
from wsl import WeightSpace
from wsl.nn import InvariantPool


def _pool(space, channels, reduction):
    return InvariantPool(space, channels, reduction, num_queries=2, key=jr.key(0))


@functools.cache
def _pools(name, reduction):
    return _pool(SPACES[name], uneven(SPACES[name]), reduction)


@pytest.mark.parametrize("name", ["mlp", "recurrent", "factored", "nested"])
@pytest.mark.parametrize("reduction", ["mean", "max", "attention"])
@examples(8)
@given(seed=st.integers(0, 2**31 - 1))
def test_invariant(name, reduction, seed):
    space = SPACES[name]
    pool = _pools(name, reduction)
    features = draw_features(space, uneven(space), seed)
    assert_commutes(pool, space, features, [seed])


@pytest.mark.parametrize("name", ["recurrent", "frozen"])
@pytest.mark.parametrize("reduction", ["mean", "max", "attention"])
def test_sees_the_weights(name, reduction):
    space, channels = SPACES[name], uneven(SPACES[name])
    pool = _pools(name, reduction)
    vector = call(pool, draw_features(space, channels, 0))
    assert vector.shape == (pool.num_features,)
    # No feature is a constant.
    other = call(pool, draw_features(space, channels, 1))
    assert np.abs(other - np.asarray(vector)).min() > 0


@pytest.mark.parametrize("reduction", ["mean", "max", "attention"])
def test_health(reduction):
    assert_healthy(_pool(SMALL, 2, reduction), SMALL, 2)


def test_controls():
    pool = InvariantPool(MLP, 2)
    features = draw_features(MLP, 2, 0)

    def weighted(features):
        """Means in which an entry's weight depends on its position."""
        return pool(
            jax.tree.map(
                lambda x: jnp.cumsum(x, axis=0),
                features,
            )
        )

    assert broken_by_most(weighted, MLP, features) > MOVED
    # A larger group than the pool's changes the vector: inputs, rows by themselves,
    # units from one head to another.
    assert broken_by_most(pool, MLP, features, group=MLP.unfix("in", "out")) > MOVED
    loose = WeightSpace.from_spec(
        RECURRENT.unflatten(jnp.zeros(RECURRENT.size)),
        {
            "['b']": ("h",),
            "['o']": (None, "h"),
            "['s']": (),
            "['u']": ("h", None),
            "['w']": ("h", "other"),
        },
    )
    pool, features = InvariantPool(RECURRENT, 2), draw_features(RECURRENT, 2, 0)
    assert broken_by_most(pool, RECURRENT, features, group=loose) > MOVED


def _orbits(space):
    """How many orbits the group has on the coordinates, by following elements."""
    parent = np.arange(space.size)

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    ends = np.cumsum([int(np.prod(leaf.shape)) for leaf in space.leaves])
    numbered = [
        part.reshape(leaf.shape)
        for part, leaf in zip(
            np.split(np.arange(space.size), ends[:-1]), space.leaves, strict=True
        )
    ]
    for seed in range(100):
        moved = act(space, numbered, draw_element(space, seed))
        for i, j in enumerate(np.concatenate([np.ravel(leaf) for leaf in moved])):
            parent[root(i)] = root(j)
    return len({root(i) for i in range(space.size)})


@pytest.mark.parametrize("name", SPACES)
def test_means_are_all_invariant_linear_functionals(name):
    space = SPACES[name]
    pool = InvariantPool(space, 1)

    def pooled(vector):
        return pool(jax.tree.map(lambda x: x[..., None], space.unflatten(vector)))

    matrix = np.asarray(jax.jit(jax.jacobian(pooled))(array(np.zeros(space.size))))
    # An invariant functional is constant on orbits, so there are as many independent
    # ones as there are orbits.
    orbits = _orbits(space)
    assert np.linalg.matrix_rank(matrix) == orbits
    assert pool.num_features == orbits


def test_counts():
    # Bell numbers 1, 2, 5, 15 of the axes of one group.
    for axes, count in [(1, 1), (2, 2), (3, 5), (4, 15)]:
        leaf = {"a": jnp.zeros((5,) * axes)}
        space = WeightSpace.from_spec(leaf, {"['a']": ("g",) * axes})
        assert InvariantPool(space, 3).num_features == 3 * count
    assert InvariantPool(RECURRENT, 1).num_features == 1 + 1 + 1 + 2 + 2
    # A pair of units: of different heads, of one head, or one unit.
    leaf = {"pair": NESTED.leaves[2].shape}
    assert leaf == {"pair": (6, 6)}
    pair = WeightSpace.from_spec(
        {"pair": jnp.zeros((6, 6))},
        {"['pair']": (("heads", "units"),) * 2},
        nested={"units": "heads"},
        sizes={"heads": 2, "units": 3},
    )
    assert InvariantPool(pair, 1).num_features == 3
    assert InvariantPool(DEEP, 1).num_features == 3


def test_values_by_hand():
    w = np.random.default_rng(0).standard_normal((4, 4, 1))
    features = {**draw_features(RECURRENT, 1, 0), "w": array(w)}
    off = w.reshape(-1)
    diagonal = w[range(4), range(4), 0]
    for reduction, numpy in [("mean", np.mean), ("max", np.max)]:
        pool = InvariantPool(RECURRENT, 1, reduction)
        vector = np.asarray(call(pool, features))
        np.testing.assert_allclose(
            vector[-2:], [numpy(diagonal), numpy(off)], rtol=1e-5
        )
        u = np.asarray(features["u"])[..., 0]
        np.testing.assert_allclose(vector[-4:-2], numpy(u, axis=0), rtol=1e-5)


def test_attention_by_hand():
    pool = _pool(RECURRENT, 3, "attention")
    features = draw_features(RECURRENT, 3, 0)
    assert pool.queries is not None
    queries = np.asarray(pool.queries[-1], float)  # (2 diagonals, 2 queries, 3)
    w = np.asarray(features["w"], float)
    expected = []
    for entries, both in [
        (w[range(4), range(4)], queries[0]),
        (w.reshape(16, 3), queries[1]),
    ]:
        for query in both:
            weights = np.exp(entries @ query)
            expected.append(weights @ entries / weights.sum())
    found = np.asarray(call(pool, features))[-12:]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-6)


def test_no_leaves():
    space = WeightSpace.from_spec({})
    assert InvariantPool(space, 2)({}).shape == (0,)


def test_errors():
    with pytest.raises(ValueError, match="needs a key"):
        InvariantPool(MLP, 2, "attention")
    with without_type_checks(), pytest.raises(ValueError, match="reduction"):
        InvariantPool(MLP, 2, "median")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="num_queries"):
        InvariantPool(MLP, 2, "attention", num_queries=0, key=jr.key(0))
    with pytest.raises(ValueError, match="'b0'"):
        InvariantPool(MLP, 2)(draw_features(MLP, 3, 0))
