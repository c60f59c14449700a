"""MuJoCo tasks against Gymnasium's, and the two engines against each other."""

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from applications.envs import make
from applications.envs.mjx import MJXTask
from applications.envs.native import NativeTask


# Our name, Gymnasium's, options of both.
_TASKS = [
    ("swimmer", "Swimmer-v5", {}, {}),
    ("hopper", "Hopper-v5", {}, {}),
    ("hopper", "Hopper-v5", {"survival_bonus": False}, {"healthy_reward": 0.0}),
    ("half_cheetah", "HalfCheetah-v5", {}, {}),
    ("walker2d", "Walker2d-v5", {}, {}),
    ("ant_v5", "Ant-v5", {}, {}),
    (
        "ant_v5",
        "Ant-v5",
        {"contact_forces": False},
        {"include_cfrc_ext_in_observation": False},
    ),
    ("inverted_pendulum", "InvertedPendulum-v5", {}, {}),
    ("inverted_double_pendulum", "InvertedDoublePendulum-v5", {}, {}),
    ("reacher", "Reacher-v5", {}, {}),
]


def _native(name, **options):
    task = make(name, physics="mujoco", **options)
    assert isinstance(task, NativeTask)
    return task


def _start(task, env, key):
    """A start state of ours, put into Gymnasium's environment too."""
    start = task.reset(key=key)
    env.reset(seed=0)
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(start.qpos, start.qvel)
    # Its solver starts from what `set_state` computed.
    return eqx.tree_at(
        lambda x: x.qacc_warmstart, start, env.data.qacc_warmstart.copy()
    )


@pytest.mark.parametrize("scale", [0.3, 1.5])
@pytest.mark.parametrize(("name", "gymnasium_name", "ours", "theirs"), _TASKS)
def test_episodes_equal_gymnasiums(
    name, gymnasium_name, ours, theirs, scale, gymnasium_env
):
    task, env = _native(name, **ours), gymnasium_env(gymnasium_name, **theirs)
    state = _start(task, env, jax.random.key(1))
    np.testing.assert_allclose(
        task.observe(state), env._get_obs(), rtol=1e-5, atol=1e-5
    )
    limit = np.asarray(task.action_space.high)
    random = np.random.default_rng(0)
    observation = env._get_obs()
    for _ in range(80):
        action = scale * limit * random.uniform(-1, 1, limit.shape)
        action = action.astype(np.float32)
        state, reward, terminated = task.step(state, jnp.asarray(action))
        observation, expected, end, _, _ = env.step(action)
        np.testing.assert_allclose(
            task.observe(state), observation, rtol=1e-4, atol=1e-4
        )
        # The difference of two positions in single precision, by a short time.
        np.testing.assert_allclose(reward, expected, rtol=1e-4, atol=2e-3)
        assert bool(terminated) == end
        if end:
            break
    # Control: a state 1e-3 off is told apart.
    off = eqx.tree_at(lambda x: x.qvel, state, state.qvel + 1e-3)
    assert np.abs(task.observe(off) - observation).max() > 2e-4


@pytest.mark.parametrize(("name", "gymnasium_name", "ours", "theirs"), _TASKS)
def test_spaces_and_limits_equal_gymnasiums(
    name, gymnasium_name, ours, theirs, gymnasium_env
):
    task, env = _native(name, **ours), gymnasium_env(gymnasium_name, **theirs)
    assert task.observation_size == env.observation_space.shape[0]
    np.testing.assert_array_equal(task.action_space.low, env.action_space.low)
    np.testing.assert_array_equal(task.action_space.high, env.action_space.high)
    assert task.horizon == gymnasium.spec(gymnasium_name).max_episode_steps
    step = task.model.opt.timestep * task.definition.frame_skip
    assert step == pytest.approx(env.dt)


_NAMES = [name for name, _, ours, _ in _TASKS if not ours]


@pytest.fixture(scope="module")
def starts():
    """500 start states of each task, drawn by one program."""
    definitions = {name: _native(name).definition for name in _NAMES}
    draw = eqx.filter_jit(
        lambda key: {name: x.initial(key=key) for name, x in definitions.items()}
    )
    drawn = jax.vmap(draw)(jax.random.split(jax.random.key(0), 500))
    return jax.tree.map(np.asarray, drawn)


