"""Populations of policies on whichever engine steps the task."""

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment, AbstractTask
from applications.rollout import Episode, rollout


Runner: TypeAlias = Callable[[Float[Array, "policies weights"], PRNGKeyArray], Episode]


def compile_rollout(
    task: AbstractEnvironment,
    make_policy: Callable[[Float[Array, " weights"]], Callable],
    population: Float[Array, "policies weights"],
    *,
    episodes: int = 1,
    chunk: int | None = None,
    key: PRNGKeyArray,
) -> tuple[Runner, Episode]:
    """Compiles what runs populations of one form.

    Args:
        task: The task, on either engine.
        make_policy: From weights to a policy, for instance `FlatView.to_policy`.
        population: Such a population.
        episodes: Episodes of each policy.
        chunk: How many policies are simulated at once; on the C engine, by a thread.
        key: Such a key.

    Returns:
        From a population and a key to episodes, with a batch shape
        `(policies, episodes)`; and the form of those.
    """
    if isinstance(task, AbstractTask):

        def run(task, population, key):
            return rollout(
                task, make_policy, population, episodes=episodes, chunk=chunk, key=key
            )

        jitted: Any = eqx.filter_jit(run)
        compiled = jitted.lower(task, population, key).compile()
        shapes = eqx.filter_eval_shape(run, task, population, key)
        form = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lambda population, key: compiled(task, population, key), form

    # Here, for mujoco takes long to import.
    from applications.envs.native import NativeTask
    from applications.rollout.native import NativeRollout

    assert isinstance(task, NativeTask)
    block: dict[str, Any] = {} if chunk is None else {"block": chunk * episodes}
    native = NativeRollout(task, make_policy, episodes=episodes, **block)
    native.compile(population)
    form = native.shape(population)
    return lambda population, key: native(population, key=key), form
