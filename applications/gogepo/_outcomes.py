"""What policies did: one by one, as an archive keeps it, and all together."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.gogepo._commands import Commands
from applications.gogepo._conditions import AbstractCondition, PARTS
from applications.policies import RunningStatistics
from applications.rollout import Episode
from applications.stores import Archive


# Shares at which outcomes are ranked, from 0 to 1.
_QUANTILES = 101
# Parts of the range of outcomes that are drawn from equally often.
_PARTS = 32


class PolicyRecord(eqx.Module):
    """What the archive keeps of a policy that was tried.

    Attributes:
        weights: Its weights, and last the number of its condition if there is one.
        outcome: What it did, in the units of commands; the mean over its episodes.
            The number of a condition is the last one.
        valid: Whether all of them stayed finite to their end.
    """

    weights: Float[Array, "*batch weights"]
    outcome: Float[Array, "*batch outcomes"]
    valid: Bool[Array, "*batch"]


def record_policies(
    commands: Commands, weights: Float[Array, "policies weights"], episodes: Episode
) -> PolicyRecord:
    """Makes of policies and their episodes what the archive keeps.

    Args:
        commands: What can be commanded.
        weights: Weights of the policies.
        episodes: Their episodes, `(policies, episodes)`.

    Returns:
        A batch of records.
    """
    outcomes = jnp.mean(commands.measure(episodes), axis=1)
    if commands.condition is not None:
        outcomes = jnp.concatenate([outcomes, weights[:, -1:]], axis=1)
    return PolicyRecord(weights, outcomes, jnp.all(episodes.valid, axis=1))


def empty_archive(
    commands: Commands, weights: Float[Array, "policies weights"], batches: int
) -> Archive[PolicyRecord]:
    """An archive without policies.

    Args:
        commands: What can be commanded.
        weights: Those of one batch, for their form.
        batches: How many such batches it can hold.

    Returns:
        The archive.
    """
    size = len(weights)
    outcomes = jnp.zeros((size, commands.size))
    record = PolicyRecord(weights, outcomes, jnp.zeros(size, bool))
    return Archive.empty(record, batches)


def draw_records(
    archive: Archive[PolicyRecord],
    count: int,
    *,
    recency: float,
    evenly: float,
    condition: AbstractCondition | None = None,
    key: PRNGKeyArray,
) -> PolicyRecord:
    """Draws what is learned from.

    Args:
        archive: What was done.
        count: How many records.
        recency: As `Archive.sample_recent` has its exponent.
        evenly: Share of them that is drawn evenly over the range of outcomes instead:
            the first number is cut into equal parts, each of which is drawn as often,
            if there is anything in it.
        condition: Whose range is cut into parts as well, if there is one.
        key: Source of randomness.

    Returns:
        The records, stacked.
    """
    rare = round(evenly * count)
    if not rare:
        return archive.sample_recent(count, exponent=recency, key=key)
    recent_key, rare_key = jr.split(key)
    there = archive.filled & archive.entries.valid
    first = archive.entries.outcome[:, 0]
    least = jnp.min(first, where=there, initial=jnp.inf)
    largest = jnp.max(first, where=there, initial=-jnp.inf)
    share = (first - least) / jnp.maximum(largest - least, 1e-9)
    part = jnp.clip((_PARTS * share).astype(jnp.int32), 0, _PARTS - 1)
    parts = _PARTS
    if condition is not None:
        part = part * PARTS + condition.part(archive.entries.outcome[:, -1])
        parts *= PARTS
    in_part = jnp.zeros(parts).at[part].add(there.astype(jnp.float32))
    weights = jnp.where(there, 1 / jnp.maximum(in_part[part], 1.0), 0.0)
    up_to = jnp.cumsum(weights)
    drawn = jr.uniform(rare_key, (rare,), maxval=up_to[-1])
    chosen = jnp.minimum(jnp.searchsorted(up_to, drawn, side="right"), len(there) - 1)
    old = jax.tree.map(lambda leaf: leaf[chosen], archive.entries)
    if rare == count:
        return old
    recent = archive.sample_recent(count - rare, exponent=recency, key=recent_key)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), recent, old)


class OutcomeStatistics(eqx.Module):
    """Outcomes so far, of policies that were tried.

    Attributes:
        least: The least of the first number; the lower end of the range before any.
        best: The outcome with the largest one; the same before any.
        moments: Mean and deviation of all.
        quantiles: Those of the outcomes in the archive, from the least to the largest
            at equal shares; evenly over the range before any.
    """

    least: Float[Array, ""]
    best: Float[Array, " outcomes"]
    moments: RunningStatistics
    quantiles: Float[Array, "shares outcomes"]

    @classmethod
    def none(cls, commands: Commands) -> "OutcomeStatistics":
        """Nothing so far."""
        low, high = jnp.asarray(commands.low), jnp.asarray(commands.high)
        evenly = jnp.linspace(low, high, _QUANTILES)
        return cls(low[0], low, RunningStatistics.empty(commands.size), evenly)

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
            self.quantiles,
        )

    def with_quantiles(self, archive: Archive[PolicyRecord]) -> "OutcomeStatistics":
        """With the quantiles of what is in an archive."""
        there = archive.filled & archive.entries.valid
        outcomes = jnp.where(there[:, None], archive.entries.outcome, jnp.nan)
        shares = jnp.linspace(0.0, 1.0, _QUANTILES)
        quantiles = jnp.nanquantile(outcomes, shares, axis=0)
        quantiles = jnp.where(jnp.any(there), quantiles, self.quantiles)
        return eqx.tree_at(lambda seen: seen.quantiles, self, quantiles)

    def between(self, count: int) -> Float[Array, "count outcomes"]:
        """Commands at equal distances from the least to the best outcome."""
        part = jnp.linspace(0.0, 1.0, count)[:, None]
        start = self.best.at[0].set(self.least)
        return start[None] + part * (self.best - start)[None]
