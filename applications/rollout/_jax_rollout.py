import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from applications.envs import AbstractOutcome, AbstractTask, variant_of
from applications.policies import act, InVariant, select_action
from applications.rollout._devices import share_out
from applications.rollout._population import count_policies, split_shared
from applications.rollout.engine import MakePolicy, Population
from applications.rollout.episode import (
    all_finite,
    Episode,
    episode_keys,
    EpisodeTally,
    step_key,
    where,
)
from applications.rollout.options import RolloutOptions
from applications.rollout.visits import empty_visits, keep_visit, visit_times, Visits


def run_episode(
    task: AbstractTask,
    policy: Callable,
    *,
    visit_at: Int[Array, " visits"] | None = None,
    outcome: AbstractOutcome | None = None,
    key: PRNGKeyArray,
) -> Episode:
    """Runs one policy for one episode.

    Args:
        task: The task.
        policy: An `AbstractPolicy`, or anything that is called like one. One that is
            `InVariant` acts in its variant of the task.
        visit_at: Control steps whose observations are handed back, from `visit_times`.
        outcome: What the episode is worth, if not the sum of its rewards.
        key: Draws the start state, and what a stochastic policy draws.

    Returns:
        The episode, which ended at termination, at the task's horizon or at the first
        step that was not finite, whichever came first.
    """
    if isinstance(policy, InVariant):
        varied: Any = variant_of(task, policy.number)
        task = varied
    state = task.reset(key=key)
    start = task.observe(state)

    def step(
        carry: tuple[Any, EpisodeTally, Visits | None],
    ) -> tuple[Any, EpisodeTally, Visits | None]:
        state, tally, visits = carry
        observation = task.observe(state)
        if visits is not None and visit_at is not None:
            visits = keep_visit(visits, visit_at, tally.length, observation)
        output, _ = act(policy, observation, key=step_key(key, tally.length))
        action = select_action(policy, task.action_space, output)
        after, reward, terminated = task.step(state, action)
        finite = all_finite((output, after, reward))
        # A broken step changes nothing. The last finite state stays, so that no solver
        # iterates on NaN while the other episodes of a batch go on.
        state = where(finite, after, state)
        tally = tally.see(observation).add(
            reward,
            terminated=terminated,
            finite=finite,
            observation=None if outcome is None else task.observe(state),
        )
        return state, tally, visits

    count = 0 if visit_at is None else visit_at.size
    visits = empty_visits((), start.size, count)
    carry = (state, EpisodeTally.start(start, task.horizon, outcome), visits)
    _, tally, visits = jax.lax.while_loop(lambda carry: carry[1].ongoing, step, carry)
    return tally.episode(start, visits)


def rollout(
    task: AbstractTask,
    make_policy: MakePolicy,
    population: Population,
    *,
    options: RolloutOptions = RolloutOptions(),
    outcome: AbstractOutcome | None = None,
    axis: str | None = None,
    key: PRNGKeyArray,
) -> Episode:
    """Runs a population of policies, each with its own weights.

    Randomness is folded from the index of the policy, so that an episode does not
    depend on the chunk that it is in, nor on the device.

    Args:
        task: The task.
        make_policy: From weights to a policy, for instance `FlatView.to_policy`.
        population: The weights, one policy a row: a matrix, any pytree of arrays
            with the policies first, or a `SharedPopulation`.
        options: Episodes of each policy, and how they are run; a chunk is of one
            device.
        outcome: What an episode is worth, if not the sum of its rewards.
        axis: Inside `jax.shard_map`, the axis of the mesh over which the population is
            shared out. Every device is given all of it, runs its part and is told how
            the others' went.
        key: Source of randomness.

    Returns:
        Episodes, with a batch shape `(policies, episodes)`.
    """
    episodes, visits = options.episodes, options.visits
    own_rows, whole = split_shared(population)

    def run_policy(row: tuple[PyTree[Array], Int[Array, ""]]) -> Episode:
        own, index = row
        policy = make_policy(whole(own))
        keys = episode_keys(key, index, episodes, options.common_starts)
        run = functools.partial(run_episode, task, policy, outcome=outcome)
        if not visits:
            return jax.vmap(lambda key: run(key=key))(keys)
        number = index * episodes + jnp.arange(episodes)
        times = visit_times(number, visits, task.horizon)
        return jax.vmap(lambda key, times: run(visit_at=times, key=key))(keys, times)

    def run(rows: tuple[PyTree[Array], Int[Array, " rows"]]) -> Episode:
        return _in_chunks(run_policy, rows, options.chunk)

    rows = (own_rows, jnp.arange(count_policies(population)))
    return run(rows) if axis is None else share_out(run, rows, axis)


def _in_chunks(
    run_policy: Callable[[Any], Episode],
    rows: tuple[PyTree[Array], Int[Array, " rows"]],
    chunk: int | None,
) -> Episode:
    size = rows[1].shape[0]
    if chunk is None or chunk >= size:
        return jax.vmap(run_policy)(rows)
    # Equal chunks, so that the episode compiles once: the last one is filled up with
    # copies of the first policy, whose episodes are dropped.
    chunks = -(-size // chunk)
    chunk = -(-size // chunks)
    at = jnp.arange(chunks * chunk)
    at = jnp.where(at < size, at, 0)
    rows = jax.tree.map(lambda leaf: leaf[at], rows)
    episodes_of = jax.lax.map(run_policy, rows, batch_size=chunk)
    return jax.tree.map(lambda leaf: leaf[:size], episodes_of)
