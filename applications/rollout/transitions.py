"""What is kept of single control steps, when episodes follow each other."""

import dataclasses
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from applications.policies import RunningStatistics
from applications.rollout.episode import all_finite, EpisodeTally, zero_nonfinite


@final
class Transitions(eqx.Module):
    """Control steps: what was seen, done and earned, and what came of it.

    Of `compile_unroll` their batch shape is `(steps, environments)`, time first.

    Attributes:
        observation: What the policy saw.
        action: What was sent to the task.
        reward: What the step earned. Where the task has another outcome than the sum
            of its rewards: the outcome in an episode's last step, and 0 before.
        next_observation: What there was to see afterwards: of the state that the step
            reached, also where the episode ended there.
        terminated: Whether the task ended the episode there, so that nothing more
            could have been earned.
        truncated: Whether the time limit ended it there, and the task did not.
        valid: Whether all numbers of the step were finite, and its episode did not
            break later in the same call. Nothing is to be learned from others; 0 stands
            for what is not finite in them.
        policy: Row of the population that acted.
        extras: What the policy gave beside its output.
    """

    observation: Float[Array, "*batch observation"]
    action: Array
    reward: Float[Array, "*batch"]
    next_observation: Float[Array, "*batch observation"]
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    policy: Int[Array, "*batch"]
    extras: PyTree[Array]


@final
class FinishedEpisodes(eqx.Module):
    """Episodes by the control steps that ended them.

    Attributes:
        ended: Whether an episode ended in the step. Where not, the rest is 0.
        total_reward: Sum of its rewards, undiscounted, over earlier calls too, or the
            outcome.
        length: Number of its control steps.
        valid: Whether it stayed finite to its end.
        terminated: Whether the task ended it, and not the time limit.
    """

    ended: Bool[Array, "*batch"]
    total_reward: Float[Array, "*batch"]
    length: Int[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    terminated: Bool[Array, "*batch"]


@final
class Unrolled(eqx.Module):
    """What environments did in a number of control steps.

    Attributes:
        finished: The episodes that ended, `(steps, environments)`.
        observations: Statistics of the observations that were acted on, one of each
            environment, but for those of episodes that broke.
        transitions: The steps, as `Transitions`, `(steps, environments)`; None unless
            recorded.
    """

    finished: FinishedEpisodes
    observations: RunningStatistics
    transitions: Any


@final
class Decision(eqx.Module):
    """What a policy does in a state, before the task has answered.

    Attributes:
        observation: What it sees.
        output: What it puts out.
        action: The action that this stands for.
        extras: What it gave beside its output.
    """

    observation: Float[Array, "*batch observation"]
    output: Float[Array, "*batch outputs"]
    action: Array
    extras: PyTree[Array]


def judge(
    tally: EpisodeTally,
    decision: Decision,
    *,
    reward: Float[Array, ""],
    next_observation: Float[Array, " observation"],
    terminated: Bool[Array, ""],
    finite: Bool[Array, ""],
    policy: Int[Array, ""],
    truncated: Bool[Array, ""] | None = None,
) -> tuple[EpisodeTally, FinishedEpisodes, Transitions]:
    """Counts one control step of one environment.

    Args:
        tally: The episode before it.
        decision: What the policy did.
        reward: What that earned.
        next_observation: What there is to see now.
        terminated: Whether the task ended there.
        finite: Whether output, reward and the state reached are finite.
        policy: Row of the population that acted.
        truncated: As of `EpisodeTally.add`.

    Returns:
        The tally after the step, which starts the next episode where this one ended;
        the episode, if it ended; the transition.
    """
    after = tally.see(decision.observation).add(
        reward,
        terminated=terminated,
        finite=finite,
        truncated=truncated,
        observation=next_observation,
    )
    ended = ~after.ongoing
    if after.outcome is not None:
        reward = jnp.where(ended, after.total_reward, jnp.zeros_like(reward))
    valid = after.valid & all_finite((decision.observation, next_observation))
    transition = Transitions(
        observation=zero_nonfinite(decision.observation),
        action=_finite(decision.action),
        reward=_finite(reward),
        next_observation=zero_nonfinite(next_observation),
        terminated=after.terminated,
        truncated=ended & after.valid & ~after.terminated,
        valid=valid,
        policy=policy,
        extras=jax.tree.map(_finite, decision.extras),
    )

    def where_ended(leaf: Array) -> Array:
        return jnp.where(ended, leaf, jnp.zeros_like(leaf))

    finished = FinishedEpisodes(
        ended=ended,
        total_reward=where_ended(after.total_reward),
        length=where_ended(after.length),
        valid=where_ended(after.sound),
        terminated=where_ended(after.terminated),
    )
    following = jax.tree.map(
        lambda new, old: jnp.where(ended, new, old), after.restart(), after
    )
    return following, finished, transition


def episode_key(
    key: PRNGKeyArray, environment: Int[Array, ""], episode: Int[Array, ""]
) -> PRNGKeyArray:
    """The key of one episode of one environment.

    Args:
        key: Source of all randomness.
        environment: Which one.
        episode: Which of its episodes, counted from 0.

    Returns:
        A key that depends on nothing else: not on devices, blocks or calls.
    """
    return jr.fold_in(jr.fold_in(key, environment), episode)


def _finite(leaf: Array) -> Array:
    inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
    return zero_nonfinite(leaf) if inexact else leaf


def begin_unroll(tally: EpisodeTally) -> EpisodeTally:
    """The same episodes, with statistics that start anew.

    Args:
        tally: The episodes under way, one an environment.

    Returns:
        Tallies for `judge`.
    """
    zeros: Any = jax.tree.map(jnp.zeros_like, tally.observations)
    return dataclasses.replace(tally, observations=zeros, earlier=zeros)


def end_unroll(
    tally: EpisodeTally, finished: FinishedEpisodes, transitions: Transitions | None
) -> tuple[Unrolled, EpisodeTally]:
    """What an unroll hands back, without what episodes saw that broke in it.

    Args:
        tally: The episodes under way after it.
        finished: The episodes that ended, `(steps, environments)`.
        transitions: The steps, likewise, or None.

    Returns:
        What happened, and the tallies for the next unroll.
    """
    assert tally.earlier is not None
    seen = tally.sound_part(tally.observations)
    observations = jax.vmap(lambda earlier, seen: earlier.join(seen))(
        tally.earlier, seen
    )
    if transitions is not None:

        def earlier_step(broken: Any, step: Any) -> tuple[Any, Any]:
            ended, valid = step
            broken = jnp.where(ended, ~valid, broken)
            return broken, broken

        flags = (finished.ended, finished.valid)
        _, broken = jax.lax.scan(earlier_step, ~tally.sound, flags, reverse=True)
        transitions = dataclasses.replace(
            transitions, valid=transitions.valid & ~broken
        )
    unrolled = Unrolled(finished, observations, transitions)
    return unrolled, dataclasses.replace(tally, earlier=None)
