"""Policies that share weights and have thin factors act as those with all of their own.

The expected values come from the weights W + σ A Bᵀ / √r, added up with NumPy.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make
from applications.envs.native import NativeTask
from applications.policies import FlatView, MLPPolicy, RunningStatistics
from applications.rollout import count_policies, rollout, RolloutOptions
from applications.rollout.native import NativeRollout
from applications.search import draw_perturbations, LowRankCandidates, ToPolicy
from applications.stores import Centres


_TASK = make("cartpole", horizon=30)
_KEY = jax.random.key(3)
_SIGMA = 0.4


def _candidates(task, *, rank=2, count=5, hidden=(5, 3)):
    policy = MLPPolicy(task, hidden, key=jax.random.key(0))
    view = FlatView(policy)
    drawn = draw_perturbations(
        policy, count, rank=rank, scale=_SIGMA, key=jax.random.key(1)
    )
    return view, LowRankCandidates(view.to_vector(policy), drawn)


def _statistics(task):
    size = task.observation_size
    mean, squares = jnp.linspace(-0.5, 0.5, size), jnp.linspace(1.0, 90.0, size)
    return RunningStatistics(jnp.float32(20.0), mean, squares)


def _full(view, candidates, unperturbed, statistics=None, root=1.0):
    """θ and what is added to it, layer by layer; `root` stands in for 1 / √r."""
    centre, factors = jax.tree.map(
        np.asarray, (view.to_policy(candidates.centre), candidates.perturbations)
    )
    vectors = []
    for i in range(len(candidates) + unperturbed):
        parts = []
        for k, (layer, own) in enumerate(zip(centre.layers, factors, strict=True)):
            weight, bias = layer.weight, layer.bias
            if i < len(candidates):
                weight = weight + root * own.left[i] @ own.right[i].T
                bias = bias + own.bias[i]
            if k == 0 and statistics is not None:
                std = np.sqrt(np.asarray(statistics.squares) / 20.0)
                weight = weight / std
                bias = bias - weight @ np.asarray(statistics.mean)
            parts += [weight.ravel(), bias]
        vectors.append(np.concatenate(parts))
    return jnp.asarray(np.stack(vectors))


def _assert_close(ours, theirs, rtol=1e-4):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-4)


@pytest.mark.parametrize("normalise", [False, True])
def test_outputs_equal_those_of_full_weights(normalise):
    view, candidates = _candidates(_TASK, rank=3)
    statistics = _statistics(_TASK) if normalise else None
    population = candidates.population(view, 2, statistics)
    observations = jax.random.normal(_KEY, (7, _TASK.observation_size))
    assert count_policies(population) == 7

    def answers(own, observation):
        return population.shared.perturbed(own)(observation)

    ours = jax.vmap(answers)(population.own, observations)

    def expected(root=1.0):
        full = _full(view, candidates, 2, statistics, root)
        return jax.vmap(lambda w, x: view.to_policy(w)(x))(full, observations)

    np.testing.assert_allclose(ours, expected(), rtol=2e-5, atol=2e-6)
    # Without 1 / √r they would be others; the unperturbed ones would not.
    wrong = expected(root=math.sqrt(3))
    assert (np.abs(ours - wrong)[:5] > 1e-3).any(axis=1).all()
    np.testing.assert_allclose(ours[5:], wrong[5:], rtol=2e-5, atol=2e-6)


def test_the_product_with_what_is_shared_is_one():
    view, candidates = _candidates(_TASK, count=9)
    population = candidates.population(view)

    def products(axes):
        run = jax.vmap(lambda p, x: ToPolicy(view)(p)(x), axes)
        jaxpr = jax.make_jaxpr(run)(population, jnp.zeros((9, 4))).jaxpr
        dots = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "dot_general"]
        return [eqn.params["dimension_numbers"][1] for eqn in dots]

    axes = type(population)(None, 0)
    batched = [batch for batch in products((axes, 0)) if batch != ((), ())]
    # Two thin ones a layer, and one for all.
    assert len(products((axes, 0))) == 9 and len(batched) == 6


@pytest.mark.nightly
def test_rollouts_in_jax_equal_those_of_full_weights():
    view, candidates = _candidates(_TASK)
    population = candidates.population(view, 2, _statistics(_TASK))
    full = _full(view, candidates, 2, _statistics(_TASK))

    @jax.jit
    def run(population):
        return rollout(
            _TASK, ToPolicy(view), population, options=RolloutOptions(2), key=_KEY
        )

    found = run(population)
    assert found.total_reward.shape == (7, 2)
    _assert_close(found, run(full))
    others = run(full[::-1])
    assert (found.length != others.length).any()

    def shared(axis, chunk):
        return rollout(
            *(_TASK, ToPolicy(view), population),
            options=RolloutOptions(episodes=2, chunk=chunk),
            axis=axis,
            key=_KEY,
        )

    told = jax.jit(
        jax.vmap(lambda _: shared("devices", 2), axis_name="devices", axis_size=3)
    )(jnp.zeros(3))
    _assert_close(jax.tree.map(lambda leaf: leaf[0], told), found)


def test_rollouts_in_c_equal_those_of_full_weights():
    task = make("inverted_double_pendulum", physics="mujoco", horizon=15)
    assert isinstance(task, NativeTask)
    view, candidates = _candidates(task, count=37, hidden=(4,))
    population = candidates.population(view, 3, _statistics(task))
    full = _full(view, candidates, 3, _statistics(task))
    # Some fall sooner than others, so that blocks become smaller on the way.
    run = NativeRollout(task, ToPolicy(view), threads=1)
    found = run(population, key=_KEY)
    lengths = np.sort(np.asarray(found.length[:, 0]))
    assert lengths[len(lengths) // 2] < lengths[-1]
    theirs = NativeRollout(task, ToPolicy(view), threads=1)(full, key=_KEY)
    _assert_close(found, theirs, rtol=1e-3)


@pytest.mark.nightly
def test_entries_of_an_archive_find_their_policy():
    view, candidates = _candidates(_TASK, count=3)
    full = _full(view, candidates, 0)
    centres = Centres.empty(view.space.size, 2)
    vectors = jax.jit(jax.vmap(lambda c, own: c.vector(own, view), (None, 0)))
    for k in range(3):  # The third batch takes the place of the first.
        centre = candidates.centre + k
        centres, weights = centres.add(centre, candidates.perturbations)
        found = vectors(centres, weights)
        np.testing.assert_allclose(found, full + k, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(weights.centre, 3 * [k % 2])
