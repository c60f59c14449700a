"""λ-returns against loops: ends of episodes, ends of segments, corrections."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from applications.values import follows, lambda_returns


_STEPS = 6
# Terminated after step 1, cut off by the time limit after step 3.
_TERMINATED = np.array([0, 1, 0, 0, 0, 0], bool)
_TRUNCATED = np.array([0, 0, 0, 1, 0, 0], bool)
_SOUND = np.ones(_STEPS, bool)
_returns = jax.jit(lambda_returns, static_argnames=("discount", "trace"))


def _numbers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rewards, values, taken = np.asarray(jr.normal(jr.key(0), (3, _STEPS)))
    return rewards, values, taken


def _loop(goes_on, discount, trace, taken=None) -> np.ndarray:
    """The definition, one step after the other, from the last one back."""
    rewards, values, _ = _numbers()
    targets = np.zeros(_STEPS)
    for t in reversed(range(_STEPS)):
        if _TERMINATED[t]:
            targets[t] = rewards[t]
        elif t == _STEPS - 1 or not goes_on[t]:
            targets[t] = rewards[t] + discount * values[t]
        elif taken is None:
            mixed = (1 - trace) * values[t] + trace * targets[t + 1]
            targets[t] = rewards[t] + discount * mixed
        else:
            error = targets[t + 1] - taken[t + 1]
            targets[t] = rewards[t] + discount * (values[t] + trace * error)
    return targets


@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("corrected", [False, True])
def test_targets_equal_a_loop(trace, corrected):
    rewards, values, taken = _numbers()
    goes_on = follows(*map(jnp.asarray, (_TERMINATED, _TRUNCATED, _SOUND)))
    ours = _returns(
        jnp.asarray(rewards),
        jnp.asarray(values),
        terminated=jnp.asarray(_TERMINATED),
        goes_on=goes_on,
        discount=0.9,
        trace=trace,
        taken_values=jnp.asarray(taken) if corrected else None,
    )
    loop = _loop(np.asarray(goes_on), 0.9, trace, taken if corrected else None)
    np.testing.assert_allclose(ours, loop, rtol=1e-5)
    if trace:
        # Going on through the time limit would be another target.
        through = _loop(~_TERMINATED, 0.9, trace, taken if corrected else None)
        assert not np.allclose(ours[3], through[3], rtol=1e-3)


def test_a_termination_earns_nothing_more_and_a_time_limit_does():
    one, no, yes = jnp.ones(1), jnp.zeros(1, bool), jnp.ones(1, bool)
    options = {"discount": 0.5, "trace": 0.9}
    ended = _returns(one, 8 * one, terminated=yes, goes_on=no, **options)
    cut = _returns(one, 8 * one, terminated=no, goes_on=no, **options)
    assert ended == 1.0 and cut == 1.0 + 0.5 * 8


def test_nothing_is_learned_through_a_broken_step():
    valid = np.array([1, 1, 0, 1, 1, 1], bool)
    no = jnp.zeros(_STEPS, bool)
    goes_on = follows(no, no, jnp.asarray(valid))
    # Step 1 does not go on into the broken one, nor that into the next episode.
    np.testing.assert_array_equal(goes_on, [1, 0, 0, 1, 1, 0])
    ends = follows(jnp.asarray(_TERMINATED), jnp.asarray(_TRUNCATED), no | True)
    np.testing.assert_array_equal(ends, [1, 0, 1, 0, 1, 0])
