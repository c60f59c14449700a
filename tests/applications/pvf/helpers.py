"""A small algorithm on LQR, and what tests look at in it."""

from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from applications.envs import make
from applications.pvf import Config, PVF


SMALL: dict[str, Any] = {
    "num_envs": 4,
    "segment": 6,
    "rounds": 1,
    "steps": 96,
    "replay": 72,
    "batch_segments": 3,
    "steps_per_update": 6,
    "critic_width": 8,
    "fresh_policies": 0,
}


def small(env: str = "lqr", horizon: int = 5, **options: Any) -> PVF:
    return PVF(make(env, horizon=horizon), Config(**(SMALL | options)))


def run(search: PVF, iterations: int, seed: int = 0) -> tuple[Any, list[dict]]:
    """The state after some iterations, and their metrics."""
    state = search.begin(key=jr.key(seed))
    iteration, rows = search.compile(state), []
    for _ in range(iterations):
        state, metrics = iteration(state)
        rows.append({name: value.item() for name, value in metrics.items()})
    return state, rows


def one(tree: Any, index: int = 0) -> Any:
    """One of what is stacked."""
    return jax.tree.map(lambda leaf: leaf[index] if eqx.is_array(leaf) else leaf, tree)
