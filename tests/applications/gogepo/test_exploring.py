"""What GoGePo commands, by what has been done."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.gogepo._commands import Commands
from applications.gogepo._exploring import explore
from applications.gogepo._outcomes import OutcomeStatistics, PolicyRecord
from applications.stores import Archive


_COMMANDS = Commands(("return",), (-1000.0,), (0.0,), drive=5.0)
_PAIRS = Commands(("return", "length"), (-1000.0, 0.0), (0.0, 100.0), drive=5.0)


def _attempts(outcomes, *, broken=()):
    outcomes = np.asarray(outcomes, np.float32).reshape(len(outcomes), -1)
    valid = np.array([i not in broken for i in range(len(outcomes))])
    return PolicyRecord(
        jnp.zeros((len(outcomes), 1)), jnp.asarray(outcomes), jnp.asarray(valid)
    )


def _explore(strategy, *, commands=_COMMANDS, seen, archive=None):
    if archive is None:
        archive = Archive.empty(_attempts(np.zeros((4, commands.size))), 2)
    found = explore(strategy, 8, commands, seen, archive, key=jr.key(0))
    assert found.shape == (8, commands.size)
    return np.asarray(found)


def test_commands_of_each_strategy():
    seen = OutcomeStatistics.none(_COMMANDS).add(_attempts([-40, -10, -20]))
    np.testing.assert_allclose(_explore("best", seen=seen), -5.0)
    spread = _explore("spread", seen=seen)[:, 0]
    assert (spread[:4] >= -10).all() and (spread[:4] <= -5).all()
    assert len(set(spread[:4].tolist())) == 4
    # From -40 to -10, one in each quarter.
    np.testing.assert_array_equal((spread[4:] + 40) // (30 / 4), range(4))
    # The whole range is -1000 to 0, one command in each eighth of it.
    uniform = _explore("uniform", seen=seen)[:, 0]
    np.testing.assert_array_equal((uniform + 1000) // (1000 / 8), range(8))


def test_one_lucky_policy_is_not_the_top():
    # The top tenth of 20 are the two of -12 and -10; the third has broken off.
    outcomes = np.array([-10, -12, -1, *range(-57, -40)])
    fresh = _attempts(outcomes, broken=[2])
    archive = Archive.empty(fresh, 2).add(fresh)
    seen = OutcomeStatistics.none(_COMMANDS).add(_attempts([-60, -2]))
    # Their mean is -11 and their deviation 1: what is added is that or the drive.
    for drive, most in ((0.5, 1.0), (5.0, 5.0)):
        commands = dataclasses.replace(_COMMANDS, drive=drive)
        found = _explore("top", commands=commands, seen=seen, archive=archive)[:, 0]
        further = found[:4] + 11
        assert (further >= 0).all() and most / 2 < further.max() <= most
        np.testing.assert_array_equal((found[4:] + 60) // (49 / 4), range(4))
    # By the best ever, with the drive, they were from -2 to 3.
    assert (_explore("spread", seen=seen, archive=archive)[:4] >= -2).all()
    # Before there are any, that is all there is to go by.
    none = _explore("top", seen=OutcomeStatistics.none(_COMMANDS))[:4, 0]
    assert (none >= -1000).all() and (none <= -995).all()


def test_of_several_numbers_combinations_are_commanded_that_were_done():
    done = [[-40, 10], [-10, 70], [-20, 90], [-30, 20]]
    fresh = _attempts(done)
    seen = OutcomeStatistics.none(_PAIRS).add(fresh)
    archive = Archive.empty(fresh, 1).add(fresh)
    found = _explore("spread", commands=_PAIRS, seen=seen, archive=archive)
    # Beyond the best return, at its length.
    assert (found[:4, 0] >= -10).all() and (found[:4, 1] == 70).all()
    assert {tuple(row) for row in found[4:].tolist()} <= {tuple(row) for row in done}
    # Before anything was done, the lower end.
    none = _explore("spread", commands=_PAIRS, seen=OutcomeStatistics.none(_PAIRS))
    np.testing.assert_array_equal(none[4:], [[-1000, 0]] * 4)
    uniform = _explore("uniform", commands=_PAIRS, seen=seen)
    np.testing.assert_allclose(uniform[:, 0] / 1000 + 1, uniform[:, 1] / 100, atol=1e-6)


def test_the_range_of_what_was_done_by_hand():
    seen = OutcomeStatistics.none(_COMMANDS)
    assert seen.least == -1000 and seen.best.tolist() == [-1000]
    # What breaks off does not count.
    nothing = seen.add(_attempts([-1, -2], broken=[0, 1]))
    assert not nothing.begun and nothing.best.tolist() == [-1000]
    # At first whatever comes is both.
    once = nothing.add(_attempts([-70, -70]))
    assert once.begun and once.least == -70 and once.best.tolist() == [-70]
    again = once.add(_attempts([-30, -90, -2, -99], broken=[2, 3]))
    assert again.least == -90 and again.best.tolist() == [-30]
    worse = again.add(_attempts([-50, -60]))
    assert worse.least == -90 and worse.best.tolist() == [-30]
    np.testing.assert_allclose(worse.between(3)[:, 0], [-90, -60, -30])
    # Of -70, -70, -30, -90, -50 and -60.
    np.testing.assert_allclose(worse.moments.mean, [-370 / 6], rtol=1e-5)
    np.testing.assert_allclose(worse.moments.std, [18.6339], rtol=1e-4)
    # Of several numbers the first one says what is best.
    pairs = OutcomeStatistics.none(_PAIRS).add(_attempts([[-5, 90], [-3, 20]]))
    assert pairs.best.tolist() == [-3, 20] and pairs.least == -5
    np.testing.assert_allclose(pairs.between(2), [[-5, 20], [-3, 20]])
