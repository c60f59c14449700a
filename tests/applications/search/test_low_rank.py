"""The law of low-rank perturbations, from moments worked out by hand."""

import jax
import numpy as np
import pytest

from applications.envs import make
from applications.policies import FlatView, MLPPolicy
from applications.search import draw_perturbations, LowRankCandidates


_POLICY = MLPPolicy(make("cartpole"), (3,), key=jax.random.key(0))
_COUNT = 20_000


def _entries(**options):
    options = {"key": jax.random.key(1), **options}
    first = draw_perturbations(_POLICY, _COUNT, **options)[0]
    matrix = np.asarray(first.matrix).reshape(_COUNT, -1)
    return np.concatenate([matrix, np.asarray(first.bias)], axis=1)


@pytest.mark.parametrize("rank", [1, 4])
def test_entries_are_uncorrelated_and_of_variance_one(rank):
    entries = _entries(rank=rank)
    # An entry's fourth moment is 3 + 6 / r: with rank 1 it is 9, and the deviation of
    # the measured variance √(8 / count) = 0.02.
    np.testing.assert_allclose(entries.mean(axis=0), 0.0, atol=0.04)
    covariance = entries.T @ entries / _COUNT
    np.testing.assert_allclose(covariance, np.eye(len(covariance)), atol=0.1)
    weights = entries[:, :12]
    fourth = (weights**4).mean()
    np.testing.assert_allclose(fourth, 3 + 6 / rank, rtol=0.1)


def test_another_scale_would_be_noticed():
    twice = _entries(rank=4, scale=2.0)
    np.testing.assert_allclose(twice.var(axis=0), 4.0, rtol=0.1)
    # As it were without 1 / √r.
    assert (np.abs(4.0 * _entries(rank=4).var(axis=0)[:12] - 1.0) > 0.5).all()


def test_a_row_depends_on_its_number_alone():
    few = draw_perturbations(_POLICY, 2, rank=2, key=jax.random.key(1))
    more = draw_perturbations(_POLICY, 5, rank=2, key=jax.random.key(1))
    for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(more), strict=True):
        np.testing.assert_array_equal(a, b[:2])
        assert len(np.unique(b.reshape(5, -1)[:, 0])) == 5


def test_pairs_add_up_to_nothing():
    view = FlatView(_POLICY)
    centre = view.to_vector(_POLICY)
    draw = lambda antithetic: LowRankCandidates(
        centre,
        draw_perturbations(
            _POLICY, 6, rank=2, antithetic=antithetic, key=jax.random.key(1)
        ),
    )
    added = draw(True).vectors(view) - centre[None]
    np.testing.assert_allclose(added[0::2], -added[1::2], atol=1e-6)
    assert len(np.unique(np.abs(np.asarray(added[:, 0])))) >= 3
    alone = draw(False).vectors(view) - centre[None]
    assert np.abs(alone[0::2] + alone[1::2]).max() > 0.5


def test_norms_are_those_of_what_is_added():
    view = FlatView(_POLICY)
    centre = view.to_vector(_POLICY)
    drawn = draw_perturbations(_POLICY, 4, rank=3, scale=0.5, key=jax.random.key(2))
    candidates = LowRankCandidates(centre, drawn)
    added = candidates.vectors(view) - centre[None]
    np.testing.assert_allclose(
        candidates.norms, np.linalg.norm(added, axis=1), rtol=1e-4
    )


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        draw_perturbations(_POLICY, 2, rank=0, key=jax.random.key(0))
