"""Choosing among given policies, where it is known which one is best."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.policies import FlatView, MLPPolicy
from applications.values import answers, choose


# A hill.
_POINTS = jr.normal(jr.key(0), (400, 2))
_TRUE = -np.sum((np.asarray(_POINTS) - 1.0) ** 2, axis=1)
_FIRST = np.arange(6)


def _choose(returns_of, **options):
    asked = []

    def evaluate(numbers):
        asked.append(numbers.copy())
        return returns_of(numbers)

    given = {"evaluations": 24, "batch": 8} | options
    chosen = choose(
        _POINTS, evaluate, tried=_FIRST, returns=returns_of(_FIRST), **given
    )
    return chosen, asked


def test_it_finds_the_top_of_a_hill():
    chosen, asked = _choose(lambda numbers: _TRUE[numbers])
    assert [len(numbers) for numbers in asked] == [8, 8, 8]
    np.testing.assert_array_equal(chosen.tried[:6], _FIRST)
    np.testing.assert_array_equal(chosen.tried[6:], np.concatenate(asked))
    np.testing.assert_allclose(chosen.returns, _TRUE[chosen.tried], rtol=1e-6)
    rank = np.sum(_TRUE > _TRUE[chosen.best])
    # 30 at random would have one among the best 4 in one of four cases.
    assert rank < 4
    # A round asks for different ones.
    assert len(set(asked[0])) == 8
    # Control: of returns that have nothing to do with the points it learns nothing.
    shuffled = np.random.default_rng(0).permutation(_TRUE)
    lost, _ = _choose(lambda numbers: shuffled[numbers])
    assert np.sum(_TRUE > _TRUE[lost.best]) > 8
    # A return that is no number counts as the worst.
    broken, _ = _choose(lambda numbers: np.where(numbers < 3, np.nan, _TRUE[numbers]))
    assert np.isnan(broken.returns[:3]).all() and broken.best >= 3


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="one at least"):
        choose(
            _POINTS,
            lambda numbers: _TRUE[numbers],
            tried=_FIRST[:0],
            returns=_TRUE[:0],
            evaluations=4,
        )
    with pytest.raises(ValueError, match="batch 0"):
        _choose(lambda numbers: _TRUE[numbers], batch=0)


def test_answers_are_what_policies_put_out():
    task = make("lqr")
    view = FlatView(MLPPolicy(task, (), levels=3, key=jr.key(0)))
    population = jnp.array([[0.1, 0.0], [0.2, 0.1], [0.0, -0.3]])
    states = jnp.array([[1.0], [-2.0]])
    found = answers(task, view.to_policy, population, states)
    # Within +-4, and not rounded.
    weight, bias = np.split(np.asarray(population), 2, axis=1)
    expected = 4 * np.tanh(weight * np.asarray(states)[:, 0] + bias)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
