"""What goes through an iteration of a search: states, proposals and outcomes."""

from typing import Any, Generic, Protocol, runtime_checkable, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from applications.policies import RunningStatistics
from applications.rollout import Episode, Metrics


Learned = TypeVar("Learned")


@runtime_checkable
class IterationKeys(Protocol):
    """The randomness of one iteration: a named tuple with a key for each purpose."""

    @property
    def rollout(self) -> PRNGKeyArray:
        """Draws the episodes."""
        ...

    @property
    def next(self) -> PRNGKeyArray:
        """The key of the next iteration."""
        ...


Keys = TypeVar("Keys", bound=IterationKeys)


class SearchState(eqx.Module, Generic[Learned]):
    """Everything that an iteration reads and writes.

    Attributes:
        learned: What the algorithm itself keeps.
        observations: Statistics of all observations so far.
        iteration: How many iterations are done; of steps, how many rounds.
        key: Source of the randomness to come.
        environments: Where environments stand between two rounds of steps; None where
            every iteration has whole episodes.
    """

    learned: Learned
    observations: RunningStatistics
    iteration: Int[Array, ""]
    key: PRNGKeyArray
    environments: Any = None


class Proposal(eqx.Module):
    """The policies to try in an iteration.

    Attributes:
        candidates: Weights of the policies to learn from, one a row, or one policy and
            thin factors of each.
        evaluation: Weights of policies that only show how the search stands. Beside
            factors they are that one policy, again and again.
        context: What else `learn` needs to know of them.
    """

    candidates: Any
    evaluation: Float[Array, "evaluation weights"]
    context: Any = None


class Outcome(eqx.Module):
    """The episodes of a proposal.

    Attributes:
        candidates: Episodes of the candidates, `(candidates, episodes)`.
        evaluation: Episodes of the evaluation policies, `(evaluation, episodes)`.
        acting: The population of the candidates as they acted, on observations as they
            are.
        observations: Statistics of all observations so far, also of these episodes: by
            them the policies of the next iteration are standardised.
    """

    candidates: Episode
    evaluation: Episode
    acting: Any
    observations: RunningStatistics

    @property
    def metrics(self) -> Metrics:
        """Scalars that say the same of every search.

        Means and maxima are over valid episodes. `env_steps` are the control steps of
        the candidates; `nan_episodes` are the episodes of both that are not valid.
        """
        tried, watched = self.candidates, self.evaluation
        best = jnp.where(tried.valid, tried.total_reward, -jnp.inf)
        return {
            "return_perturbed_mean": jnp.mean(tried.total_reward, where=tried.valid),
            "return_perturbed_max": jnp.max(best),
            "return_policy": jnp.mean(watched.total_reward, where=watched.valid),
            "env_steps": jnp.sum(tried.length),
            "nan_episodes": jnp.sum(~tried.valid) + jnp.sum(~watched.valid),
        }


class Trial(eqx.Module):
    """A proposal on its way through the rollout.

    Attributes:
        proposal: The policies as the algorithm proposed them.
        acting: The population of candidates and then evaluation policies that act on
            observations as they are.
        key: Draws their episodes.
    """

    proposal: Proposal
    acting: Any
    key: PRNGKeyArray


@runtime_checkable
class NormaliseSettings(Protocol):
    """What every search reads of an algorithm's settings."""

    @property
    def normalise(self) -> bool:
        """Whether policies see standardised observations."""
        ...


@runtime_checkable
class SearchSettings(NormaliseSettings, Protocol):
    """What a search in whole episodes reads of an algorithm's settings.

    What is no flag of an algorithm may be a class variable of its settings.
    """

    @property
    def episodes(self) -> int:
        """Episodes of each policy in each iteration."""
        ...

    @property
    def chunk(self) -> int | None:
        """Policies simulated at once; None for all of them."""
        ...

    @property
    def visits(self) -> int:
        """Observations of each episode that are handed back, at most."""
        ...

    @property
    def common_starts(self) -> bool:
        """Whether all policies of an iteration start from the same states."""
        ...
