from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from applications.envs import AbstractOutcome, AbstractTask
from applications.rollout._devices import share_out
from applications.rollout._policies import PolicyRows
from applications.rollout._population import axes_of
from applications.rollout.episode import all_finite, EpisodeTally
from applications.rollout.transitions import (
    begin_unroll,
    end_unroll,
    episode_key,
    judge,
    Unrolled,
)


@final
class UnrollState(eqx.Module):
    """Where environments stand between two unrolls.

    Attributes:
        task: State of the task, one an environment.
        tally: The episodes under way.
        episode: How many episodes have ended in each environment.
        key: Source of all randomness.
    """

    task: PyTree[Array]
    tally: EpisodeTally
    episode: Int[Array, " environments"]
    key: PRNGKeyArray


def start(
    task: AbstractTask,
    environments: int,
    outcome: AbstractOutcome | None = None,
    *,
    key: PRNGKeyArray,
) -> UnrollState:
    """Starts the first episode of every environment."""
    episode = jnp.zeros(environments, jnp.int32)

    def of_one(environment: Array, episode: Array) -> tuple[Any, EpisodeTally]:
        state = task.reset(key=episode_key(key, environment, episode))
        seen = task.observe(state)
        return state, EpisodeTally.start(seen, task.horizon, outcome)

    state, tally = jax.vmap(of_one)(jnp.arange(environments), episode)
    return UnrollState(state, tally, episode, key)


def unroll(
    task: AbstractTask,
    make_policy: Any,
    population: PyTree[Array],
    rows: Int[Array, " environments"],
    state: UnrollState,
    *,
    steps: int,
    record: bool,
    axis: str | None = None,
) -> tuple[Unrolled, UnrollState]:
    """Takes a number of control steps in every environment.

    Args:
        task: The task.
        make_policy: From weights to a policy.
        population: The weights, one policy a row.
        rows: Which policy acts in each environment.
        state: Where the environments stand.
        steps: How many control steps.
        record: Whether transitions are wanted.
        axis: Inside `jax.shard_map`, the axis over which the environments are shared
            out.

    Returns:
        What happened, and where the environments stand then.
    """
    key = state.key
    functions = PolicyRows(task.action_space, make_policy, population)

    def run(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        number, row, own, tally, episode = parts
        policies = functions.policies(population, row)
        axes = (axes_of(policies), 0, 0, 0, 0, 0)

        def step_one(policy, number, row, own, tally, episode):
            own_key = episode_key(key, number, episode)
            decision = functions.act_one(
                policy, own_key, tally.length, task.observe(own)
            )
            after, reward, terminated = task.step(own, decision.action)
            following, finished, transition = judge(
                tally,
                decision,
                reward=reward,
                next_observation=task.observe(after),
                terminated=terminated,
                finite=all_finite((decision.output, after, reward)),
                policy=row,
            )
            return after, following, finished, transition

        def restart(ended, after, episode):
            def of_one(ended, after, number, episode):
                fresh = task.reset(key=episode_key(key, number, episode))
                return jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, after)

            return jax.vmap(of_one)(ended, after, number, episode)

        def step(carry, _):
            own, tally, episode = carry
            after, tally, finished, transition = jax.vmap(step_one, axes)(
                policies, number, row, own, tally, episode
            )
            ended = finished.ended
            episode = episode + ended.astype(jnp.int32)
            own = jax.lax.cond(
                ended.any(),
                restart,
                lambda ended, after, _: after,
                ended,
                after,
                episode,
            )
            return (own, tally, episode), (finished, transition if record else None)

        carry = (own, begin_unroll(tally), episode)
        carry, happened = jax.lax.scan(step, carry, length=steps)
        # For sharing out, environments come first.
        return carry, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), happened)

    parts = (jnp.arange(len(rows)), rows, state.task, state.tally, state.episode)
    carry, happened = run(parts) if axis is None else share_out(run, parts, axis)
    finished, transitions = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf, 0, 1), happened
    )
    own, tally, episode = carry
    unrolled, tally = end_unroll(tally, finished, transitions)
    return unrolled, UnrollState(own, tally, episode, key)