@pytest.mark.parametrize("name", _NAMES)
def test_starts_surround_the_models_own(name, starts):
    task = _native(name)
    qpos, qvel = starts[name]
    assert qpos.shape == (500, task.model.nq) and qvel.shape == (500, task.model.nv)
    spread = np.ptp(qpos, axis=0)
    middle = np.abs(qpos.mean(0) - task.model.qpos0)
    if name == "reacher":
        # Targets are drawn around the middle of the arena, not around their `ref`.
        radius = np.hypot(*np.asarray(qpos[:, 2:]).T)
        assert radius.max() <= 0.2 and 0.19 < radius.max()
        assert abs(np.mean(radius**2) - 0.02) < 0.002
        middle, spread = middle[:2], spread[:2]
    assert np.all(spread > 0) and np.all(middle < 0.06 * spread)
    assert np.all(np.abs(qvel.mean(0)) < 0.2 * np.maximum(qvel.std(0), 1e-9) + 1e-12)


_SAME_PHYSICS = {
    # Largest differences after one control step, in single precision.
    "swimmer": 2e-4,
    "inverted_double_pendulum": 2e-3,
    "half_cheetah": 2e-2,
}


@pytest.mark.nightly  # MJX compiles each for long
@pytest.mark.parametrize("name", list(_SAME_PHYSICS))
def test_engines_agree(name):
    """Each of a few hundred steps of the C engine, done again by MJX."""
    native = _native(name)
    other = MJXTask(native.definition)
    limit = np.asarray(native.action_space.high)
    random = np.random.default_rng(0)
    before, after, actions = [], [], []
    state = native.reset(key=jax.random.key(0))
    for i in range(200):
        if i % 50 == 0:
            state = native.reset(key=jax.random.key(i))
        action = (limit * random.uniform(-1, 1, limit.shape)).astype(np.float32)
        actions.append(action)
        before.append(state)
        state, *judged = native.step(state, jnp.asarray(action))
        after.append((state, *judged))

    def stack(many):
        return jax.tree.map(lambda *x: jnp.asarray(np.stack(x), jnp.float32), *many)

    step = eqx.filter_jit(lambda states, actions: jax.vmap(other.step)(states, actions))
    found = step(stack(before), jnp.stack(actions))
    states, rewards, ended = stack(after)
    tolerance = _SAME_PHYSICS[name]
    for mine, theirs in (
        (found[0].qpos, states.qpos),
        (found[0].qvel, states.qvel),
        (found[1], rewards),
    ):
        scale = np.maximum(np.abs(theirs), 1.0)
        assert np.max(np.abs(mine - theirs) / scale) < tolerance
    np.testing.assert_array_equal(found[2], ended.astype(bool))
    for field, value in found[0].derived.items():
        scale = np.maximum(np.abs(states.derived[field]), 1.0)
        assert np.max(np.abs(value - states.derived[field]) / scale) < 10 * tolerance
    # Control: with other actions the velocities differ by more.
    moved, *_ = step(stack(before), 0.9 * jnp.stack(actions))
    assert np.max(np.abs(moved.qvel - states.qvel)) > 10 * tolerance


def test_a_broken_simulation_stays_broken(monkeypatch, tmp_path):
    # MuJoCo notes it in a file.
    monkeypatch.chdir(tmp_path)
    task = _native("hopper")
    start = task.reset(key=jax.random.key(0))
    broken = eqx.tree_at(lambda x: x.qvel, start, start.qvel + np.inf)
    after, _, terminated = task.step(broken, jnp.zeros(3))
    assert not np.isfinite(after.qvel).all() and terminated


def test_physics_is_chosen():
    assert isinstance(make("hopper"), NativeTask)  # there is no accelerator
    assert isinstance(make("hopper", physics="mjx"), MJXTask)
    with pytest.raises(ValueError, match="swimmer takes other options: .*survival"):
        make("swimmer", survival_bonus=False)


def test_integrators():
    models = {
        name: _native("hopper", integrator=name).model
        for name in ("euler", "rk4", "implicitfast")
    }
    kinds = {name: model.opt.integrator for name, model in models.items()}
    assert kinds == {
        "euler": mujoco.mjtIntegrator.mjINT_EULER,
        "rk4": mujoco.mjtIntegrator.mjINT_RK4,
        "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    }
    assert _native("hopper").model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
