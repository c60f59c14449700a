import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from applications.envs import AbstractEnvironment, AbstractTask
from applications.policies import Moments
from applications.rollout._devices import share_out


class Episode(eqx.Module):
    """What is kept of an episode.

    Attributes:
        total_reward: Sum of its rewards, undiscounted: the return.
        length: Number of control steps.
        valid: Whether simulation and policy stayed finite to its end. Otherwise it
            ended at the first number that is not, and the return stops before.
        start: The first observation.
        seen: Moments of the observations that the policy acted on.
    """

    total_reward: Float[Array, "*batch"]
    length: Int[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    start: Float[Array, "*batch observation"]
    seen: Moments


def run_episode(
    task: AbstractTask,
    policy: Callable[[Float[Array, " observation"]], Float[Array, " outputs"]],
    *,
    key: PRNGKeyArray,
) -> Episode:
    """Runs one policy for one episode.

    Args:
        task: The task.
        policy: From an observation to an output that `task.action_space.select` turns
            into an action.
        key: Draws the start state.

    Returns:
        The episode, which ended at termination, at the task's horizon or at the first
        step that was not finite, whichever came first.
    """
    state = task.reset(key=key)
    start = task.observe(state)

    def running(carry):
        _, _, length, ended, _, _ = carry
        return ~ended & (length < task.horizon)

    def step(carry):
        state, total, length, _, _, seen = carry
        observation = task.observe(state)
        output = policy(observation)
        after, reward, terminated = task.step(state, task.action_space.select(output))
        finite = all_finite((output, after, reward))
        # A broken step changes nothing. The last finite state stays, so that no solver
        # iterates on NaN while the other episodes of a batch go on.
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        total = total + jnp.where(finite, reward, jnp.zeros_like(reward))
        seen = seen.add(contained(observation))
        return state, total, length + 1, terminated | ~finite, ~finite, seen

    no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    seen = Moments.empty(start.size)
    carry = (state, jnp.zeros((), start.dtype), zero, no, no, seen)
    _, total, length, _, broken, seen = jax.lax.while_loop(running, step, carry)
    return Episode(total, length, ~broken, start, seen)


def rollout(
    task: AbstractTask,
    make_policy: Callable[[Float[Array, " weights"]], Callable],
    population: Float[Array, "policies weights"],
    *,
    episodes: int = 1,
    chunk: int | None = None,
    axis: str | None = None,
    key: PRNGKeyArray,
) -> Episode:
    """Runs a population of policies, each with its own weights.

    Randomness is folded from the index of the policy, so that an episode does not
    depend on the chunk that it is in, nor on the device.

    Args:
        task: The task.
        make_policy: From weights to a policy, for instance `FlatView.to_policy`.
        population: The weights, one policy a row.
        episodes: Episodes of each policy.
        chunk: How many policies a device simulates at once; bounds the memory. All of
            its own unless given.
        axis: Inside `jax.shard_map`, the axis of the mesh over which the population is
            shared out. Every device is given all of it, runs its part and is told how
            the others' went.
        key: Source of randomness.

    Returns:
        Episodes, with a batch shape `(policies, episodes)`.

    Raises:
        ValueError: If `chunk` is below 1.
    """

    def run_policy(row: tuple[Float[Array, " weights"], Int[Array, ""]]) -> Episode:
        weights, index = row
        policy = make_policy(weights)
        keys = jr.split(jr.fold_in(key, index), episodes)
        return jax.vmap(lambda key: run_episode(task, policy, key=key))(keys)

    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1 policy.")

    def run(rows: tuple[Array, Int[Array, " rows"]]) -> Episode:
        return _in_chunks(run_policy, rows, chunk)

    rows = (population, jnp.arange(population.shape[0]))
    return run(rows) if axis is None else share_out(run, rows, axis)


def _in_chunks(
    run_policy: Callable[[Any], Episode],
    rows: tuple[Float[Array, "rows weights"], Int[Array, " rows"]],
    chunk: int | None,
) -> Episode:
    size = rows[0].shape[0]
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


def compile_rollout(
    task: AbstractEnvironment,
    make_policy: Callable[[Float[Array, " weights"]], Callable],
    *,
    episodes: int,
) -> Callable[..., Episode]:
    """Rollouts of populations of policies on whatever steps the task.

    Args:
        task: The task.
        make_policy: From weights to a policy, for instance `FlatView.to_policy`.
        episodes: Episodes of each policy.

    Returns:
        From a population `(policies, weights)` and a keyword `key` to episodes
        `(policies, episodes)`. It compiles at the first call with a population of some
        size.
    """
    if isinstance(task, AbstractTask):
        run = eqx.filter_jit(rollout)
        return functools.partial(run, task, make_policy, episodes=episodes)
    # Here, for mujoco takes long to import.
    from applications.envs.native import NativeTask
    from applications.rollout.native import NativeRollout

    assert isinstance(task, NativeTask)
    return NativeRollout(task, make_policy, episodes=episodes)


def evaluate(
    task: AbstractEnvironment,
    policy: Callable[[Float[Array, " observation"]], Float[Array, " outputs"]],
    episodes: int,
    *,
    key: PRNGKeyArray,
) -> Episode:
    """Runs one policy for several episodes.

    Args:
        task: The task.
        policy: The policy.
        episodes: How many.
        key: Source of randomness.

    Returns:
        Episodes, with a batch shape `(episodes,)`.
    """
    if not isinstance(task, AbstractTask):
        # Here, for mujoco takes long to import.
        from applications.envs.native import NativeTask
        from applications.rollout.native import evaluate_native

        assert isinstance(task, NativeTask)
        return evaluate_native(task, policy, episodes, key=key)
    # As of the first policy of a population, whatever steps it.
    keys = jr.split(jr.fold_in(key, 0), episodes)
    return _evaluate(task, policy, keys)


@eqx.filter_jit
def _evaluate(
    task: AbstractTask,
    policy: Callable[[Float[Array, " observation"]], Float[Array, " outputs"]],
    keys: Array,
) -> Episode:
    return jax.vmap(lambda key: run_episode(task, policy, key=key))(keys)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating-point numbers of a pytree are finite."""
    checks = [
        jnp.all(jnp.isfinite(leaf))
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.stack(checks).all()


def contained(observation: Float[Array, " observation"]) -> Float[Array, " _size"]:
    """With 0 for what is not finite, whose moments would spoil all others."""
    return jnp.where(jnp.isfinite(observation), observation, 0.0)
