"""Rollouts of tasks so small that every return can be worked out by hand."""

from typing import Any, ClassVar, Literal

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from applications.envs import AbstractTask, Continuous, make
from applications.policies import FlatView, MLPPolicy, RunningStatistics
from applications.rollout import evaluate, rollout, RolloutOptions, run_episode


class _Walk(AbstractTask):
    """A point on a line: x becomes x + action, the reward is the new x.

    An episode ends once x reaches 3. The action's second part makes trouble in the
    step of that number, counted from 0.
    """

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-9.0, -1.0), (9.0, 9.0))
    horizon: int = eqx.field(static=True, default=4)
    trouble: Literal[
        "state nan", "state inf", "state huge", "unseen nan", "reward nan"
    ] = eqx.field(static=True, default="state nan")
    random_start: bool = eqx.field(static=True, default=False)

    def reset(self, *, key):
        x = jax.random.uniform(key, minval=-1.0) if self.random_start else jnp.zeros(())
        return {"x": x, "unseen": jnp.zeros(2), "steps": jnp.zeros((), jnp.int32)}

    def observe(self, state):
        return state["x"][None]

    def step(self, state, action):
        x = state["x"] + action[0]
        now = state["steps"].astype(action.dtype) == action[1]

        def spoil(kind, value, number=jnp.nan):
            return jnp.where(now & (self.trouble == kind), number, value)

        after = {
            "x": spoil(
                "state huge", spoil("state nan", spoil("state inf", x, jnp.inf)), -1e25
            ),
            "unseen": state["unseen"].at[1].set(spoil("unseen nan", 1.0)),
            "steps": state["steps"] + 1,
        }
        return after, spoil("reward nan", x), x >= 3


def _constant(weights):
    """A policy that ignores what it sees."""
    return lambda observation, *, key: weights


def _moves(*moves, trouble=-1.0):
    return jnp.array([[move, trouble] for move in moves])


@eqx.filter_jit
def _run(task, population, *, episodes=1, chunk=None, seed=0):
    return rollout(
        task,
        _constant,
        population,
        options=RolloutOptions(episodes=episodes, chunk=chunk),
        key=jax.random.key(seed),
    )


def _assert_same(a, b):
    """Equal to the bit, leaf by leaf."""
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype and left.shape == right.shape
        np.testing.assert_array_equal(left, right)


def _rows(episodes, rows):
    return jax.tree.map(lambda leaf: leaf[rows], episodes)


def test_returns_by_hand():
    # 1, 2, 3, end. 0.5, 1, 1.5, 2, time is up. -1, -2, -3, -4. 3, end. The last step
    # allowed ends the episode by itself: 0.75, 1.5, 2.25, 3.
    episodes = _run(_Walk(), _moves(1.0, 0.5, -1.0, 3.0, 0.75))
    np.testing.assert_array_equal(episodes.total_reward[:, 0], [6, 5, -10, 3, 7.5])
    np.testing.assert_array_equal(episodes.length[:, 0], [3, 4, 4, 1, 4])
    assert episodes.valid.all()
    np.testing.assert_array_equal(episodes.start, np.zeros((5, 1, 1)))
    # Control: another horizon, other returns.
    shorter = _run(_Walk(horizon=2), _moves(1.0, 0.5, -1.0, 3.0, 0.75))
    np.testing.assert_array_equal(
        shorter.total_reward[:, 0], [3, 1.5, -3, 3, 0.75 + 1.5]
    )
    np.testing.assert_array_equal(shorter.length[:, 0], [2, 2, 2, 1, 2])


def test_the_policy_sees_the_state():
    # The policy doubles what it sees, plus one: x = 0, 1, 4; rewards 1 + 4, end.
    def policy(observation, *, key):
        return jnp.stack([observation[0] + 1 + observation[0], jnp.array(-1.0)])

    episode = run_episode(_Walk(), policy, key=jax.random.key(0))
    assert (float(episode.total_reward), int(episode.length)) == (5, 2)


def test_one_compilation_for_all_weights():
    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def run(population):
        return rollout(_Walk(), _constant, population, key=jax.random.key(0))

    for moves, returns in [((1.0, 3.0), [6, 3]), ((0.5, -1.0), [5, -10])]:
        np.testing.assert_array_equal(run(_moves(*moves)).total_reward[:, 0], returns)


