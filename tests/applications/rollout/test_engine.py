"""Engines: which one a task has, iterations on several devices, and cores."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import (
    AbstractEnvironment,
    AbstractTask,
    Continuous,
    count_cores,
    make,
)
from applications.policies import FlatView, MLPPolicy
from applications.rollout import (
    AbstractEngine,
    engine_for,
    JAXEngine,
    mesh_of,
    register_engine,
    RolloutOptions,
)
from applications.rollout.native import NativeEngine


# All of them; tests see one unless they ask for more.
_DEVICES = tuple(jax.devices())


class _Elsewhere(AbstractEnvironment):
    """A task that nothing here can step."""

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-1.0,), (1.0,))
    horizon: ClassVar[int] = 1


class _Engine(AbstractEngine):
    """Stands for somebody else's."""

    def __init__(self, task):
        self.task = task

    def compile_rollout(self, make_policy, options=RolloutOptions()):
        raise NotImplementedError

    def compile_iteration(
        self, propose, learn, make_policy, state, options=RolloutOptions()
    ):
        raise NotImplementedError

    def compile_unroll(self, make_policy, **options):
        raise NotImplementedError


def test_the_engine_of_a_task():
    assert isinstance(engine_for(make("cartpole")), JAXEngine)
    native = make("inverted_pendulum", physics="mujoco")
    assert isinstance(engine_for(native), NativeEngine)
    with pytest.raises(ValueError, match="No engine steps a _Elsewhere"):
        engine_for(_Elsewhere())


def test_an_engine_of_ones_own(monkeypatch):
    monkeypatch.setattr("applications.rollout.engine._ENGINES", {})
    monkeypatch.setattr("applications.rollout.OwnEngine", _Engine, raising=False)
    register_engine(_Elsewhere, "applications.rollout:OwnEngine")
    task = _Elsewhere()
    engine = engine_for(task)
    assert isinstance(engine, _Engine) and engine.task is task


class _Proposal(eqx.Module):
    acting: jax.Array
    key: jax.Array


class _Climb(eqx.Module):
    """Goes to the better half of a population."""

    task: AbstractTask

    def propose(self, state):
        weights, key = state
        noise = jr.normal(key, (7, len(weights)))
        return _Proposal(weights[None] + noise, jr.fold_in(key, 1))

    def learn(self, state, proposal, episodes):
        returns = episodes.total_reward.mean(1)
        better = returns >= jnp.median(returns)
        weights = jnp.mean(proposal.acting, axis=0, where=better[:, None])
        metrics = {"steps": episodes.length.sum(), "starts": episodes.start}
        return (weights, jr.fold_in(state[1], 2)), metrics


def test_an_iteration_is_the_same_on_any_devices():
    task = make("cartpole", horizon=30)
    view = FlatView(MLPPolicy(task, (3,), key=jr.key(0)))
    climb = _Climb(task)
    state = (jnp.zeros(view.space.size), jr.key(1))

    def run(devices, **options):
        engine = JAXEngine(task, devices=devices)
        step = engine.compile_iteration(
            *(climb.propose, climb.learn, view.to_policy, state),
            RolloutOptions(episodes=2, **options),
        )
        # What it is given is used up.
        return step(jax.tree.map(lambda leaf: leaf.copy(), state))

    (weights, _), metrics = run(None)
    devices = _DEVICES[:3]
    assert len(devices) == 3
    (shared, key), others = run(devices, chunk=2)
    # Rollouts are shared out; what is learned is on the first device.
    assert shared.devices() == weights.devices() == {_DEVICES[0]}
    np.testing.assert_array_equal(others["starts"], metrics["starts"])
    np.testing.assert_array_equal(others["steps"], metrics["steps"])
    np.testing.assert_allclose(shared, weights, rtol=1e-6)
    assert np.abs(weights).max() > 0.1 and not np.array_equal(
        jr.key_data(key), jr.key_data(state[1])
    )


def test_all_devices_unless_some_are_named(use_devices):
    assert mesh_of() is None  # of tests, who have one
    use_devices(3)
    mesh = mesh_of()
    assert mesh is not None and mesh.size == 3
    single = mesh_of(_DEVICES[1:2])
    assert single is not None and single.size == 1


# Cores.


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """From names and contents of files, and a process's groups, to its cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)

    def count(groups, **files):
        (tmp_path / "process").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name.replace("__", "/").replace("_max", ".max")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return count_cores(tmp_path / "cgroup", tmp_path / "process")

    return count


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9000000 100000", 8),
        ("nonsense", 8),
    ],
)
def test_the_quota_of_a_container(cgroups, quota, cores):
    assert cgroups("0::/\n", cpu_max=quota) == cores


def test_quotas_of_groups_around(cgroups):
    files = {"outer__cpu_max": "300000 100000", "outer__inner__cpu_max": "max 100000"}
    assert cgroups("0::/outer/inner\n", **files) == 3
    # In a container the path may be another one than what is mounted.
    assert cgroups("0::/elsewhere/x\n", cpu_max="500000 100000") == 5


def test_quotas_of_version_1(cgroups):
    files = {"cpu__cpu.cfs_quota_us": "400000", "cpu__cpu.cfs_period_us": "100000"}
    groups = "5:memory:/\n4:cpu,cpuacct:/\n"
    assert cgroups(groups, **files) == 4
    assert cgroups(groups, **{"cpu__cpu.cfs_quota_us": "-1"}) == 8
    # Control: without such files, what the scheduler says.
    assert cgroups("4:memory:/\n") == 8
