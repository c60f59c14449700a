"""Gymnasium's environments in worker processes, against Gymnasium stepped directly."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from applications.envs import Continuous, Discrete, make, render, TaskSettings
from applications.envs.adapters import HostSimulations
from applications.settings import UserError


_MODULE = '''
import gymnasium
import numpy as np


class Odd(gymnasium.Env):
    """Shows a square of integers; counts from its start by its actions."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
    observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)
    action_space = gymnasium.spaces.Discrete(3, start=5)

    def __init__(self, render_mode=None, step=1):
        self.render_mode, self.by = render_mode, step

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.full((2, 2), self.count, np.uint8), {}

    def step(self, action):
        print("noise")
        if action == 7:
            raise ArithmeticError("seven")
        self.count += self.by
        shown = np.full((2, 2), self.count, np.uint8)
        reward = float("inf") if self.count == 2 else action
        return shown, reward, self.count == 3, False, {}

    def render(self):
        return np.full((16, 16, 3), 10 * self.count, np.uint8)


class Free(Odd):
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))


class Whole(Odd):
    action_space = gymnasium.spaces.Box(0, 3, (2,), np.int64)


gymnasium.register("wsl-odd-v0", Odd, max_episode_steps=4)
gymnasium.register("wsl-endless-v0", Odd)
gymnasium.register("wsl-free-v0", Free, max_episode_steps=4)
gymnasium.register("wsl-whole-v0", Whole, max_episode_steps=4)
'''


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The ID of an environment in a module, which workers have to import too."""
    directory = tmp_path_factory.mktemp("odd")
    (directory / "wsl_odd.py").write_text(_MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield "wsl_odd:wsl-odd-v0"


def _episodes(task, workers, seeds, actions):
    """Rewards, last observations and ends of one episode in each row."""
    rows = np.arange(len(seeds))
    simulations = HostSimulations(task, len(rows), workers)
    seen = simulations.reset(rows, seeds)
    first, totals = seen.copy(), np.zeros(len(rows), np.float32)
    ends = np.zeros(len(rows), int)
    for action in actions:
        # As in a rollout, only those that go on, in another order.
        going = np.flatnonzero(ends == 0)[::-1]
        seen[going], rewards, ended, late = simulations.step(going, action[going])
        totals[going] += rewards
        ends[going] = ended + 2 * late
    simulations.close()
    return first, seen, totals, ends


def _directly(env, seed, actions):
    first, _ = env.reset(seed=int(seed))
    seen, total, ended, late = first, np.float32(0), False, False
    for action in actions:
        seen, reward, ended, late, _ = env.step(action)
        total += np.float32(reward)
        if ended or late:
            break
    return first, seen, total, int(ended) + 2 * int(late)


@pytest.mark.parametrize(
    ("name", "horizon"), [("CartPole-v1", None), ("Pendulum-v1", 15)]
)
def test_episodes_are_gymnasiums_on_any_number_of_workers(name, horizon):
    task = make(f"gymnasium:{name}", horizon=horizon)
    random = np.random.default_rng(0)
    seeds = random.integers(2**32, size=3, dtype=np.uint32)
    discrete = isinstance(task.action_space, Discrete)
    shape = (30, 3) if discrete else (30, 3, 1)
    actions = random.integers(2, size=shape)
    if not discrete:
        actions = (4.0 * actions - 2.0).astype(np.float32)
    env = gymnasium.make(name, max_episode_steps=horizon)
    expected = [_directly(env, seed, actions[:, i]) for i, seed in enumerate(seeds)]
    expected = [np.stack(x) for x in zip(*expected, strict=True)]
    for workers in (1, 2):
        found = _episodes(task, workers, seeds, actions)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    # All ends are met: Pendulum has a time limit only, CartPole falls or stands.
    assert set(found[3]) == ({0, 1} if discrete else {2})
    # Control: other seeds start elsewhere.
    other, *_ = _episodes(task, 2, seeds + np.uint32(1), actions[:1])
    assert np.all(other != expected[0])


def test_what_is_known_of_an_environment():
    task = make("gymnasium:Pendulum-v1")
    assert (task.observation_size, task.horizon) == (3, 200)
    assert task.action_space == Continuous((-2.0,), (2.0,))
    assert task.facts.return_range is None
    task = make("gymnasium:CartPole-v1", horizon=7, physics="mujoco")
    assert (task.horizon, task.action_space) == (7, Discrete(2))
    seeds = [int(task.seed(key=jax.random.key(i))) for i in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_odd_spaces(odd, tmp_path):
    task = make(f"gymnasium:{odd}", step=1)
    assert (task.observation_size, task.action_space) == (4, Discrete(3))
    simulations = HostSimulations(task, 2, 1)
    rows = np.arange(2)
    seen = simulations.reset(rows, rows.astype(np.uint32))
    assert seen.dtype == np.float32 and seen.tolist() == [[0] * 4] * 2
    # Actions count from the space's own start, 5.
    seen, rewards, ended, late = simulations.step(rows, np.array([0, 1]))
    assert seen.tolist() == [[1] * 4] * 2 and rewards.tolist() == [5, 6]
    # Numbers that are not finite are data.
    _, rewards, ended, _ = simulations.step(rows[:1], np.array([0]))
    assert np.isinf(rewards[0]) and not ended[0]
    _, _, ended, _ = simulations.step(rows[:1], np.array([0]))
    assert ended[0]
    with pytest.raises(UserError) as caught:
        simulations.step(rows[1:], np.array([2]))
    said = str(caught.value)
    assert f"gymnasium:{odd} failed in step: ArithmeticError: seven" in said
    assert "wsl_odd.py" in said and "\n" not in said
    with pytest.raises(ValueError, match="closed"):
        simulations.reset(rows, rows.astype(np.uint32))
    # 50 frames a second are halved: before steps 0 and 2, and the last.
    policy = lambda seen: jnp.array([1.0, 0.0, 0.0])
    render(task, policy, tmp_path / "odd.webp", key=jax.random.key(0))
    with Image.open(tmp_path / "odd.webp") as picture:
        assert picture.size == (16, 16) and getattr(picture, "n_frames", 1) == 3


def test_actions_in_a_box():
    task = make("gymnasium:Pendulum-v1")
    simulations = HostSimulations(task, 3, 1)
    rows = np.arange(3)
    simulations.reset(rows, np.zeros(3, np.uint32))
    # Clipped to 2; a row that acts NaN is over, the others go on.
    actions = np.array([[2.0], [9.0], [np.nan]], np.float32)
    seen, rewards, ended, _ = simulations.step(rows, actions)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert ended.tolist() == [False, False, True]
    assert np.isnan(seen[2]).all() and np.isnan(rewards[2])
    assert np.isfinite(seen[:2]).all()
    # A worker that dies is noticed.
    simulations._processes[0][0].kill()
    with pytest.raises(UserError, match="worker process of gymnasium:Pendulum-v1 died"):
        for _ in range(2):
            simulations.step(rows, actions)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Nowhere-v0", "cannot be made: Environment `Nowhere` doesn't exist"),
        ("wsl_nowhere:Nowhere-v0", "cannot be made: .*wsl_nowhere"),
        ("FrozenLake-v1", "Observations of .* are Discrete"),
        ("wsl_odd:wsl-endless-v0", "has no time limit; say one, as --horizon"),
        ("wsl_odd:wsl-free-v0", "have no bounds"),
        ("wsl_odd:wsl-whole-v0", "must be Discrete or a Box of floating-point"),
    ],
)
def test_what_is_no_task(odd, name, said):
    with pytest.raises(ValueError, match=said):
        make(f"gymnasium:{name}")


def test_options(odd):
    for settings in (
        TaskSettings("gymnasium:CartPole-v1", survival_bonus=False),
        TaskSettings("gymnasium:CartPole-v1", integrator="rk4"),
    ):
        with pytest.raises(UserError, match="takes other options"):
            settings.make(as_trained=True)
    with pytest.raises(ValueError, match="at least 1 row"):
        HostSimulations(make("gymnasium:CartPole-v1"), 0, 1)
