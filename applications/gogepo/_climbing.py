"""A policy that climbs beside the generator, and leads it where returns are high.

The generator learns from what was done. Commands a little beyond that find high returns
slowly where most policies do the same, and so a share of the environments is EPVF's:
perturbations of one policy that ascends a value function of its own. What they do goes
into the archive as everything else does, and the path of that policy, from the bottom
to the top, is what the generator has to follow.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.epvf import Config as ClimberConfig, EPVF
from applications.gogepo.config import Config
from applications.search import Metrics, Outcome, Proposal, SearchState


def make_climber(task: AbstractEnvironment, config: Config) -> EPVF | None:
    """EPVF by its default recipe, for a share of the environments.

    Args:
        task: What the policies act in.
        config: The settings of GoGePo.

    Returns:
        The algorithm; None without a share.
    """
    if not config.num_climbing:
        return None
    return EPVF(
        task,
        ClimberConfig(
            num_envs=config.num_climbing,
            iterations=config.iterations,
            policy=config.policy,
            hidden=config.hidden,
            normalise=config.normalise,
            episodes=config.episodes,
            eval_episodes=1,
        ),
    )


def as_climber(state: SearchState[Any], *, key: PRNGKeyArray) -> SearchState[Any]:
    """The state of a search as the climber's own."""
    climbing = state.learned.climbing
    return SearchState(climbing, state.observations, state.iteration, key)


def climb(
    climber: EPVF,
    state: SearchState[Any],
    proposal: Proposal,
    outcome: Outcome,
    *,
    key: PRNGKeyArray,
) -> tuple[Any, Metrics]:
    """Learns from the last candidates and the last policy that was watched.

    Args:
        climber: The algorithm.
        state: The state of the search.
        proposal: Its proposal.
        outcome: What came of that.
        key: Draws what the climber draws; that of its proposal.

    Returns:
        What the climber keeps, and how its policy stands.
    """
    count, size = climber.config.num_envs, climber.view.space.size

    def last(rows: int, tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[-rows:], tree)

    own = Outcome(
        last(count, outcome.candidates),
        last(1, outcome.evaluation),
        # Without the number of a condition.
        last(count, outcome.acting)[:, :size],
        outcome.observations,
    )
    tried = Proposal(
        proposal.candidates[-count:, :size], proposal.evaluation[-1:, :size]
    )
    learned, metrics = climber.learn(
        as_climber(state, key=key), tried, own, climber.split(key)
    )
    watched = own.evaluation
    return learned, {
        "return_climbing": jnp.mean(watched.total_reward, where=watched.valid),
        "climbing_correlation": metrics["critic_correlation"],
    }


def proposed(
    climber: EPVF, state: SearchState[Any], *, key: PRNGKeyArray
) -> tuple[Float[Array, "climbing weights"], Float[Array, "one weights"]]:
    """The climber's candidates, and its policy, to be watched."""
    own = climber.propose(as_climber(state, key=key), climber.split(key))
    return own.candidates, own.evaluation
