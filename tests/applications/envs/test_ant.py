"""The custom Ant: its model, observation, reward and ends, and MJX against MuJoCo."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from applications.envs.mjx import MJXTask
from applications.envs.mujoco import Physics, to_body_frame
from applications.envs.tasks.ant import Ant, AntServo


_STEPS = 40
_ROOT3 = math.sqrt(3)


@pytest.fixture(scope="module")
def model():
    return Ant().model()


def _physics(height=0.75, quaternion=(1, 0, 0, 0), velocity=(0, 0, 0)):
    qpos = jnp.asarray([0, 0, height, *quaternion, *(8 * [0])], float)
    qvel = jnp.asarray([*velocity, *(11 * [0])], float)
    return Physics(qpos, qvel, jnp.zeros(8), jnp.zeros(14))


def _capsule(length):
    """Mass of a capsule of radius 0.08 m and density 5 kg/m^3."""
    return 5 * math.pi * (0.08**2 * length + 4 / 3 * 0.08**3)


def test_model(model):
    assert (model.nq, model.nv, model.nu, model.na) == (15, 14, 8, 0)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert model.opt.disableflags == mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    assert model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON
    assert (model.opt.iterations, model.opt.ls_iterations) == (1, 4)
    assert model.opt.timestep == 0.01
    np.testing.assert_array_equal(model.geom_contype, 0)
    np.testing.assert_array_equal(model.geom_conaffinity, 0)
    pairs = {
        frozenset((model.geom(a).name, model.geom(b).name))
        for a, b in zip(model.pair_geom1, model.pair_geom2, strict=True)
    }
    feet = ("left", "right", "third", "fourth")
    assert pairs == {frozenset((f"{foot}_ankle_geom", "floor")) for foot in feet}
    assert model.npair == 4
    # A predefined pair does not inherit its geoms' friction and margin.
    np.testing.assert_array_equal(model.pair_friction[:, :2], 1)
    np.testing.assert_array_equal(model.pair_margin, 0)
    np.testing.assert_array_equal(model.pair_dim, 3)
    assert model.nkey == 1 and model.key(0).name == "home"
    home = Ant().initial(key=jax.random.key(0))
    np.testing.assert_array_equal(model.key_qpos[0], home[0])
    np.testing.assert_array_equal(model.key_qvel[0], home[1])
    np.testing.assert_array_equal(home[0], [0, 0, 0.75, 1] + 11 * [0])


def test_masses_and_actuators(model):
    # A sphere of radius 0.25; per leg two capsules of length 0.2 sqrt(2) and one of
    # 0.4 sqrt(2). Each is a body of its own.
    torso = 5 * 4 / 3 * math.pi * 0.25**3
    short, long = _capsule(0.2 * math.sqrt(2)), _capsule(0.4 * math.sqrt(2))
    expected = [0, torso] + 4 * [short, short, long]
    np.testing.assert_allclose(model.body_mass, expected, rtol=1e-12)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 150)
    np.testing.assert_array_equal(model.actuator_ctrlrange, 8 * [[-1, 1]])
    np.testing.assert_array_equal(model.dof_armature, 6 * [0] + 8 * [1])
    np.testing.assert_array_equal(model.dof_damping, 6 * [0] + 8 * [1])
    legs = [f"{joint}_{leg}" for leg in (1, 2, 3, 4) for joint in ("hip", "ankle")]
    assert [model.joint(i).name for i in range(1, 9)] == legs
    motors = [model.joint(i).name for i in model.actuator_trnid[:, 0]]
    assert motors == legs[6:] + legs[:6]


@pytest.mark.parametrize(
    ("quaternion", "velocity", "gravity"),
    [
        # Yaw 90 degrees, then pitch 90 about the body's own y: q = q_z q_y. The body's
        # axes in the world are x = (0,0,-1), y = (-1,0,0), z = (0,1,0), so (1,2,3)
        # has the components -3, -1 and 2 along them, and (0,0,-1) has 1, 0 and 0.
        ((0.5, -0.5, 0.5, 0.5), (-3, -1, 2), (1, 0, 0)),
        # The same with pitch 60: x = (0, 1/2, -r), y = (-1,0,0), z = (0, r, 1/2) with
        # r = sqrt(3)/2.
        (
            np.array([_ROOT3, -1, 1, _ROOT3]) / math.sqrt(8),
            (1 - 1.5 * _ROOT3, -1, _ROOT3 + 1.5),
            (_ROOT3 / 2, 0, -0.5),
        ),
    ],
)
def test_observation_by_hand(quaternion, velocity, gravity):
    angles = np.arange(1, 9) / 10
    rates = np.arange(11, 19)
    controls = np.arange(-4, 4) / 4
    physics = Physics(
        jnp.asarray([7.0, 8.0, 0.5, *quaternion, *angles], float),
        jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, *rates], float),
        jnp.asarray(controls, float),
        jnp.full(14, 9.0),
    )
    expected = [0.5, *angles, *rates, *velocity, 4, 5, 6, *gravity, *controls]
    assert len(expected) == 34
    np.testing.assert_allclose(Ant().observe(physics), expected, rtol=0, atol=2e-6)
    # Controls: neither the world frame nor the opposite rotation gives this.
    conjugate = jnp.asarray(np.array(quaternion) * [1.0, -1.0, -1.0, -1.0])
    world = jnp.asarray([1.0, 2.0, 3.0])
    assert np.abs(to_body_frame(conjugate, world) - np.array(velocity, float)).max() > 1
    assert np.abs(world - np.array(velocity, float)).max() > 1


def test_observation_is_contained():
    physics = _physics(velocity=(jnp.nan, 5, 0))
    physics = eqx.tree_at(
        lambda p: (p.qpos, p.qvel),
        physics,
        (physics.qpos.at[7].set(jnp.inf), physics.qvel.at[6].set(-500.0)),
    )
    observation = Ant().observe(physics)
    assert np.all(np.isfinite(observation))
    assert observation[1] == 0  # the infinite angle
    assert observation[9] == -100  # the fast joint
    assert observation[0] == 0.75


_YAW = (math.sqrt(0.5), 0, 0, math.sqrt(0.5))  # the body's x is the world's y
_UPRIGHT = (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("quaternion", "velocity", "expected"),
    [
        (_UPRIGHT, (0, 0, 0), math.exp(-16)),
        (_UPRIGHT, (1, 0, 0), math.exp(-4)),
        (_UPRIGHT, (1.5, 0, 0), math.exp(-1)),
        (_UPRIGHT, (2, 0, 0), 1),
        (_UPRIGHT, (2, 0.5, 0), math.exp(-1)),
        (_UPRIGHT, (2, 0, 3), 1),  # vertical motion is free
        (_UPRIGHT, (3, 0, 0), math.exp(-4)),
        (_YAW, (0, 2, 0), 1),
        (_UPRIGHT, (0, 2, 0), math.exp(-32)),  # control: the same, not yawed
        (_YAW, (2, 0, 0), math.exp(-32)),
        (_UPRIGHT, (jnp.nan, 0, 0), 0),
        (_UPRIGHT, (jnp.inf, 0, 0), 0),
    ],
)
def test_reward_by_hand(quaternion, velocity, expected):
    after = _physics(quaternion=quaternion, velocity=velocity)
    # What was before, and the action, do not matter.
    reward = Ant().reward(_physics(velocity=(9, 9, 9)), after, jnp.ones(8))
    np.testing.assert_allclose(reward, expected, rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize(
    ("height", "ends"),
    [(0.199, True), (0.201, False), (0.75, False), (0.999, False), (1.001, True)],
)
def test_termination(height, ends):
    assert bool(Ant().terminated(_physics(height))) is ends


def test_control_is_clipped():
    action = jnp.asarray([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, jnp.inf])
    expected = [-1, -1, -0.5, 0, 0.5, 1, 1, 1]
    np.testing.assert_array_equal(Ant().control(action), expected)


@pytest.fixture(scope="module")
def task():
    with jax.enable_x64(True):
        return MJXTask(Ant())


@pytest.fixture(scope="module")
def actions():
    return np.random.default_rng(0).uniform(-1.2, 1.2, (_STEPS, 8))


@eqx.filter_jit
def _rollout(task, start, actions):
    def advance(state, action):
        after, reward, terminated = task.step(state, action)
        return after, (after, reward)

    return jax.lax.scan(advance, start, actions)[1]


@pytest.fixture(scope="module")
def ours(task, actions):
    with jax.enable_x64(True):
        start = task.reset(key=jax.random.key(0))
        return _rollout(task, start, jnp.asarray(actions))[0]


def _reference(model, actions):
    """MuJoCo's C engine: the states before and after each step, and its contacts."""
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    fields = ("qpos", "qvel", "qacc_warmstart")
    states, contacts = [[getattr(data, f).copy() for f in fields]], []
    for action in actions:
        data.ctrl[:] = np.clip(action, -1, 1)
        mujoco.mj_step(model, data)
        states.append([getattr(data, f).copy() for f in fields])
        contacts.append(data.ncon)
    return [np.array(s) for s in zip(*states, strict=True)], np.array(contacts)


