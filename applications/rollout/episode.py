"""What an episode is, for every engine: where it ends, and what is kept of it."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree

from applications.envs import AbstractOutcome
from applications.policies import RunningStatistics
from applications.rollout.visits import empty_visits, Visits


# Beyond any number of parts that a task splits its key into: a split is a fold of the
# part's number.
_POLICY = 0x706F_6C69


@final
class Episode(eqx.Module):
    """What is kept of an episode.

    Attributes:
        total_reward: The return: the sum of its rewards, undiscounted, or the outcome
            of the task's episodes where it has another.
        length: Number of control steps.
        valid: Whether simulation, policy and return stayed finite to its end. Otherwise
            it ended at the first number that is not, and the return stops before.
        start: The first observation.
        observations: Statistics of the observations that the policy acted on; of none
            if the episode is not valid.
        terminated: Whether the task ended it, and not the time limit.
        visits: A sample of the observations that the policy acted on, if asked for;
            none are there if the episode is not valid.
    """

    total_reward: Float[Array, "*batch"]
    length: Int[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    start: Float[Array, "*batch observation"]
    observations: RunningStatistics
    terminated: Bool[Array, "*batch"]
    visits: Visits | None = None


@final
class EpisodeTally(eqx.Module):
    """An episode under way; once it has ended, nothing changes it any more.

    Attributes:
        total_reward: Sum of the rewards so far, or the outcome if the episode ended
            here.
        length: Control steps so far.
        valid: Whether everything was finite so far.
        terminated: Whether the task has ended it.
        ongoing: Whether there is another step.
        observations: Statistics of the observations so far.
        horizon: The time limit, in control steps.
        outcome: What the episode is worth; None for the sum of its rewards.
        accumulated: What the outcome has accumulated.
        earlier: In an unroll, statistics of the observations of the episodes that have
            ended in it and were sound; None elsewhere.
    """

    total_reward: Float[Array, "*batch"]
    length: Int[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    terminated: Bool[Array, "*batch"]
    ongoing: Bool[Array, "*batch"]
    observations: RunningStatistics
    horizon: int = eqx.field(static=True)
    outcome: AbstractOutcome | None = eqx.field(static=True, default=None)
    accumulated: Any = None
    earlier: RunningStatistics | None = None

    @classmethod
    def start(
        cls,
        observation: Float[Array, " observation"],
        horizon: int,
        outcome: AbstractOutcome | None = None,
    ) -> "EpisodeTally":
        """Starts an episode, before its first step.

        Args:
            observation: The first observation, for its form; `see` counts it.
            horizon: The time limit, in control steps.
            outcome: What the episode is worth, if not the sum of its rewards.

        Returns:
            The tally.
        """
        no, yes = jnp.zeros((), bool), jnp.ones((), bool)
        return cls(
            total_reward=jnp.zeros((), observation.dtype),
            length=jnp.zeros((), jnp.int32),
            valid=yes,
            terminated=no,
            ongoing=yes,
            observations=RunningStatistics.empty(observation.size),
            horizon=horizon,
            outcome=outcome,
            accumulated=None if outcome is None else outcome.start(observation),
        )

    def see(self, observation: Float[Array, " observation"]) -> "EpisodeTally":
        """Counts an observation that the policy acts on.

        Args:
            observation: The observation. What is not finite in it counts as 0.

        Returns:
            The tally with it.
        """
        more = self.observations.add(zero_nonfinite(observation))
        observations = where(self.ongoing, more, self.observations)
        tally = eqx.tree_at(lambda tally: tally.observations, self, observations)
        if self.outcome is None:
            return tally
        first = self.outcome.start(observation)
        accumulated = where(self.length == 0, first, self.accumulated)
        return eqx.tree_at(lambda tally: tally.accumulated, tally, accumulated)

    def add(
        self,
        reward: Float[Array, ""],
        *,
        terminated: Bool[Array, ""],
        finite: Bool[Array, ""],
        truncated: Bool[Array, ""] | None = None,
        observation: Float[Array, " observation"] | None = None,
    ) -> "EpisodeTally":
        """Counts a control step.

        Args:
            reward: Its reward.
            terminated: Whether the task ended there.
            finite: Whether the policy's output, the reward and the state reached are
                finite. If not, or if the return would not be, the step earns nothing
                and is the last one.
            truncated: Whether the environment cut the episode off there, beside the
                time limit.
            observation: What there is to see after it; outcomes read it.

        Returns:
            The tally after it.
        """
        finite = self.ongoing & finite
        accumulated = self.accumulated
        if self.outcome is None:
            earned = jnp.where(finite, reward, jnp.zeros_like(reward))
            total = self.total_reward + earned
        else:
            assert observation is not None
            accumulated = self.outcome.step(accumulated, observation, reward)
            total = self.outcome.value(accumulated)
        finite = finite & jnp.isfinite(total)
        length = self.length + self.ongoing.astype(jnp.int32)
        terminated = finite & terminated
        ongoing = finite & ~terminated & (length < self.horizon)
        if truncated is not None:
            ongoing = ongoing & ~truncated
        return EpisodeTally(
            total_reward=jnp.where(finite, total, self.total_reward),
            length=length,
            valid=self.valid & (finite | ~self.ongoing),
            terminated=self.terminated | terminated,
            ongoing=ongoing,
            observations=self.observations,
            horizon=self.horizon,
            outcome=self.outcome,
            accumulated=where(finite, accumulated, self.accumulated),
            earlier=self.earlier,
        )

    def restart(self) -> "EpisodeTally":
        """Starts the next episode of an unroll.

        Its outcome starts where its first observation is seen.
        """
        assert self.earlier is not None
        return EpisodeTally(
            total_reward=jnp.zeros_like(self.total_reward),
            length=jnp.zeros_like(self.length),
            valid=jnp.ones_like(self.valid),
            terminated=jnp.zeros_like(self.terminated),
            ongoing=jnp.ones_like(self.ongoing),
            observations=jax.tree.map(jnp.zeros_like, self.observations),
            horizon=self.horizon,
            outcome=self.outcome,
            accumulated=self.accumulated,
            earlier=self.earlier.join(self.sound_part(self.observations)),
        )

    @property
    def sound(self) -> Bool[Array, "*batch"]:
        """Whether the episode has not broken so far.

        One that saw numbers whose squares are not finite has broken, too.
        """
        squares = jnp.all(jnp.isfinite(self.observations.squares), axis=-1)
        return self.valid & squares

    def sound_part(self, tree: Any) -> Any:
        """What there is of sound episodes; 0 in place of what is of others.

        Of an episode that broke, nothing that it saw is handed back: a simulation that
        diverges shows absurd numbers before it shows one that is not finite.

        Args:
            tree: Arrays, with the batch shape of the episodes first.

        Returns:
            The arrays.
        """
        sound = self.sound

        def of_sound(leaf: Any) -> Any:
            here = sound.reshape(sound.shape + (1,) * (leaf.ndim - sound.ndim))
            return jnp.where(here, leaf, jnp.zeros_like(leaf))

        return jax.tree.map(of_sound, tree)

    def episode(
        self, start: Float[Array, "*batch observation"], visits: Visits | None = None
    ) -> Episode:
        """The episode that has ended, with what it saw if it is sound.

        Args:
            start: Its first observation.
            visits: What is handed back of the observations.

        Returns:
            What is kept of it.
        """
        observations, visits = self.sound_part((self.observations, visits))
        return Episode(
            total_reward=self.total_reward,
            length=self.length,
            valid=self.sound,
            start=start,
            observations=observations,
            terminated=self.terminated,
            visits=visits,
        )


def empty_episodes(
    batch: tuple[int, ...], observation_size: int, visits: int = 0
) -> Episode:
    """Makes episodes of zeros, for their form.

    Args:
        batch: Their batch shape.
        observation_size: Length of an observation.
        visits: How many observations are handed back of each.

    Returns:
        The episodes, in single precision.
    """
    zeros, no = jnp.zeros(batch, jnp.float32), jnp.zeros(batch, bool)
    observation = jnp.zeros((*batch, observation_size), jnp.float32)
    return Episode(
        total_reward=zeros,
        length=jnp.zeros(batch, jnp.int32),
        valid=no,
        start=observation,
        observations=RunningStatistics(zeros, observation, observation),
        terminated=no,
        visits=empty_visits(batch, observation_size, visits),
    )


def episode_keys(
    key: PRNGKeyArray, policy: Int[Array, ""], episodes: int, common_starts: bool
) -> Key[Array, " episodes"]:
    """The keys of the episodes of one policy of a population.

    Args:
        key: Source of all randomness.
        policy: Row of the policy.
        episodes: Episodes of each policy.
        common_starts: Whether those of all policies are the same.

    Returns:
        Keys that depend on nothing else.
    """
    return jr.split(key if common_starts else jr.fold_in(key, policy), episodes)


def step_key(episode_key: PRNGKeyArray, length: Int[Array, ""]) -> PRNGKeyArray:
    """The key that a policy gets in one control step.

    Args:
        episode_key: The key that also draws the episode's start state.
        length: Control steps before this one.

    Returns:
        A key of that step alone.
    """
    return jr.fold_in(jr.fold_in(episode_key, _POLICY), length)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating-point numbers of a pytree are finite."""
    checks = [
        jnp.all(jnp.isfinite(leaf))
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.stack(checks).all()


def zero_nonfinite(numbers: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Puts 0 for what is not finite, which would spoil sums and gradients."""
    return jnp.where(jnp.isfinite(numbers), numbers, 0.0)


def where(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    """Selects between two pytrees of arrays of the same form."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
