"""Commands of a return and a condition: a policy's size, or a variant of the task."""

import json
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications import evaluate as replay
from applications.envs import (
    AbstractTask,
    Continuous,
    make,
    Parameter,
    TaskFacts,
    variant_of,
)
from applications.gogepo import Config, evaluate, generate, GoGePo, train
from applications.gogepo._commands import Commands, make_commands
from applications.gogepo._conditions import SizeCondition, VariantCondition
from applications.gogepo._curve import archive_error, compile_curve, under_conditions
from applications.gogepo._evaluator import judge
from applications.gogepo._exploring import explore
from applications.gogepo._outcomes import (
    draw_records,
    OutcomeStatistics,
    PolicyRecord,
)
from applications.policies import InVariant, MLPPolicy, read_policy
from applications.rollout import evaluate as run_policy, rollout
from applications.settings import UserError
from applications.stores import Archive


_SIZE = SizeCondition("size", 1.0, 16.0, 16.0, True)
_LENGTH = VariantCondition("length", 0.0, 8.0, 4.0, False)
_COMMANDS = Commands(
    ("return", "length"), (0.0, 0.0), (100.0, 8.0), drive=5.0, condition=_LENGTH
)


class Hit(AbstractTask):
    """One step: the return is less the further the action is from the target."""

    observation_size: ClassVar[int] = 1
    action_space: ClassVar[Continuous] = Continuous((-2.0,), (2.0,))
    horizon: ClassVar[int] = 1
    facts: ClassVar[TaskFacts] = TaskFacts(
        (-4.0, 0.0), parameter=Parameter("target", -1.0, 1.0, own=0.0)
    )
    target: Any = 0.0

    def variant(self, value):
        return Hit(value)

    def reset(self, *, key):
        return jnp.ones(1)

    def observe(self, state):
        return state

    def step(self, state, action):
        reward = -jnp.sum(jnp.abs(action - self.target)) * 2
        return state, reward, jnp.ones((), bool)


def test_only_the_first_units_are_in_use():
    policy = MLPPolicy(make("cartpole"), (5, 3), key=jr.key(0))
    seen = jr.normal(jr.key(1), (6, 4))
    answers = lambda policy: np.asarray(jax.vmap(policy)(seen))
    for units in (1, 2, 4):
        limited = policy.limited(jnp.asarray(float(units)))
        narrow = policy.resized((units, min(units, 3)))
        np.testing.assert_allclose(answers(limited), answers(narrow), atol=1e-6)
        assert np.abs(answers(limited) - answers(policy)).max() > 0.01
    np.testing.assert_array_equal(answers(policy.limited(5)), answers(policy))


def test_a_policy_in_a_variant_of_the_task():
    task = make("cartpole", horizon=60)
    policy = MLPPolicy(task, (), key=jr.key(0))
    lengths = {}
    for pole in (0.2, 0.5, 2.0):
        placed = InVariant(policy, jnp.asarray(pole))
        lengths[pole] = run_policy(task, placed, 4, key=jr.key(1)).length.tolist()
        alone = variant_of(task, pole)
        same = run_policy(alone, policy, 4, key=jr.key(1)).length.tolist()
        assert lengths[pole] == same
    assert lengths[0.5] == run_policy(task, policy, 4, key=jr.key(1)).length.tolist()
    # A long pole takes longer to fall.
    assert sum(lengths[0.2]) < sum(lengths[0.5]) < sum(lengths[2.0])
    with pytest.raises(ValueError, match="goes from 0.2 to 2"):
        make("cartpole", variant=3.0)
    with pytest.raises(ValueError, match="has no variants"):
        make("lqr", variant=3.0)


