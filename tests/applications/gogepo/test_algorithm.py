"""GoGePo's iteration: its commands, its losses, and what it learns from."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.envs import make
from applications.gogepo import Config, GoGePo
from applications.gogepo._curve import archive_error
from applications.gogepo._generator import context_of
from applications.gogepo._losses import OutcomeTargets
from applications.gogepo._outcomes import (
    draw_records,
    empty_archive,
    OutcomeStatistics,
    PolicyRecord,
)
from applications.policies import RunningStatistics
from applications.rollout import Episode, rollout
from applications.rollout.visits import empty_visits


_SMALL: dict[str, Any] = {
    "num_envs": 8,
    "climb": 0.0,
    "hidden": (4,),
    "archive": 4,
    "batch_size": 8,
    "generator_width": 16,
    "generator_updates": 2,
    "critic_width": 16,
    "critic_updates": 2,
    "num_probes": 4,
    "eval_episodes": 3,
}


def _algorithm(**options):
    return GoGePo(make("lqr"), Config(**(_SMALL | options)))


@functools.cache
def _initial(options):
    algorithm = _algorithm(**dict(options))
    return eqx.filter_jit(lambda key: algorithm.init(key=key))(jr.key(0))


def _begun(*, least=-40.0, best=-10.0, **options):
    """An algorithm and a state that has seen returns from `least` to `best`."""
    shapes = ("hidden", "slice_size", "generator", "command_scale", "climb", "average")
    kept = {k: v for k, v in options.items() if k in shapes}
    state = _initial(tuple(kept.items()))
    where = lambda state: (
        state.learned.outcomes.least,
        state.learned.outcomes.best,
        state.learned.outcomes.moments.count,
    )
    seen = (jnp.asarray(least), jnp.array([best]), jnp.ones(()))
    return _algorithm(**options), eqx.tree_at(where, state, seen)


def _episodes(returns, *, broken=()):
    """Episodes of lqr with given returns, `(policies, 1)`."""
    returns = jnp.asarray(returns, jnp.float32)[:, None]
    valid = jnp.ones(returns.shape, bool)
    for i in broken:
        valid = valid.at[i].set(False)
    seen = RunningStatistics(
        jnp.ones(returns.shape), *(jnp.zeros((*returns.shape, 1)) for _ in range(2))
    )
    lengths = jnp.full(returns.shape, 7, jnp.int32)
    start, no = jnp.zeros((*returns.shape, 1)), jnp.zeros_like(valid)
    return Episode(returns, lengths, valid, start, seen, no)


_propose: Any = eqx.filter_jit(lambda algorithm, state: algorithm.before_rollout(state))
_after: Any = eqx.filter_jit(lambda algorithm, *args: algorithm.after_rollout(*args))
_generate: Any = eqx.filter_jit(
    lambda algorithm, state, commands: algorithm.generate(
        algorithm.model(state), commands
    )
)


def _all(trial):
    return jnp.concatenate([trial.proposal.candidates, trial.proposal.evaluation])


def test_policies_are_those_of_the_generator_and_noise():
    algorithm, state = _begun(noise_scale=0.5)
    trial = _propose(algorithm, state)
    commands = trial.proposal.context
    assert commands.shape == (11, 1)
    # From the least to the best, to watch.
    np.testing.assert_allclose(commands[8:, 0], [-40, -25, -10], rtol=1e-6)
    clean = _generate(algorithm, state, commands)
    noise = np.asarray(_all(trial) - clean)
    np.testing.assert_allclose(noise[8:], 0, atol=1e-6)
    assert 0.4 < noise[:8].std() < 0.6
    # Before anything was observed, standardisation changes nothing.
    np.testing.assert_allclose(trial.acting, _all(trial), atol=1e-6)
    first: Any = state.learned.generator(commands[0])
    np.testing.assert_allclose(
        algorithm.view.to_vector(first), clean[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("scale", ["range", "seen"])
def test_commands_in_the_scale_of_what_was_seen(scale):
    algorithm = _algorithm(command_scale=scale)
    model = algorithm.model(_initial((("command_scale", scale),)))
    # The range of commands is from -1000 to 0, until there are outcomes.
    commands = jnp.array([[-40.0], [-10.0]])
    before = algorithm.generate(model, commands)
    first: Any = model.generator((commands[0] + 500) / 500)
    own = np.allclose(before[0], algorithm.view.to_vector(first), atol=1e-6)
    # Then as much above the mean as before is the same policy.
    returns = jnp.array([[-150.0], [-50.0]])
    fresh = PolicyRecord(jnp.zeros((2, before.shape[1])), returns, jnp.ones(2, bool))
    grown = eqx.tree_at(lambda m: m.outcomes, model, model.outcomes.add(fresh))
    after = algorithm.generate(grown, -100 + (commands + 500) / 10)
    same = np.allclose(before, after, atol=1e-5)
    assert own == same == (scale == "seen")
    assert not np.allclose(before[0], before[1], atol=1e-5)


def test_commands_in_the_scale_of_quantiles():
    algorithm = _algorithm(command_scale="quantile", targets="rank")
    commands = algorithm.commands
    outcomes = OutcomeStatistics.none(commands)
    context = lambda seen, number: float(
        context_of(algorithm.config, commands, seen, jnp.array([number]))[0]
    )
    # Evenly over the range, from -1000 to 0, before there are any.
    root = np.sqrt(3)
    assert context(outcomes, -750.0) == pytest.approx(-root / 2, abs=1e-4)
    # Two kinds of behaviour: half near -90, half near -10; what broke off is not there.
    returns = jnp.array([-90.0, -89, -88, -12, -11, -10, 500, 500])
    valid = jnp.arange(8) < 6
    fresh = PolicyRecord(jnp.zeros((8, 2)), returns[:, None], valid)
    archive = empty_archive(commands, jnp.zeros((8, 2)), 2).add(fresh)
    seen = outcomes.add(fresh).with_quantiles(archive)
    assert context(seen, -90.0) == pytest.approx(-root)
    assert context(seen, -88.0) == pytest.approx(root * (2 * 0.4 - 1), abs=0.05)
    assert context(seen, -12.0) == pytest.approx(root * (2 * 0.6 - 1), abs=0.05)
    # By share the gap of 76 is as wide as one of 1; by value it is nearly all.
    spread = eqx.tree_at(
        lambda s: s.quantiles, seen, jnp.linspace(-90, -10, 101)[:, None]
    )
    assert context(spread, -12.0) - context(spread, -88.0) > 3
    # Beyond the best it goes on, by the deviation of what was done.
    deviation = np.std(returns[:6])
    assert context(seen, -10 + deviation) == pytest.approx(root + 1, rel=1e-4)
    assert context(seen, -90 - deviation) == pytest.approx(-root - 1, rel=1e-4)
    # And so is what the evaluator learns: there is one step from one kind to the other.
    targets = OutcomeTargets("rank", archive)
    steps = np.diff([float(targets(jnp.array([x]))[0]) for x in returns[:6]])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-5)
    np.testing.assert_allclose(targets.inverse(targets(returns[4:5])), -11, rtol=1e-5)
    by_value = OutcomeTargets("standard", archive)
    steps = np.diff([float(by_value(jnp.array([x]))[0]) for x in returns[:6]])
    assert steps[2] > 50 * steps[0]


def test_what_the_nearest_of_the_archive_would_be_off_by():
    algorithm = _algorithm()
    fresh = PolicyRecord(
        jnp.zeros((3, 2)), jnp.array([[-30.0], [-10.0], [-20.0]]), jnp.arange(3) < 2
    )
    archive = empty_archive(algorithm.commands, jnp.zeros((3, 2)), 2)
    commands = jnp.array([[-30.0], [-20.0], [-13.0]])
    assert archive_error(commands, archive) == np.inf
    # The one with -20 broke off.
    found = archive_error(commands, archive.add(fresh))
    assert found == pytest.approx((0 + 10 + 3) / 3)


def test_rare_outcomes_are_drawn_as_often():
    # 62 that did little, and one each that did half and all; one more broke off.
    outcomes = jnp.zeros(64).at[5].set(50.0).at[9].set(100.0).at[11].set(900.0)
    valid = jnp.ones(64, bool).at[11].set(False)
    record = PolicyRecord(jnp.zeros((64, 1)), outcomes[:, None], valid)
    archive = empty_archive(_algorithm().commands, jnp.zeros((64, 1)), 2).add(record)
    draw = lambda evenly: draw_records(
        archive, 3000, recency=0.0, evenly=evenly, key=jr.key(0)
    ).outcome[:, 0]
    shares = [float(jnp.mean(draw(1.0) == x)) for x in (0, 50, 100, 900)]
    np.testing.assert_allclose(shares[:3], 1 / 3, atol=0.04)
    assert shares[3] == 0
    assert float(jnp.mean(draw(0.0) == 50)) < 0.05
    assert float(jnp.mean(draw(0.5) == 50)) == pytest.approx(1 / 6, abs=0.05)


def test_a_climber_has_a_share_and_leads():
    algorithm, state = _begun(climb=0.5, noise_scale=0.5)
    trial = _propose(algorithm, state)
    candidates, evaluation = trial.proposal.candidates, trial.proposal.evaluation
    # Four by command, three to watch; then four in pairs around the climber's policy.
    assert trial.proposal.context.shape == (7, 1)
    assert candidates.shape[0] == 8 and evaluation.shape[0] == 4
    climbing = state.learned.climbing
    assert climbing is not None
    center, tried = np.asarray(climbing.policies[0]), np.asarray(candidates[4:])
    np.testing.assert_allclose(tried[::2] - center, center - tried[1::2], atol=1e-6)
    np.testing.assert_array_equal(evaluation[3], center)
    # What both kinds did goes into the archive; the last one watched is the climber's.
    returns = [-30, -12, -45, -8, -20, -2, -11, -13, -99, -1, -3, -7]
    visits = empty_visits((12, 1), 1, algorithm.config.visits)
    episodes = dataclasses.replace(_episodes(returns), visits=visits)
    after, metrics = _after(algorithm, state, trial, episodes)
    entries = after.learned.archive.entries
    np.testing.assert_array_equal(entries.outcome[:8, 0], returns[:8])
    assert metrics["return_climbing"] == -7 and metrics["return_policy"] == -3
    own = after.learned.climbing.archive.entries
    np.testing.assert_array_equal(own.returns[:4, 0], returns[4:8])


def test_the_average_writes_policies_and_the_newest_generator_explores():
    algorithm, state = _begun(average=0.5)
    where = lambda state: state.learned.average
    other = jax.tree.map(
        lambda leaf: leaf + 0.3 if eqx.is_inexact_array(leaf) else leaf, where(state)
    )
    proposal = _propose(algorithm, state).proposal
    told = _propose(algorithm, eqx.tree_at(where, state, other)).proposal
    np.testing.assert_array_equal(told.candidates, proposal.candidates)
    assert np.abs(told.evaluation - proposal.evaluation).max(axis=1).min() > 0
    state = eqx.tree_at(where, state, other)
    np.testing.assert_allclose(
        told.evaluation,
        _generate(algorithm, state, told.context)[8:],
        rtol=1e-5,
        atol=1e-6,
    )


def test_noise_becomes_less():
    algorithm, state = _begun(noise_schedule="linear", noise_scale=0.4, iterations=10)
    spreads = []
    for iteration in (0, 5, 10):
        at = eqx.tree_at(lambda s: s.iteration, state, jnp.int32(iteration))
        trial = _propose(algorithm, at)
        clean = _generate(algorithm, state, trial.proposal.context)
        spreads.append(np.asarray(_all(trial) - clean)[:8].std())
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=1e-3)
    assert spreads[0] > 0.3 and spreads[2] == pytest.approx(0, abs=1e-6)


def _learn(algorithm, state, episodes):
    trial = _propose(algorithm, state)
    return trial, *_after(algorithm, state, trial, episodes)


def test_what_was_seen_by_hand():
    algorithm, state = _begun()
    returns = [-30, -12, -45, -8, -20, -2, -11, -13, -99, -1, -1]
    # The best one broke off; the last three are only watched.
    episodes = _episodes(returns, broken=[5])
    trial, after, metrics = _learn(algorithm, state, episodes)
    seen = after.learned.outcomes
    assert seen.least == -45 and seen.best.tolist() == [-8]
    entries = after.learned.archive.entries
    np.testing.assert_array_equal(entries.outcome[:8, 0], returns[:8])
    np.testing.assert_array_equal(entries.weights[:8], trial.proposal.candidates)
    assert entries.valid[:8].tolist() == [True] * 5 + [False] + [True] * 2
    assert metrics["return_perturbed_max"] == -8
    assert metrics["return_policy"] == -1 and metrics["nan_episodes"] == 1
    # Commands to watch were -40, -25 and -10.
    assert metrics["command_error"] == pytest.approx((59 + 24 + 9) / 3)
    sound = [x for i, x in enumerate(returns[:8]) if i != 5]
    np.testing.assert_allclose(
        after.learned.targets.each.mean[0], np.mean(sound), rtol=1e-5
    )


def test_what_broke_off_is_not_learned_from():
    algorithm, state = _begun()
    returns = np.linspace(-40, -10, 11)
    other = returns.copy()
    other[2] = -1000.0
    models = []
    for told, broken in ((returns, [2]), (other, [2]), (other, [])):
        _, after, _ = _learn(algorithm, state, _episodes(told, broken=broken))
        models.append(algorithm.model(after))
    one, same, control = (jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in models)
    assert all(map(np.array_equal, one, same))
    assert not all(map(np.array_equal, one, control))


def test_gradients_reach_every_embedding_and_not_the_evaluator():
    episodes = _episodes(np.linspace(-40, -10, 11))
    after = {}
    for loss in ("evaluator", "weights"):
        algorithm, state = _begun(loss=loss, hidden=(20,), slice_size=4)
        _, after[loss], _ = _learn(algorithm, state, episodes)
        before: Any = state.learned.generator
        now: Any = after[loss].learned.generator
        for path, embeddings in before.embeddings.items():
            moved = np.asarray(now.embeddings[path] != embeddings)
            assert moved.any(axis=1).all(), path
    # The generator's loss is all that differs, so that it leaves V alone.
    values = [
        jax.tree.leaves(eqx.filter(after[loss].learned.value, eqx.is_array))
        for loss in after
    ]
    assert all(map(np.array_equal, *values))
    generators = [
        jax.tree.leaves(eqx.filter(after[loss].learned.generator, eqx.is_array))
        for loss in after
    ]
    assert not all(map(np.array_equal, *generators))


def _run(algorithm, state, iterations, *, tell=lambda returns: returns):
    """Correlations of what was commanded with what was done, by iteration.

    What is learned from are the returns as `tell` has them.
    """

    def step(state):
        trial = _propose(algorithm, state)
        episodes = rollout(
            algorithm.task, algorithm.view.to_policy, trial.acting, key=trial.key
        )
        count = algorithm.config.num_envs
        returns = episodes.total_reward
        returns = returns.at[:count].set(tell(returns[:count]))
        told = eqx.tree_at(lambda told: told.total_reward, episodes, returns)
        return algorithm.after_rollout(state, trial, told)

    step = eqx.filter_jit(step)
    found = []
    for _ in range(iterations):
        state, metrics = step(state)
        found.append(float(metrics["command_correlation"]))
    # Where all do the same, they do not do as commanded.
    return np.nan_to_num(np.array(found))


def test_it_learns_to_do_as_commanded_from_what_it_is_told():
    config = Config(
        num_envs=16,
        hidden=(8,),
        high=100.0,
        noise_scale=0.3,
        archive=16,
        batch_size=32,
        generator_width=32,
        generator_updates=10,
        generator_lr=1e-3,
        critic_width=32,
        critic_updates=10,
        num_probes=8,
        eval_episodes=9,
    )
    algorithm = GoGePo(make("cartpole", horizon=100), config)
    state = eqx.filter_jit(lambda key: algorithm.init(key=key))(jr.key(0))
    assert np.median(_run(algorithm, state, 40)[-15:]) > 0.7
    # Returns are from 8 to 100: whoever does much is told that it was little.
    lied = _run(algorithm, state, 40, tell=lambda returns: 108 - returns)
    assert np.median(lied[-15:]) < -0.7


@pytest.mark.parametrize("generator", ["chunked", "mlp", "latent"])
def test_other_generators(generator):
    algorithm, state = _begun(generator=generator)
    _, after, metrics = _learn(algorithm, state, _episodes(np.linspace(-40, -10, 11)))
    assert np.isfinite(float(metrics["generator_loss"]))
    commands = jnp.array([[-20.0], [-20.0]])
    plain = algorithm.generate(algorithm.model(after), commands)
    np.testing.assert_array_equal(plain[0], plain[1])
    drawn = algorithm.generate(algorithm.model(after), commands, key=jr.key(0))
    # Only a latent makes policies for the same command different.
    assert np.array_equal(drawn[0], drawn[1]) == (generator != "latent")
