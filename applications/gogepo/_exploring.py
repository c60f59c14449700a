"""What to command next."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from applications.gogepo._commands import Commands
from applications.gogepo._conditions import PARTS
from applications.gogepo._outcomes import OutcomeStatistics, PolicyRecord
from applications.stores import Archive


Strategy: TypeAlias = Literal["spread", "best", "uniform", "top"]
# The share of the archive that counts as its top.
_TOP_SHARE = 0.1


def explore(
    strategy: Strategy,
    count: int,
    commands: Commands,
    seen: OutcomeStatistics,
    archive: Archive[PolicyRecord],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "count outcomes"]:
    """Commands of the policies that are learned from.

    Args:
        strategy: The best so far plus drive for all; for half of them up to that, the
            others over what has been done; the same with the mean of the archive's top
            tenth for the best, and its deviation for the drive if that is more; or
            anything in range. Under conditions they are drawn evenly over their range,
            and best and top are those of what was done under near ones.
        count: How many.
        commands: What can be commanded.
        seen: The range of what was done.
        archive: What was done.
        key: Source of randomness.

    Returns:
        The commands.
    """
    if commands.condition is not None:
        return _explore_conditions(strategy, count, commands, seen, archive, key=key)
    spread_key, beyond_key, entry_key = jr.split(key, 3)
    start, drive = seen.best, jnp.asarray(commands.drive)
    if strategy == "top":
        start, drive = _top(archive, start, drive)
    best = jnp.tile(start, (count, 1))
    beyond = jnp.zeros_like(best).at[:, 0].set(drive)
    if strategy == "best":
        return best + beyond
    if strategy == "uniform":
        low, high = jnp.asarray(commands.low), jnp.asarray(commands.high)
        part = _one_in_each_part(count, spread_key)
        return low[None] + part[:, None] * (high - low)[None]
    exploring = -(-count // 2)
    further = best + beyond * jr.uniform(beyond_key, (count, 1))
    # Over the range of the one number; of several, combinations that were done.
    part = _one_in_each_part(count - exploring, spread_key)
    if commands.size == 1:
        within = (seen.least + part * (start[0] - seen.least))[:, None]
    else:
        drawn = archive.sample_recent(len(part), exponent=0.0, key=entry_key)
        within = jnp.where(seen.begun, drawn.outcome, seen.best[None])
    return jnp.concatenate([further[:exploring], within])


def _explore_conditions(
    strategy: Strategy,
    count: int,
    commands: Commands,
    seen: OutcomeStatistics,
    archive: Archive[PolicyRecord],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "count 2"]:
    """As `explore`, for a return and the number of a condition."""
    condition = commands.condition
    assert condition is not None
    spread_key, beyond_key, number_key, order_key = jr.split(key, 4)
    # In any order: another one than that of the returns.
    shares = jr.permutation(order_key, _one_in_each_part(count, number_key))
    numbers = condition.numbers(shares)
    part = _one_in_each_part(count, spread_key)
    if strategy == "uniform":
        low, high = commands.low[0], commands.high[0]
        return jnp.stack([low + part * (high - low), numbers], axis=1)

    def of_part(which: Int[Array, ""]) -> tuple[Array, Array]:
        here = condition.part(archive.entries.outcome[:, -1]) == which
        share = _TOP_SHARE if strategy == "top" else 0.0
        best, drive = _top(archive, seen.best, commands.drive, share=share, where=here)
        return best[0], drive

    best, drive = jax.vmap(of_part)(jnp.arange(PARTS))
    which = condition.part(numbers)
    best, drive = best[which], drive[which]
    if strategy == "best":
        return jnp.stack([best + drive, numbers], axis=1)
    exploring = jnp.arange(count) < -(-count // 2)
    further = best + drive * jr.uniform(beyond_key, (count,))
    # Over the second half of the places, which are half of the parts.
    spread = 2 * part - 1
    within = seen.least + spread * (best - seen.least)
    first = jnp.where(exploring, further, within)
    return jnp.stack([first, numbers], axis=1)


def _top(
    archive: Archive[PolicyRecord],
    best: Float[Array, " outcomes"],
    drive: Float[Array, ""] | float,
    *,
    share: float = _TOP_SHARE,
    where: Bool[Array, " entries"] | None = None,
) -> tuple[Float[Array, " outcomes"], Float[Array, ""]]:
    """Mean of the archive's top, and how far beyond it to explore.

    What one lucky policy did may be out of reach yet. The deviation of the top's first
    number is how far others are, but where all are alike it would end all progress.

    Args:
        archive: What was done.
        best: The mean where that is nothing.
        drive: The least distance.
        share: What part of the archive is its top; with 0 the best one.
        where: What of the archive counts; all unless given.
    """
    there = archive.filled & archive.entries.valid
    there = there if where is None else there & where
    outcomes = archive.entries.outcome
    first = outcomes[:, 0]
    least = jnp.nanquantile(jnp.where(there, first, jnp.nan), 1 - share)
    top = there & (first >= least)
    any_there = jnp.any(there)
    mean = jnp.mean(outcomes, axis=0, where=top[:, None])
    deviation = jnp.where(any_there, jnp.std(first, where=top), 0.0)
    return jnp.where(any_there, mean, best), jnp.maximum(deviation, drive)


def _one_in_each_part(count: int, key: PRNGKeyArray) -> Float[Array, " count"]:
    """Random numbers, one in each of equal parts of [0, 1]."""
    place = jnp.arange(count, dtype=jnp.float32)
    return (place + jr.uniform(key, place.shape)) / max(count, 1)
