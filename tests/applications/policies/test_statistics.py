"""Running statistics against NumPy's, and what they do to a policy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from applications.envs import make
from applications.policies import MLPPolicy, RunningStatistics, standardised


@jax.jit
def _of(sample):
    return jax.lax.scan(
        lambda statistics, x: (statistics.add(x), None),
        RunningStatistics.empty(sample.shape[1]),
        sample,
    )[0]


def test_statistics_equal_numpys():
    random = np.random.default_rng(0)
    # Far from zero, where sums of squares lose all digits.
    sample = (1000 + random.normal(0, [1.0, 3.0, 0.0], (257, 3))).astype(np.float32)
    statistics = _of(jnp.asarray(sample))
    assert statistics.count == 257
    np.testing.assert_allclose(statistics.mean, sample.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.std[:2], sample[:, :2].std(0), rtol=1e-3)
    assert statistics.std[2] == 1  # there is none
    naive = np.sqrt(
        np.maximum(
            np.mean(sample**2, axis=0, dtype=np.float32)
            - np.mean(sample, axis=0, dtype=np.float32) ** 2,
            0,
        )
    )
    assert np.abs(naive[:2] / sample[:, :2].std(0) - 1).max() > 1e-3  # control


def test_samples_join():
    random = np.random.default_rng(1)
    sample = random.normal(5, 2, (60, 2)).astype(np.float32)
    parts = [sample[:7], sample[7:7], sample[7:30], sample[30:]]
    separate = [_of(jnp.asarray(part)) for part in parts]
    others = jax.tree.map(lambda *x: jnp.stack(x), *separate[1:])
    join = jax.jit(RunningStatistics.join)
    joined = join(separate[0], others)
    assert joined.count == 60
    np.testing.assert_allclose(joined.mean, sample.mean(0), rtol=1e-6)
    np.testing.assert_allclose(joined.std, sample.std(0), rtol=1e-5)
    empty = RunningStatistics.empty(2)
    nothing = join(empty, jax.tree.map(lambda x: x[None], empty))
    assert nothing.count == 0 and np.array_equal(nothing.std, [1, 1])


def test_a_standardised_policy_by_hand():
    task = make("cartpole")
    policy = MLPPolicy(task, (3,), key=jax.random.key(0))
    random = np.random.default_rng(2)
    sample = jnp.asarray(random.normal(3, [1, 2, 3, 4], (50, 4)), jnp.float32)
    statistics = _of(sample)
    raw = standardised(policy, statistics)
    standard = (sample - statistics.mean[None]) / statistics.std[None]
    np.testing.assert_allclose(
        jax.vmap(raw)(sample), jax.vmap(policy)(standard), atol=1e-5
    )
    assert np.abs(jax.vmap(policy)(sample) - jax.vmap(raw)(sample)).max() > 0.1
    # Of nothing seen, nothing follows.
    same = standardised(policy, RunningStatistics.empty(4))
    assert eqx.tree_equal(same, policy)


_CONSTANTS = [0.0, 0.3, 1.0, -9.81, 50.7, 333.3, 100000.3]


def test_what_never_varies_has_its_own_value_and_deviation_1():
    constants = np.asarray(_CONSTANTS, np.float32)
    random = np.random.default_rng(3)
    noise = random.normal(0, [0.01, 0.001, 2.0], (8, 5, 3))
    varying = (np.array([1800.0, -100.0, 0.0]) + noise).astype(np.float32)
    sample = np.concatenate([np.tile(constants, (8, 5, 1)), varying], axis=2)
    samples = jax.vmap(_of)(jnp.asarray(sample))

    @jax.jit
    def many(statistics, times):
        step = lambda _, now: now.join(samples)
        return jax.lax.fori_loop(0, times, step, statistics)

    start = RunningStatistics.empty(10)
    for times in (1, 200, 5000):
        joined = many(start, times)
        assert joined.count == times * 40
        np.testing.assert_array_equal(joined.mean[:7], constants)
        np.testing.assert_array_equal(joined.std[:7], np.ones(7))
        flat = varying.reshape(-1, 3).astype(np.float64)
        np.testing.assert_allclose(joined.std[7:], flat.std(0), rtol=0.02)
        np.testing.assert_allclose(joined.mean[7:], flat.mean(0), atol=2e-4)


def test_means_that_are_recomputed_drift():
    """Control: what joins by Σ n·mean / Σ n finds a deviation where there is none."""
    constants = np.asarray(_CONSTANTS, np.float32)
    mean, count = constants, np.float32(40)
    for _ in range(200):
        counts = np.array([count, *[5] * 8], np.float32)[:, None]
        means = np.stack([mean, *[constants] * 8])
        count = counts.sum()
        mean = (counts * means).sum(0) / count
    assert (mean != constants).any()


def test_empty_samples_say_nothing_of_where_the_mean_is():
    (one,) = [_of(jnp.full((4, 2), 333.3))]
    empty = RunningStatistics.empty(2)
    others = jax.tree.map(lambda *x: jnp.stack(x), empty, one, empty)
    joined = jax.jit(RunningStatistics.join)(empty, others)
    assert eqx.tree_equal(joined, one)
