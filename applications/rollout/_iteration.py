from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import PRNGKeyArray

from applications.rollout._population import count_policies
from applications.rollout.engine import Metrics, Population, State
from applications.rollout.episode import empty_episodes, Episode
from applications.rollout.options import RolloutOptions


@runtime_checkable
class PopulationRollout(Protocol):
    """Rollouts that are a program of their own, or more than one."""

    def compile(self, population: Population) -> None:
        """Compiles what populations of this form need."""
        ...

    def __call__(self, population: Population, *, key: PRNGKeyArray) -> Episode:
        """Runs a population, and tells every process how all of it went."""
        ...


def compile_in_parts(
    run: PopulationRollout,
    propose: Callable[[State], Any],
    learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
    state: State,
    task: Any,
    options: RolloutOptions,
) -> Callable[[State], tuple[State, Metrics]]:
    """Compiles an iteration as three programs: to propose, to roll out and to learn.

    The first and the last run on the first device of each process. Compiled together
    with rollouts, sums would be added up in an order that depends on how many devices
    these are shared out over.

    Args:
        run: Runs a population.
        propose: As of `AbstractEngine.compile_iteration`.
        learn: As of `AbstractEngine.compile_iteration`.
        state: A state, for its form.
        task: What `run` runs in.
        options: Episodes of each policy, as `run` has them.

    Returns:
        One iteration. The state that it is given is used up.
    """
    # What is called may hold arrays of its own, such as a physics model.
    to_propose: Any = eqx.filter_jit(_call)
    to_learn: Any = eqx.filter_jit(_learn, donate="all-except-first")
    compiled_propose = to_propose.lower(propose, state).compile()
    proposal = compiled_propose(propose, state)
    run.compile(proposal.acting)
    batch = (count_policies(proposal.acting), options.episodes)
    episodes = empty_episodes(batch, task.observation_size, options.visits)
    tried = (learn, proposal, episodes)
    compiled_learn = to_learn.lower(tried, state).compile()

    def step(state: State) -> tuple[State, Metrics]:
        proposal = compiled_propose(propose, state)
        episodes = run(proposal.acting, key=proposal.key)
        return compiled_learn((learn, proposal, episodes), state)

    return step


def _call(propose: Callable[[State], Any], state: State) -> Any:
    return propose(state)


def _learn(tried: tuple[Callable[..., Any], Any, Episode], state: Any) -> Any:
    learn, proposal, episodes = tried
    return learn(state, proposal, episodes)
