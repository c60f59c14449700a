"""A population shared out over devices runs as it does on one.

The devices are those of `jax.vmap`, whose named axis collectives understand too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import make
from applications.envs.native import NativeTask
from applications.policies import FlatView, MLPPolicy
from applications.rollout import Episode, rollout, RolloutOptions
from applications.rollout._devices import share_out
from applications.rollout.native import NativeRollout


_TASK = make("cartpole", horizon=20)
_VIEW = FlatView(MLPPolicy(_TASK, (4,), key=jax.random.key(0)))


def _population(size: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (size, _VIEW.space.size))


def _on(devices: int, run) -> Episode:
    """What each device is told, of which the first one's is given back."""
    told = jax.jit(
        jax.vmap(lambda _: run(), axis_name="devices", axis_size=devices, in_axes=None)
    )(None)
    for leaf in jax.tree.leaves(told):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
    return jax.tree.map(lambda leaf: leaf[0], told)


def _assert_close(ours: Episode, theirs: Episode) -> None:
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# With parts that are filled up, and a device that has nothing of its own.
@pytest.mark.parametrize("size, devices, chunk", [(7, 3, 2), (3, 4, None)])
def test_any_number_of_devices(size, devices, chunk):
    population, key = _population(size), jax.random.key(2)

    def run(axis, chunk):
        return rollout(
            *(_TASK, _VIEW.to_policy, population),
            options=RolloutOptions(episodes=2, chunk=chunk),
            axis=axis,
            key=key,
        )

    alone = jax.jit(lambda: run(None, None))()
    assert len(np.unique(alone.start[..., 0])) == 2 * size
    _assert_close(_on(devices, lambda: run("devices", chunk)), alone)


def test_keys_of_the_devices_own_rows_would_be_noticed():
    population, key = _population(8), jax.random.key(2)

    def run(rows):
        # As if each device had a population of its own.
        return rollout(_TASK, _VIEW.to_policy, rows, key=key)

    alone = jax.jit(lambda: run(population))()
    shared = _on(4, lambda: share_out(run, population, "devices"))
    with pytest.raises(AssertionError):
        _assert_close(shared, alone)


def test_rows_come_back_in_their_order():
    rows = jnp.arange(7)
    told = _on(3, lambda: share_out(lambda own: own * own, rows, "devices"))
    np.testing.assert_array_equal(told, [0, 1, 4, 9, 16, 25, 36])


def test_parts_on_the_c_engine():
    task = make("inverted_pendulum", physics="mujoco", horizon=20)
    assert isinstance(task, NativeTask)
    view = FlatView(MLPPolicy(task, (4,), key=jax.random.key(0)))
    population = jax.random.normal(jax.random.key(1), (7, view.space.size))
    key = jax.random.key(2)

    def run(**options) -> Episode:
        return NativeRollout(
            task,
            view.to_policy,
            RolloutOptions(episodes=2, chunk=3),
            threads=1,
            **options,
        )(population, key=key)

    whole = run()
    parts = [run(part=(i, 3)) for i in range(3)]
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:7], *parts)
    _assert_close(joined, whole)
    # Control: the second part alone is not the first.
    assert not np.array_equal(parts[0].start, parts[1].start)


def test_a_part_that_is_not_there():
    task = make("inverted_pendulum", physics="mujoco")
    assert isinstance(task, NativeTask)
    with pytest.raises(ValueError, match="There is no part 2 of 2"):
        NativeRollout(task, _VIEW.to_policy, part=(2, 2))
