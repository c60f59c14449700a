"""Tasks that somebody else wrote, in a package outside this repository."""

import sys

import jax
import jax.numpy as jnp
import pytest

from applications.envs import make, TaskSettings
from applications.envs.native import NativeTask
from applications.settings import UserError


_MODULE = '''
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import mujoco

from applications.envs import AbstractTask, Continuous, TaskFacts
from applications.envs.mujoco import AbstractMujocoDefinition


class Decay(AbstractTask):
    """A number that decays by what the action says; every step earns it."""

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((0.0,), (1.0,))
    facts: ClassVar[TaskFacts] = TaskFacts(return_range=(0.0, 9.0))
    horizon: int = eqx.field(static=True, default=9)

    def reset(self, *, key):
        return jnp.ones(1)

    def observe(self, state):
        return state

    def step(self, state, action):
        after = state * action
        return after, after[0], after[0] < 0.1


class Slider(AbstractMujocoDefinition):
    """A block on a rail; every step earns its place."""

    observation_size: ClassVar[int] = 2
    action_space: ClassVar[Continuous] = Continuous((-1.0,), (1.0,))
    frame_skip: ClassVar[int] = 2
    derived: ClassVar[tuple[str, ...]] = ()
    horizon: int = eqx.field(static=True, default=9)

    def model(self):
        return mujoco.MjModel.from_xml_string(
            "<mujoco><option timestep='0.1' integrator='Euler'/><worldbody><body>"
            "<joint name='x' type='slide' axis='1 0 0'/>"
            "<geom size='0.1' mass='2' contype='0' conaffinity='0'/></body></worldbody>"
            "<actuator><motor joint='x'/></actuator></mujoco>"
        )

    def initial(self, *, key):
        return jnp.zeros(1), jnp.zeros(1)

    def observe(self, physics):
        return jnp.concatenate([physics.qpos, physics.qvel])

    def control(self, action):
        return self.action_space.clip(action)

    def reward(self, before, after, action):
        return after.qpos[0]

    def terminated(self, physics):
        return jnp.zeros((), bool)


def short(*, horizon=3):
    return Decay(horizon=horizon)


def nothing():
    return None


number = 3
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the current directory, which is not on the path."""
    (tmp_path / "wsl_elsewhere").mkdir()
    (tmp_path / "wsl_elsewhere" / "__init__.py").touch()
    (tmp_path / "wsl_elsewhere" / "tasks.py").write_text(_MODULE)
    (tmp_path / "wsl_elsewhere" / "broken.py").write_text("import wsl_missing\n")
    monkeypatch.chdir(tmp_path)
    yield "wsl_elsewhere.tasks"
    for name in [name for name in sys.modules if name.startswith("wsl_elsewhere")]:
        del sys.modules[name]


def test_a_class_and_a_function(package):
    path = list(sys.path)
    task = make(f"{package}:Decay")
    assert sys.path == path
    assert (task.horizon, task.facts.return_range) == (9, (0.0, 9.0))
    start, quarter = task.reset(key=jax.random.key(0)), jnp.full(1, 0.25)
    state, reward, ended = task.step(start, quarter)
    assert float(reward) == 0.25 and not ended
    assert task.step(state, quarter)[2]
    assert make(f"{package}:short").horizon == 3
    assert make(f"{package}:short", horizon=5).horizon == 5


def test_a_definition_gets_an_engine(package):
    task = make(f"{package}:Slider", physics="mujoco", horizon=5)
    assert isinstance(task, NativeTask) and task.horizon == 5
    state = task.reset(key=jax.random.key(0))
    # 1 N on 2 kg for two steps of 0.1 s; semi-implicit: 0.05 and 0.1 m/s, so that it
    # moves 0.005 + 0.01 m.
    state, reward, _ = task.step(state, jnp.ones(1))
    assert float(reward) == pytest.approx(0.015)
    assert state.qvel[0] == pytest.approx(0.1)


def test_a_recorded_name_is_found_from_elsewhere(package, tmp_path, monkeypatch):
    settings = TaskSettings(f"{package}:Decay", horizon=4)
    task = settings.make(as_trained=True)
    # Installed, and called from another directory.
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    for name in [name for name in sys.modules if name.startswith("wsl_elsewhere")]:
        del sys.modules[name]
    again = make(settings.env, **settings.options)
    assert type(again).__name__ == "Decay" and again.horizon == task.horizon == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{}:Missing", "has no Missing"),
        ("{}:Decay.missing", "has no Decay.missing"),
        ("wsl_nowhere.tasks:Decay", "no module wsl_nowhere.*pip install -e"),
        ("wsl_elsewhere.nowhere:Decay", "no module wsl_elsewhere.nowhere"),
        ("wsl_elsewhere.broken:Decay", "cannot be imported: .*wsl_missing"),
        ("{}:number", "is a int; it must be a class or a function"),
        ("{}:nothing", "made a NoneType, which is neither"),
    ],
)
def test_what_is_no_task(package, name, said):
    with pytest.raises(ValueError, match=said):
        make(name.format(package))


def test_settings(package):
    assert TaskSettings().make(as_trained=True).horizon == 500
    settings = TaskSettings("hopper", physics="mujoco", survival_bonus=False)
    # Policies are judged by the whole reward.
    trained, judged = (settings.make(as_trained=x) for x in (True, False))
    assert isinstance(trained, NativeTask) and isinstance(judged, NativeTask)
    assert not getattr(trained.definition, "survival_bonus")  # noqa: B009
    assert getattr(judged.definition, "survival_bonus")  # noqa: B009
    assert settings.options == {"physics": "mujoco"}
    more = TaskSettings("hopper", "mjx", 7, "euler")
    assert more.options == {"physics": "mjx", "horizon": 7, "integrator": "euler"}
    for bad in (
        TaskSettings(f"{package}:Decay", integrator="rk4"),
        TaskSettings(f"{package}:Decay", survival_bonus=False),
    ):
        with pytest.raises(UserError, match="takes other options: .* It has horizon"):
            bad.make(as_trained=True)
