from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from applications.rollout._devices import gather_parts
from applications.rollout._population import count_policies
from applications.rollout.engine import Metrics, Population, State
from applications.rollout.episode import Episode


@runtime_checkable
class HostRollout(Protocol):
    """Rollouts that are more than one compiled function."""

    def compile(self, population: Population) -> None:
        """Compiles what populations of this form need."""
        ...

    def shape(self, population: Population) -> Episode:
        """The form of what a whole population gives, without running it."""
        ...

    def __call__(self, population: Population, *, key: PRNGKeyArray) -> Episode:
        """Runs this process's part of a population."""
        ...


def compile_on_host(
    run: HostRollout,
    propose: Callable[[State], Any],
    learn: Callable[[State, Any, Episode], tuple[State, Metrics]],
    state: State,
) -> Callable[[State], tuple[State, Metrics]]:
    """Compiles an iteration whose rollouts are driven from Python.

    Every process runs its part of the population on its cores, is told how the others'
    went, and learns on its first device.

    Args:
        run: Runs a population.
        propose: As of `AbstractEngine.compile_iteration`.
        learn: As of `AbstractEngine.compile_iteration`.
        state: A state, for its form.

    Returns:
        One iteration. The state that it is given is used up.
    """
    proposed: Any = eqx.filter_jit(lambda state: propose(state))
    learned: Any = eqx.filter_jit(
        lambda tried, state: learn(state, *tried), donate="all-except-first"
    )
    compiled_propose = proposed.lower(state).compile()
    proposal = compiled_propose(state)
    run.compile(proposal.acting)
    tried = (proposal, run.shape(proposal.acting))
    compiled_learn = learned.lower(tried, state).compile()

    def step(state: State) -> tuple[State, Metrics]:
        proposal = compiled_propose(state)
        episodes = run(proposal.acting, key=proposal.key)
        if jax.process_count() > 1:
            episodes = gather_parts(episodes, count_policies(proposal.acting))
        return compiled_learn((proposal, episodes), state)

    return step
