"""What has been done so far, and what to command next."""

from typing import Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.gogepo._commands import Commands
from applications.policies import RunningStatistics
from applications.stores import Archive


Strategy: TypeAlias = Literal["spread", "best", "uniform", "top"]
# Of the archive: what counts as its top.
_TOP = 0.1


class PolicyRecord(eqx.Module):
    """What the archive keeps of a policy that was tried.

    Attributes:
        weights: Its weights.
        outcome: What it did, in the units of commands; the mean over its episodes.
        valid: Whether all of them stayed finite to their end.
    """

    weights: Float[Array, "*batch weights"]
    outcome: Float[Array, "*batch outcomes"]
    valid: Bool[Array, "*batch"]


class OutcomeStatistics(eqx.Module):
    """Outcomes so far, of policies that were tried.

    Attributes:
        least: The least of the first number; the lower end of the range before any.
        best: The outcome with the largest one; the same before any.
        moments: Mean and deviation of all.
    """

    least: Float[Array, ""]
    best: Float[Array, " outcomes"]
    moments: RunningStatistics

    @classmethod
    def none(cls, commands: Commands) -> "OutcomeStatistics":
        """Nothing so far."""
        low = jnp.asarray(commands.low)
        return cls(low[0], low, RunningStatistics.empty(commands.size))

    @property
    def begun(self) -> Bool[Array, ""]:
        """Whether there is any outcome."""
        return self.moments.count > 0

    def add(self, fresh: PolicyRecord) -> "OutcomeStatistics":
        """With a batch of attempts more. Broken ones do not count."""
        first, any_valid = fresh.outcome[:, 0], jnp.any(fresh.valid)
        least = jnp.min(first, where=fresh.valid, initial=jnp.inf)
        least = jnp.where(self.begun, jnp.minimum(least, self.least), least)
        at = jnp.argmax(jnp.where(fresh.valid, first, -jnp.inf))
        better = any_valid & (~self.begun | (first[at] > self.best[0]))
        each = RunningStatistics(
            fresh.valid.astype(first.dtype),
            jnp.where(fresh.valid[:, None], fresh.outcome, 0.0),
            jnp.zeros_like(fresh.outcome),
        )
        return OutcomeStatistics(
            jnp.where(any_valid, least, self.least),
            jnp.where(better, fresh.outcome[at], self.best),
            self.moments.join(each),
        )

    def between(self, count: int) -> Float[Array, "count outcomes"]:
        """Commands at equal distances from the least to the best outcome."""
        part = jnp.linspace(0.0, 1.0, count)[:, None]
        start = self.best.at[0].set(self.least)
        return start[None] + part * (self.best - start)[None]


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
            anything in range.
        count: How many.
        commands: What can be commanded.
        seen: The range of what was done.
        archive: What was done.
        key: Source of randomness.

    Returns:
        The commands.
    """
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


def _top(
    archive: Archive[PolicyRecord],
    best: Float[Array, " outcomes"],
    drive: Float[Array, ""],
) -> tuple[Float[Array, " outcomes"], Float[Array, ""]]:
    """Mean of the archive's top tenth, and how far beyond it to explore.

    What one lucky policy did may be out of reach yet. The deviation of the top's first
    number is how far others are, but where all are alike it would end all progress.

    Args:
        archive: What was done.
        best: The mean where that is nothing.
        drive: The least distance.
    """
    there = archive.filled & archive.entries.valid
    outcomes = archive.entries.outcome
    first = outcomes[:, 0]
    least = jnp.nanquantile(jnp.where(there, first, jnp.nan), 1 - _TOP)
    top = there & (first >= least)
    any_there = jnp.any(there)
    mean = jnp.mean(outcomes, axis=0, where=top[:, None])
    deviation = jnp.where(any_there, jnp.std(first, where=top), 0.0)
    return jnp.where(any_there, mean, best), jnp.maximum(deviation, drive)


def _one_in_each_part(count: int, key: PRNGKeyArray) -> Float[Array, " count"]:
    """Random numbers, one in each of equal parts of [0, 1]."""
    place = jnp.arange(count, dtype=jnp.float32)
    return (place + jr.uniform(key, place.shape)) / max(count, 1)