def test_numbers_of_conditions():
    shares = jnp.array([0.0, 0.06, 0.07, 0.999])
    assert _SIZE.numbers(shares).tolist() == [1, 1, 2, 16]
    assert _SIZE.evenly(4).tolist() == [1, 6, 11, 16]
    np.testing.assert_allclose(_LENGTH.numbers(shares), 8 * shares)
    assert _LENGTH.part(jnp.array([0.0, 0.9, 1.1, 8.0])).tolist() == [0, 0, 1, 7]
    assert _LENGTH.apart(4).tolist()[-1] == 4 and _SIZE.apart(3).tolist() == [1, 10, 16]
    pairs = np.sort(np.asarray(_LENGTH.in_pairs(8, key=jr.key(0))))
    np.testing.assert_array_equal(pairs[::2], pairs[1::2])
    np.testing.assert_array_equal(pairs[::2] // 2, range(4))
    assert _LENGTH.scaled(jnp.asarray(6.0)).tolist() == [0.5]
    for wrong in (0.0, 17.0, 2.5):
        with pytest.raises(UserError, match="from 1 to 16 in whole numbers"):
            _SIZE.check(wrong)
    _SIZE.check(3.0)
    _LENGTH.check(2.5)


def _done(outcomes):
    outcomes = jnp.asarray(outcomes, jnp.float32)
    count = len(outcomes)
    return PolicyRecord(jnp.zeros((count, 1)), outcomes, jnp.ones(count, bool))


def test_what_is_best_is_told_by_condition():
    # Under 0.5 nothing did more than 10; under 7.5 all did 80 to 100.
    short = [[first, 0.5] for first in np.linspace(1, 10, 50)]
    long = [[first, 7.5] for first in np.linspace(80, 100, 50)]
    fresh = _done(short + long)
    archive = Archive.empty(fresh, 1).add(fresh)
    seen = OutcomeStatistics.none(_COMMANDS).add(fresh)
    tried: Any = (("top", 9, 98), ("spread", 10, 100))
    for strategy, low, high in tried:
        found = explore(strategy, 64, _COMMANDS, seen, archive, key=jr.key(0))
        first, number = np.asarray(found).T
        # Conditions are drawn evenly, whatever return they are drawn with.
        assert (np.histogram(number, 8, (0, 8))[0] == 8).all()
        assert abs(np.corrcoef(np.arange(64), number)[0, 1]) < 0.5
        beyond = np.arange(64) < 32
        for here, top in ((number < 1, low), (number > 7, high)):
            assert (first[here & beyond] >= top).all()
            assert (first[here & beyond] <= top + 6).all()
            assert (first[here & ~beyond] <= top + 1).all()
    everywhere = explore("uniform", 64, _COMMANDS, seen, archive, key=jr.key(0))
    np.testing.assert_array_equal(np.asarray(everywhere)[:, 0] // (100 / 64), range(64))


def test_conditions_are_drawn_as_often():
    # All but one did the same under a long pole.
    fresh = _done([[10.0, 7.5]] * 62 + [[10.0, 0.5], [90.0, 7.5]])
    archive = Archive.empty(fresh, 1).add(fresh)
    draw = lambda condition: draw_records(
        archive, 3000, recency=0.0, evenly=1.0, condition=condition, key=jr.key(0)
    ).outcome[:, 1]
    assert float(jnp.mean(draw(_LENGTH) == 0.5)) == pytest.approx(1 / 3, abs=0.04)
    assert float(jnp.mean(draw(None) == 0.5)) < 0.03
    # And so is what is nearest.
    error = archive_error(jnp.array([[90.0, 0.5]]), archive, _LENGTH)
    assert error == 80 and archive_error(jnp.array([[90.0, 0.5]]), archive) == 0


def _small(**options):
    small: dict[str, Any] = {
        "num_envs": 8,
        "hidden": (4,),
        "archive": 4,
        "generator_width": 16,
        "critic_width": 16,
        "num_probes": 4,
        "eval_episodes": 3,
    }
    return Config(**(small | options))


def test_rows_have_their_conditions_and_only_units_in_use():
    config = _small(command_kind="return-size", noise_scale=1.0)
    algorithm = GoGePo(make("lqr"), config)
    state = eqx.filter_jit(lambda: algorithm.init(key=jr.key(0)))()
    trial = eqx.filter_jit(algorithm.before_rollout)(state)
    commands = np.asarray(trial.proposal.context)
    rows = np.asarray(trial.acting)
    # Four on command; four of the climber, two and two; three to watch and its own.
    np.testing.assert_array_equal(rows[:4, -1], commands[:4, 1])
    np.testing.assert_array_equal(rows[4:8:2, -1], rows[5:8:2, -1])
    np.testing.assert_array_equal(rows[8:11, -1], commands[4:, 1])
    assert rows[10, -1] == rows[11, -1] == 4
    assert set(rows[:, -1]) <= {1, 2, 3, 4} and len(set(rows[:8, -1])) > 2
    for i, row in enumerate(rows):
        placed: Any = algorithm.view.to_policy(jnp.asarray(row))
        policy = placed.policy
        first, last = (np.asarray(layer.weight) != 0 for layer in policy.layers)
        used = np.arange(4) < row[-1]
        assert not first[~used].any() and not last[:, ~used].any()
        # The climber's policy starts at 0.
        assert i == 11 or (first[used].all() and last[:, used].all())


def test_the_evaluator_reads_the_condition():
    algorithm = GoGePo(Hit(), _small(command_kind="return-variant", climb=0.0))
    state = eqx.filter_jit(lambda: algorithm.init(key=jr.key(0)))()
    model, commands = algorithm.model(state), algorithm.commands
    rows = jnp.zeros((2, algorithm.view.space.size)).at[:, -1].set(jnp.array([-1, 1.0]))
    said = [judge(commands, model.value, algorithm.view.to_policy(x)) for x in rows]
    assert said[0].shape == (1,) and float(said[0][0]) != float(said[1][0])
    np.testing.assert_array_equal(algorithm.predict(model, rows)[:, 1], [-1, 1])


def test_it_learns_what_each_variant_needs():
    config = _small(
        command_kind="return-variant",
        num_envs=32,
        climb=0.0,
        noise_scale=0.3,
        archive=20,
        generator_width=32,
        critic_width=32,
        generator_lr=1e-3,
        batch_size=64,
        hidden=(),
        generator="mlp",
        normalise=False,
    )
    task: Any = Hit()
    algorithm = GoGePo(task, config)
    state = eqx.filter_jit(lambda: algorithm.init(key=jr.key(0)))()

    @eqx.filter_jit
    def step(state):
        trial = algorithm.before_rollout(state)
        episodes = rollout(task, algorithm.view.to_policy, trial.acting, key=trial.key)
        return algorithm.after_rollout(state, trial, episodes)

    for _ in range(60):
        state, _ = step(state)
    condition = algorithm.commands.condition
    assert condition is not None
    commands = under_conditions(condition, jnp.array([[-1.5, 0.0], [0.0, 0.0]]), 3)
    np.testing.assert_array_equal(commands[:, 1], [-1, -1, 0, 0, 1, 1])
    errors = []
    for told in (None, condition.own):
        curve = compile_curve(
            algorithm, commands, episodes=1, told=told, key=jr.key(0)
        )(algorithm.model(state))
        assert [x["number"] for x in curve["conditions"]] == [-1, 0, 1]
        errors.append(curve["mean_error"])
    # A generator that is told one target hits that one alone: the others are 1 away.
    assert errors[0] < 0.5 and errors[1] > 2 * errors[0]


def test_what_cannot_be_a_condition():
    given: Any = {"low": 0.0, "high": 1.0, "drive": None}
    with pytest.raises(UserError, match="return-variant is not for this task"):
        make_commands("return-variant", make("lqr"), **given)
    native = make("swimmer", physics="mujoco")
    with pytest.raises(UserError, match="return-variant is not for this task"):
        make_commands("return-variant", native, **given)
    with pytest.raises(UserError, match="needs units to leave out"):
        make_commands("return-size", make("lqr"), hidden=(), **given)
    with pytest.raises(UserError, match="drop it or --policy"):
        make_commands("return-size", make("lqr"), policy="a:B", hidden=(4,), **given)


_FLAGS = (
    *("--num-envs", "8", "--iterations", "2", "--horizon", "30", "--snapshots", "1"),
    *("--hidden", "4", "--generator-width", "16", "--generator-updates", "2"),
    *("--critic-width", "16", "--critic-updates", "2", "--num-probes", "4"),
    *("--batch-size", "8", "--archive", "4", "--climb", "0"),
)


@pytest.mark.parametrize("kind", ["size", "variant"])
def test_commands_of_a_user(kind, tmp_path: Path, capsys):
    run = str(tmp_path / "run")
    flags = ["--run-dir", run, "--command-kind", f"return-{kind}", *_FLAGS]
    assert train.main(flags) == 0
    asked = ["--commands", "3", "--conditions", "2", "--episodes", "1"]
    assert evaluate.main([run, *asked]) == 0
    found = json.loads((tmp_path / "run" / "commands.json").read_text())
    ends = {"size": [1, 4], "variant": [0.2, 2.0]}[kind]
    assert [x["number"] for x in found["conditions"]] == pytest.approx(ends)
    assert np.shape(found["achieved"]) == np.shape(found["predicted"]) == (6, 2)
    np.testing.assert_allclose(
        np.array(found["achieved"])[:, 1], np.repeat(ends, 3), rtol=1e-6
    )
    assert np.shape(found["told_one"]["achieved"]) == (6, 2)
    capsys.readouterr()
    out = tmp_path / "policy.eqx"
    number = {"size": "2", "variant": "0.25"}[kind]
    command = [run, "--command", "10", number, "--extrapolate", "--out", str(out)]
    assert generate.main(command) == 0
    said = capsys.readouterr().out
    policy: Any
    task, policy = read_policy(out)
    if kind == "size":
        assert "It has 2 units in each hidden layer." in said
        assert [layer.out_features for layer in policy.layers] == [2, 2]
    else:
        assert "for the variant with a half-length of 0.25" in said
        assert getattr(task, "half_length", None) == 0.25
    assert replay.main([str(out), "--episodes", "2"]) == 0
    assert generate.main([run, "--command", "10", "40", "--out", str(out)]) == 2
    assert "it goes from" in capsys.readouterr().err
