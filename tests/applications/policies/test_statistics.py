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
