"""The archive against a deque, and the statistics of what it draws."""

import collections

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from applications.stores import Archive


def _batch(first, size):
    """Entries numbered from `first` on, with a leaf of another rank and dtype."""
    numbers = np.arange(first, first + size)
    return {
        "number": jnp.asarray(numbers, jnp.int32),
        "row": jnp.asarray(np.stack([numbers, -numbers], axis=1), jnp.float32),
    }


def _filled(batches, size, added):
    archive = Archive.empty(_batch(0, size), batches)
    for i in range(added):
        # From 1 on: an empty place holds 0.
        archive = archive.add(_batch(1 + i * size, size))
    return archive


@settings(max_examples=30)
@given(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(0, 13))
def test_ring_against_a_deque(batches, size, added):
    archive = Archive.empty(_batch(0, size), batches)
    kept = collections.deque(maxlen=batches)
    assert archive.capacity == batches * size
    assert not archive.filled.any()
    for i in range(added):
        archive = archive.add(_batch(1 + i * size, size))
        kept.append(range(1 + i * size, 1 + (i + 1) * size))
        filled = np.asarray(archive.filled)
        assert filled.sum() == len(kept) * size
        numbers = np.asarray(archive.entries["number"])
        assert sorted(numbers[filled]) == [n for batch in kept for n in batch]
        # The leaves of an entry stay together, the entries of a batch side by side.
        np.testing.assert_array_equal(
            archive.entries["row"], np.stack([numbers, -numbers], axis=1)
        )
        np.testing.assert_array_equal(numbers[~filled], 0)
        assert archive.added < 2 * archive.capacity


def test_places_by_hand():
    # Room for 3 batches of 2. The fourth batch takes the place of the first.
    archive = _filled(3, 2, 2)
    np.testing.assert_array_equal(archive.entries["number"], [1, 2, 3, 4, 0, 0])
    np.testing.assert_array_equal(archive.filled, [1, 1, 1, 1, 0, 0])
    archive = _filled(3, 2, 4)
    np.testing.assert_array_equal(archive.entries["number"], [7, 8, 3, 4, 5, 6])
    np.testing.assert_array_equal(archive.filled, np.ones(6))


def test_empty_from_shapes():
    like = jax.eval_shape(lambda: _batch(0, 2))
    archive = Archive.empty(like, 3)
    expected = Archive.empty(_batch(5, 2), 3)
    assert eqx.tree_equal(archive, expected)
    np.testing.assert_array_equal(archive.entries["row"], np.zeros((6, 2)))


def test_counting_is_bounded():
    archive = Archive.empty(jnp.zeros(2), 3)

    @jax.jit
    def add_many(archive):
        def add(archive, i):
            archive = archive.add(jnp.stack([i, i]))
            return archive, archive.added

        return jax.lax.scan(add, archive, jnp.arange(1000.0))

    archive, added = add_many(archive)
    # Exact until the archive is full, then between once and twice the capacity.
    np.testing.assert_array_equal(added[:5], [2, 4, 6, 8, 10])
    assert added[5:].min() >= 6 and added.max() < 12
    # 1000 = 3 * 333 + 1: the last batch lies in the first place.
    np.testing.assert_array_equal(archive.entries, [999, 999, 997, 997, 998, 998])


def test_batches_have_one_size():
    archive = Archive.empty(jnp.zeros(2), 3)
    with pytest.raises(ValueError) as caught:
        archive.add(jnp.zeros(3))
    assert str(caught.value) == "This archive takes batches of 2 entries; got 3."


# Drawing.


def test_draws_have_no_duplicates_and_no_gaps():
    # 6 of 8 places are filled.
    archive = _filled(4, 2, 3)
    keys = jax.random.split(jax.random.key(0), 500)
    for count in (1, 5, 6):
        drawn = jax.jit(
            jax.vmap(lambda key, count=count: archive.sample(count, key=key))
        )(keys)
        numbers = np.asarray(drawn["number"])
        assert numbers.shape == (500, count)
        np.testing.assert_array_equal(drawn["row"][..., 0], numbers)
        assert all(len(set(row)) == count for row in numbers)
        assert set(numbers.ravel()) == {1, 2, 3, 4, 5, 6}


def test_draws_are_uniform():
    # 3 of 6 entries, n times. An entry is in a draw with p = 1/2, two entries together
    # with p = (3 * 2) / (6 * 5) = 1/5, and an entry comes first with p = 1/6. Each
    # count has standard deviation sqrt(n p (1 - p)); 5 of them either way.
    n = 6000
    archive = _filled(4, 2, 3)
    keys = jax.random.split(jax.random.key(0), n)
    drawn = jax.jit(jax.vmap(lambda key: archive.sample(3, key=key)["number"]))(keys)
    drawn = np.asarray(drawn) - 1
    present = np.eye(6)[drawn].sum(axis=1)
    together = present.T @ present

    def check(counts, p):
        assert np.abs(counts - n * p).max() < 5 * np.sqrt(n * p * (1 - p))

    check(np.diag(together), 1 / 2)
    check(together[~np.eye(6, dtype=bool)], 1 / 5)
    check(np.bincount(drawn[:, 0], minlength=6), 1 / 6)


def test_drawing_everything():
    archive = _filled(2, 2, 2)
    drawn = archive.sample(4, key=jax.random.key(0))
    assert sorted(np.asarray(drawn["number"])) == [1, 2, 3, 4]


@pytest.mark.parametrize("count, most", [(3, 2), (4, 2), (7, 4)])
def test_drawing_more_than_there_are(count, most):
    # 2 of 4 places are filled; each entry is drawn as often as the other, or once more.
    drawn = _filled(2, 2, 1).sample(count, key=jax.random.key(0))
    numbers = list(np.asarray(drawn["number"]))
    assert len(numbers) == count
    assert set(numbers) == {1, 2}
    assert max(numbers.count(1), numbers.count(2)) == most


def test_recent_batches_are_drawn_more_often():
    # Room for 3 batches of 2; five were added, so that 5..10 are there, 9 and 10 last.
    archive = _filled(3, 2, 5)
    count = 60_000
    draw = eqx.filter_jit(
        lambda exponent, key: archive.sample_recent(count, exponent=exponent, key=key)
    )
    shares = {}
    for exponent in (0.0, 1.1):
        drawn = draw(exponent, jax.random.key(0))
        numbers, counts = np.unique(drawn["number"], return_counts=True)
        np.testing.assert_array_equal(numbers, range(5, 11))
        np.testing.assert_array_equal(drawn["row"][:, 0], drawn["number"])
        shares[exponent] = counts / count
    weights = np.array([3, 3, 2, 2, 1, 1]) ** -1.1
    # Five standard deviations of a share are below 0.01.
    np.testing.assert_allclose(shares[1.1], weights / weights.sum(), atol=0.01)
    np.testing.assert_allclose(shares[0.0], 1 / 6, atol=0.01)
    assert np.abs(shares[1.1] - shares[0.0]).max() > 0.1


def test_recent_entries_are_such_as_are_there():
    archive = _filled(4, 3, 1)
    drawn = archive.sample_recent(200, exponent=1.1, key=jax.random.key(1))
    assert set(drawn["number"].tolist()) == {1, 2, 3}