def test_several_episodes_of_each_policy():
    task = _Walk(horizon=3, random_start=True)
    episodes = _run(task, _moves(0.5, -1.0), episodes=3)
    assert episodes.total_reward.shape == (2, 3) and episodes.start.shape == (2, 3, 1)
    # From x0, with move m and nothing in the way: 3 x0 + 6 m.
    starts = np.asarray(episodes.start)[..., 0]
    expected = 3 * starts + 6 * np.array([[0.5], [-1.0]])
    np.testing.assert_allclose(episodes.total_reward, expected, atol=1e-5)
    # Every episode of every policy has a start of its own.
    assert len(np.unique(starts)) == 6
    other = _run(task, _moves(0.5, -1.0), episodes=3, seed=1)
    assert not np.intersect1d(other.start, starts).size


def test_start_is_the_first_observation():
    task, key = _Walk(random_start=True), jax.random.key(3)
    episode = run_episode(task, _constant(jnp.array([1.0, -1.0])), key=key)
    np.testing.assert_array_equal(episode.start, task.observe(task.reset(key=key)))


def test_evaluate():
    task, policy = _Walk(horizon=3, random_start=True), jnp.array([0.5, -1.0])
    episodes = evaluate(task, _constant(policy), 4, key=jax.random.key(0))
    assert episodes.length.shape == (4,) and episodes.start.shape == (4, 1)
    starts = np.asarray(episodes.start)[:, 0]
    np.testing.assert_allclose(episodes.total_reward, 3 * starts + 3, atol=1e-5)
    assert len(np.unique(starts)) == 4


@pytest.mark.parametrize("chunk", [3, 5, 8])
def test_chunks_make_no_difference(chunk):
    # 7 policies: in chunks of 3 (3 + 3 + 1), of 5 (4 + 3), and whole.
    task = _Walk(random_start=True)
    population = _moves(*(0.25 * i for i in range(7)))
    whole = _run(task, population, episodes=2)
    _assert_same(_run(task, population, episodes=2, chunk=chunk), whole)


def test_episodes_do_not_depend_on_the_others():
    task = _Walk(random_start=True)
    whole = _run(task, _moves(0.5, 1.0, -1.0, 0.25), episodes=2)
    _assert_same(_run(task, _moves(0.5, 1.0), episodes=2), _rows(whole, slice(2)))
    among_others = _run(task, _moves(9.0, 1.0, 2.0, 0.5), episodes=2)
    _assert_same(_rows(among_others, 1), _rows(whole, 1))
    # Control: in another place a policy has other episodes.
    elsewhere = _run(task, _moves(1.0, 0.5), episodes=2)
    assert not np.array_equal(elsewhere.total_reward[0], whole.total_reward[1])


# Numbers that are not finite.


@pytest.mark.parametrize(
    ("trouble", "chunk"),
    [("state nan", None), ("state inf", 2), ("unseen nan", None), ("reward nan", 2)],
)
def test_trouble_stays_where_it_is(trouble, chunk):
    task = _Walk(trouble=trouble, random_start=True)
    sound = _moves(0.5, 0.25, -1.0)
    # The second policy makes trouble in its third step.
    bad = sound.at[1, 1].set(2.0)
    expected, episodes = _run(task, sound), _run(task, bad, chunk=chunk)
    others = np.array([0, 2])
    _assert_same(_rows(episodes, others), _rows(expected, others))
    np.testing.assert_array_equal(episodes.valid[:, 0], [True, False, True])
    np.testing.assert_array_equal(episodes.start, expected.start)
    # Two good steps, x0 + 0.25 and x0 + 0.5; the third is counted as a step.
    start = float(episodes.start[1, 0, 0])
    np.testing.assert_allclose(episodes.total_reward[1, 0], 2 * start + 0.75, rtol=1e-6)
    assert int(episodes.length[1, 0]) == 3
    assert int(expected.length[1, 0]) == 4
    _assert_left_out(episodes, expected, 1)


def _assert_left_out(episodes, sound, bad):
    """An episode that broke leaves nothing in the statistics of all."""
    joined = RunningStatistics.empty(1).join(episodes.observations)
    others = np.delete(np.arange(3), bad)
    alone = RunningStatistics.empty(1).join(_rows(episodes, others).observations)
    assert eqx.tree_equal(joined, alone)
    assert (np.asarray(episodes.observations.count[:, 0]) > 0).sum() == 2
    # Control: what did not break counts.
    whole = RunningStatistics.empty(1).join(sound.observations)
    assert not eqx.tree_equal(joined, whole)


def test_an_absurd_number_is_no_better_than_one_that_is_not_finite():
    task = _Walk(trouble="state huge", random_start=True)
    sound = _moves(0.5, 0.25, -1.0)
    expected, episodes = _run(task, sound), _run(task, sound.at[1, 1].set(1.0))
    others = np.array([0, 2])
    _assert_same(_rows(episodes, others), _rows(expected, others))
    np.testing.assert_array_equal(episodes.valid[:, 0], [True, False, True])
    assert np.isfinite(episodes.total_reward).all()
    _assert_left_out(episodes, expected, 1)


