"""Tasks of one step, whose best policies are known, and how their tests run EPVF."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from applications.envs import AbstractTask, Continuous
from applications.epvf.algorithm import EPVF, Learned
from applications.epvf.config import Config
from applications.search import SearchState


State = SearchState[Learned]


class OneStep(AbstractTask):
    """Episodes of one step, whose reward is a function of start state and action."""

    reward: Callable = eqx.field(static=True)
    random_start: bool = eqx.field(static=True)
    broken_start: bool = eqx.field(static=True)
    observation_size: int = eqx.field(static=True, default=1)
    action_space: Continuous = eqx.field(
        static=True, default=Continuous((-1.0,), (1.0,))
    )
    horizon: int = eqx.field(static=True, default=1)

    def __init__(self, reward: Callable, *, random_start=False, broken_start=False):
        self.reward = reward
        self.random_start = random_start
        self.broken_start = broken_start

    def reset(self, *, key):
        if self.broken_start:
            return jnp.where(jr.bernoulli(key, 0.3), jnp.nan, ONE)
        return jr.rademacher(key, (1,), jnp.float32) if self.random_start else ONE

    def observe(self, state):
        return state

    def step(self, state, action):
        return state, self.reward(state[0], action[0]), jnp.zeros((), bool)


ONE = jnp.ones(1)
AIM = OneStep(lambda start, action: -((action - 0.5) ** 2))
AVOID = OneStep(lambda start, action: (action - 0.5) ** 2)
FOLLOW = OneStep(lambda start, action: start * action, random_start=True)
# Any number is below -1, but above 0.3 there is none.
CLIFF = OneStep(
    lambda start, action: jnp.where(action > 0.3, jnp.nan, -((action + 0.5) ** 2) - 1)
)


@functools.cache
def start(task: AbstractTask, config: Config) -> tuple[EPVF, State]:
    algorithm = EPVF(task, config)
    return algorithm, init(algorithm, jr.key(0))


@eqx.filter_jit
def init(algorithm: EPVF, key) -> State:
    return algorithm.init(key=key)


@eqx.filter_jit
def step(algorithm: EPVF, state: State) -> tuple[State, dict[str, jax.Array]]:
    return algorithm.step(state)


@eqx.filter_jit
def perturbed(algorithm: EPVF, state: State, key) -> jax.Array:
    return algorithm.propose(state, algorithm.split(key)).candidates


def run(algorithm: EPVF, state: State) -> tuple[State, list[dict[str, float]]]:
    rows = []
    for _ in range(algorithm.config.iterations):
        state, metrics = step(algorithm, state)
        rows.append({name: value.item() for name, value in metrics.items()})
    return state, rows
