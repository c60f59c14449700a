from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.stores._archive import Archive


@final
class Segment(eqx.Module):
    """Control steps of one environment, and the policy that took them.

    Steps and policy expire together, and what is read of the policy is read once for
    all of its steps.

    Attributes:
        observation: What the policy saw, as it was.
        drawn: What it did, as the critic's input is made of it.
        log_prob: Logarithm of the density of that; None for deterministic policies.
        reward: What the step earned.
        next_observation: What there was to see afterwards.
        terminated: Whether the task ended the episode there.
        truncated: Whether the time limit ended it there.
        valid: Whether all numbers of the step were finite.
        weights: Of the policy, as it acted on observations as they are; None where
            nothing reads them.
    """

    observation: Float[Array, "*batch steps observation"]
    drawn: Float[Array, "*batch steps outputs"]
    log_prob: Float[Array, "*batch steps"] | None
    reward: Float[Array, "*batch steps"]
    next_observation: Float[Array, "*batch steps observation"]
    terminated: Bool[Array, "*batch steps"]
    truncated: Bool[Array, "*batch steps"]
    valid: Bool[Array, "*batch steps"]
    weights: Float[Array, "*batch weights"] | None


@final
class Replay(eqx.Module):
    """Segments of the last rounds; the oldest expire.

    Attributes:
        segments: The segments, those of a round being one batch.
    """

    segments: Archive[Segment]

    @classmethod
    def empty(cls, like: Segment, rounds: int) -> "Replay":
        """A replay without segments.

        Args:
            like: The segments of one round, or their shapes and dtypes.
            rounds: Of how many rounds they are kept.

        Returns:
            The replay.
        """
        return cls(Archive.empty(like, rounds))

    def add(self, segments: Segment) -> "Replay":
        """Adds the segments of a round, over the oldest ones.

        Args:
            segments: As many as the replay was made for.

        Returns:
            The replay with them.
        """
        return Replay(self.segments.add(segments))

    def sample(self, count: int, steps: int, *, key: PRNGKeyArray) -> Segment:
        """Draws parts of segments uniformly, with replacement.

        Args:
            count: How many.
            steps: Steps of each, one after the other; at most those of a segment.
            key: Source of randomness.

        Returns:
            The parts, each with the policy of its segment. Steps in them may be
            invalid; there must be one round at least.
        """
        entries = self.segments.entries
        length = entries.reward.shape[1]
        segment_key, step_key = jr.split(key)
        there = jnp.clip(self.segments.added, 1, self.segments.capacity)
        chosen = jr.randint(segment_key, (count,), 0, there)
        begin = jr.randint(step_key, (count,), 0, length - steps + 1)
        at = begin[:, None] + jnp.arange(steps)[None]
        weights = None if entries.weights is None else entries.weights[chosen]
        steps_of: Any = eqx.tree_at(
            lambda s: s.weights, entries, None, is_leaf=lambda leaf: leaf is None
        )
        drawn = jax.tree.map(lambda leaf: leaf[chosen[:, None], at], steps_of)
        return eqx.tree_at(
            lambda s: s.weights, drawn, weights, is_leaf=lambda leaf: leaf is None
        )