def test_trouble_in_the_last_step():
    # As the third step would have ended the episode, and at the horizon.
    for move, step, total in [(1.0, 2.0, 3.0), (0.5, 3.0, 3.0)]:
        episode = _run(_Walk(), _moves(move, trouble=step))
        assert float(episode.total_reward.item()) == total
        assert not episode.valid.item()
    # After the end it does no harm.
    late = _run(_Walk(), _moves(1.0, trouble=3.0))
    assert float(late.total_reward.item()) == 6 and late.valid.item()


def test_weights_that_are_not_finite():
    sound = _moves(0.5, 1.0, -1.0)
    expected = _run(_Walk(), sound)
    for bad in (jnp.nan, jnp.inf):
        episodes = _run(_Walk(), sound.at[1, 0].set(bad))
        others = np.array([0, 2])
        _assert_same(_rows(episodes, others), _rows(expected, others))
        np.testing.assert_array_equal(episodes.valid[:, 0], [True, False, True])
        assert float(episodes.total_reward[1, 0]) == 0


def test_broken_start():
    class Broken(_Walk):
        def reset(self, *, key):
            return {**super().reset(key=key), "x": jnp.array(jnp.nan)}

    episode = _run(Broken(), _moves(1.0))
    assert not episode.valid.item() and float(episode.total_reward.item()) == 0


def test_a_return_that_is_not_finite():
    # Each reward is; two of them are too much.
    class Rich(_Walk):
        def step(self, state, action):
            after, _, ends = super().step(state, action)
            return after, jnp.asarray(3e38), ends

    episode = _run(Rich(), _moves(0.5))
    assert not episode.valid.item() and int(episode.length.item()) == 2
    np.testing.assert_allclose(episode.total_reward, [[3e38]], rtol=1e-6)
    short = _run(Rich(horizon=1), _moves(0.5))
    assert short.valid.item()


def test_termination_and_the_time_limit():
    # 3, and 3 at the time limit; 2, time is up; a third step that breaks.
    moves = jnp.array([[1.0, -1.0], [0.75, -1.0], [0.5, -1.0], [0.5, 2.0]])
    episodes = _run(_Walk(), moves)
    np.testing.assert_array_equal(episodes.terminated[:, 0], [True, True, False, False])
    np.testing.assert_array_equal(episodes.valid[:, 0], [True, True, True, False])


# A real task.


def _gymnasium_length(start, policy, horizon):
    """Length of the episode in Gymnasium's cartpole, the policy in NumPy."""
    env: Any = gymnasium.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    env.state = np.asarray(start, float)
    for length in range(1, horizon + 1):
        x = np.asarray(env.state)
        for i, layer in enumerate(policy.layers):
            x = np.asarray(layer.weight, float) @ x + np.asarray(layer.bias, float)
            x = np.tanh(x) if i < len(policy.layers) - 1 else x
        if env.step(int(np.argmax(x)))[2]:
            return length
    return horizon


def test_cartpole_equals_a_python_loop():
    task = make("cartpole", horizon=60)
    view = FlatView(MLPPolicy(task, (3,), key=jax.random.key(0)))
    random = np.random.default_rng(0)
    population = random.standard_normal((5, view.space.size)).astype(np.float32)
    # The first one leans into the fall, and holds the pole up until time is up.
    lean = np.array([[0, 0, 1, 0.5], *np.zeros((2, 4))])
    out = np.array([[-1, 0, 0], [1, 0, 0]])
    population[0] = np.concatenate([lean.ravel(), np.zeros(3), out.ravel(), [0, 0]])
    options, key = RolloutOptions(episodes=2), jax.random.key(1)
    run = lambda rows: eqx.filter_jit(rollout)(
        task, view.to_policy, rows, options=options, key=key
    )
    episodes = run(jnp.asarray(population))
    lengths = [
        [
            _gymnasium_length(start, view.to_policy(jnp.asarray(weights)), 60)
            for start in starts
        ]
        for weights, starts in zip(population, np.asarray(episodes.start), strict=True)
    ]
    np.testing.assert_array_equal(episodes.length, lengths)
    # One point a step.
    np.testing.assert_array_equal(episodes.total_reward, lengths)
    assert lengths[0] == [60, 60] and len(set(np.ravel(lengths))) > 3
    # NaN preferences have no largest: no point is earned.
    broken = jnp.asarray(population).at[1, 0].set(jnp.nan)
    again = run(broken)
    np.testing.assert_array_equal(again.total_reward[1], [0, 0])
    assert not again.valid[1].any() and np.delete(again.valid, 1, axis=0).all()
    others = np.array([0, 2, 3, 4])
    _assert_same(_rows(again, others), _rows(episodes, others))