def test_reset_is_deterministic(task):
    with jax.enable_x64(True):
        first, second = (task.reset(key=jax.random.key(i)) for i in (0, 1))
    assert eqx.tree_equal(first, second)
    assert first.ctrl.shape == (8,)


def test_mjx_equals_mujoco_until_the_first_contact(model, actions, ours):
    (qpos, qvel, _), contacts = _reference(model, actions)
    free = int(np.argmax(contacts > 0))
    assert free >= 15 and contacts.any()
    # The ankles start beyond their limits, so the solver is at work all along.
    np.testing.assert_allclose(ours.qpos[:free], qpos[1 : free + 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.qvel[:free], qvel[1 : free + 1], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(ours.ctrl, np.clip(actions, -1, 1))
    # Control: the damping that eulerdamp would treat implicitly makes a difference.
    damped = Ant().model()
    damped.opt.disableflags = 0
    (other, _, _), _ = _reference(damped, actions)
    assert np.abs(np.asarray(ours.qpos)[:free] - other[1 : free + 1]).max() > 1e-4


@pytest.mark.nightly  # compiles the model once more
def test_mjx_equals_mujoco_in_contact(actions):
    # Below a steep capsule the two engines put the sides of the friction pyramid
    # elsewhere, and a single iteration leaves them apart. A round cone and a finished
    # solve leave only what the task defines: which geoms touch, and how.
    model = Ant().model()
    model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    model.opt.iterations, model.opt.ls_iterations = 100, 50
    model.opt.tolerance = 1e-12
    (qpos, qvel, warmstart), contacts = _reference(model, actions)
    assert (contacts > 0).sum() >= 5

    def step(model, data, qpos, qvel, warmstart, ctrl):
        data = data.replace(
            qpos=qpos, qvel=qvel, qacc_warmstart=warmstart, ctrl=jnp.clip(ctrl, -1, 1)
        )
        return mjx.step(model, data).qvel

    with (
        jax.enable_x64(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        converted = mjx.put_model(model, impl="jax"), mjx.make_data(model, impl="jax")
        after = jax.jit(jax.vmap(step, in_axes=(None, None, 0, 0, 0, 0)))(
            *converted,
            *(jnp.asarray(x[:-1]) for x in (qpos, qvel, warmstart)),
            jnp.asarray(actions),
        )
    np.testing.assert_allclose(after, qvel[1:], rtol=0, atol=1e-6)


@pytest.mark.nightly  # compiles the model once more
def test_carrying_little_equals_carrying_all_of_mjx_data(model, task, actions, ours):
    @jax.jit
    def reference(model, data, actions):
        def advance(data, action):
            data = mjx.step(model, data.replace(ctrl=jnp.clip(action, -1, 1)))
            return data, (data.qpos, data.qvel)

        return jax.lax.scan(advance, data, actions)[1]

    with jax.enable_x64(True):
        start = task.reset(key=jax.random.key(0))
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            data = mjx.make_data(model, impl="jax").replace(qpos=start.qpos)
            qpos, qvel = reference(
                mjx.put_model(model, impl="jax"), data, jnp.asarray(actions)
            )
    np.testing.assert_allclose(ours.qpos, qpos, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.qvel, qvel, rtol=0, atol=1e-11)


def test_the_warm_start_is_part_of_the_state(task, actions, ours):
    # Control for the test above: resumed during a contact, the stored state goes on
    # exactly as before, and the same without its warm start does not.
    with jax.enable_x64(True):
        cut = 22
        assert cut < _STEPS
        middle = jax.tree.map(lambda x: x[cut - 1], ours)
        # Padded to one length, so that there is one compilation.
        rest = jnp.asarray(np.resize(actions[cut:], (_STEPS, 8)))
        warm = _rollout(task, middle, rest)[0].qpos[: _STEPS - cut]
        cold = eqx.tree_at(lambda p: p.qacc_warmstart, middle, jnp.zeros(14))
        chilled = _rollout(task, cold, rest)[0].qpos[: _STEPS - cut]
    np.testing.assert_array_equal(warm, ours.qpos[cut:])
    assert np.abs(chilled - ours.qpos[cut:]).max() > 1e-4


def test_a_broken_state_stays_visible(task, actions):
    with jax.enable_x64(True):
        start = task.reset(key=jax.random.key(0))
        broken = eqx.tree_at(lambda p: p.qvel, start, start.qvel.at[0].set(jnp.nan))
        states, rewards = _rollout(task, broken, jnp.asarray(actions))
        assert np.all(np.isnan(states.qpos).any(axis=1))
        assert np.all(np.isfinite(rewards))
        observations = jax.vmap(task.observe)(states)
    assert np.all(np.isfinite(observations))


def test_servo_model():
    definition = AntServo()
    model = definition.model()
    assert (model.nq, model.nv, model.nu, model.na) == (15, 14, 8, 0)
    assert model.opt.timestep * definition.frame_skip == pytest.approx(0.02)
    assert [model.actuator(i).name for i in range(8)] == [
        f"{part}_{leg}" for leg in (1, 2, 3, 4) for part in ("hip", "ankle")
    ]
    # Force = 20 (control - angle) - 0.5 velocity, at most 150 N m.
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], 20)
    np.testing.assert_array_equal(model.actuator_biasprm[:, 1:3], 8 * [[-20, -0.5]])
    np.testing.assert_array_equal(model.actuator_forcerange, 8 * [[-150, 150]])
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 1)
    np.testing.assert_array_equal(model.dof_armature, 6 * [0] + 8 * [0.02])
    np.testing.assert_allclose(model.dof_damping, 6 * [0] + 8 * [0.1])
    assert not model.dof_dampingpoly.any()
    np.testing.assert_allclose(model.dof_frictionloss, 6 * [0] + 8 * [0.1])
    # As of the Ant: masses, and contacts of the feet alone.
    np.testing.assert_array_equal(model.body_mass, Ant().model().body_mass)
    assert model.npair == 4


def test_servo_by_hand():
    definition = AntServo()
    qpos, qvel = definition.initial(key=jax.random.key(0))
    assert float(qpos[2]) == pytest.approx(0.61)
    bent = [0, 1.2, 0, -1.2, 0, -1.2, 0, 1.2]
    np.testing.assert_allclose(qpos[7:], bent, rtol=1e-6)
    physics = Physics(qpos, qvel, jnp.zeros(8), jnp.zeros(14))
    seen = definition.observe(physics)
    # Angles from home are zero there; the Ant would see them bent.
    np.testing.assert_allclose(seen[1:9], 0, atol=1e-6)
    np.testing.assert_allclose(Ant().observe(physics)[1:9], bent, rtol=1e-6)
    action = jnp.array([1.0, -0.5, 3.0, 0, 0, 0, 0, 0])
    expected = np.array(bent) + [0.3, -0.15, 0.3, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(definition.control(action), expected, rtol=1e-6)
