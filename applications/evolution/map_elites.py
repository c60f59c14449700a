"""MAP-Elites of QDax, with our rollouts on either engine.

Mouret and Clune (2015), "Illuminating Search Spaces by Mapping Elites": of policies
that do about the same, the best one is kept. Of QDax are the repertoire, what is drawn
from it, its variation and its metrics; ours are the episodes, and the standardisation
of observations. One iteration:

1. policies are drawn from the repertoire in pairs (x₁, x₂) and varied to x₁ + σ₁ ε +
   σ₂ u (x₂ - x₁), ε and u normal, u one number a policy (Vassiliades and Mouret 2018,
   "Discovering the Elite Hypervolume by Leveraging Interspecies Correlation", equation
   1); the first ones of all are drawn as new policies are;
2. each of them makes an episode, and the best policy so far some more, to be watched;
3. a policy goes into the cell that its descriptor is in, if that is empty or its
   return is larger than the one there.

A return is what came of the policy's own episodes, luck in them.
"""

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.evolution._foreign import foreign_rules
from applications.evolution.config import MAPElitesConfig
from applications.policies import AbstractPolicy, FlatView, make_policy
from applications.rollout import Episode
from applications.search import (
    AbstractPolicySearch,
    Metrics,
    Outcome,
    Proposal,
    SearchState,
)
from applications.settings import choose_range, UserError


# pyright: reportMissingImports=false
try:
    from qdax.core.containers.mapelites_repertoire import (
        compute_euclidean_centroids,
        MapElitesRepertoire,
    )
    from qdax.core.emitters.mutation_operators import isoline_variation
    from qdax.core.emitters.standard_emitters import MixingEmitter
    from qdax.utils.metrics import default_qd_metrics
except ImportError as error:
    raise UserError(
        "map-elites needs QDax. Install the extra: pip install -c constraints.txt -e "
        "'.[applications,qd]'."
    ) from error


class Keys(NamedTuple):
    """The randomness of one iteration."""

    emit: PRNGKeyArray
    rollout: PRNGKeyArray
    next: PRNGKeyArray


class Elites(eqx.Module):
    """QDax's repertoire with finite numbers, as checkpoints keep them.

    Attributes:
        weights: A policy for each cell, for observations as they are; 0 where there
            is none.
        returns: What it returned, the mean over its episodes.
        descriptors: What it did, likewise.
        filled: Which cells have a policy.
    """

    weights: Float[Array, "cells weights"]
    returns: Float[Array, " cells"]
    descriptors: Float[Array, " cells"]
    filled: Bool[Array, " cells"]


@final
class MAPElites(AbstractPolicySearch[Elites, Keys]):
    """MAP-Elites for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
        ends: Lower and upper end of the descriptor's range.
        speed_at: Where in an observation the speed is, if that is the descriptor.
    """

    task: AbstractEnvironment
    config: MAPElitesConfig = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    ends: tuple[float, float] = eqx.field(static=True)
    speed_at: int | None = eqx.field(static=True)

    def __init__(self, task: AbstractEnvironment, config: MAPElitesConfig):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If the task shows no speed and it is asked for, if the
                descriptor has no range, or if that is empty.
        """
        self.task = task
        self.config = config
        self.view = FlatView(self._draw_policy(jr.key(0)))
        speed = task.facts.signal("speed")
        if config.descriptor == "speed" and speed is None:
            raise UserError(
                "--descriptor speed is not for this task, which does not show how fast "
                "it moves. Use --descriptor return."
            )
        if config.descriptor == "return" or speed is None:
            own, self.speed_at = task.facts.return_range, None
        else:
            own, self.speed_at = (speed.low, speed.high), speed.index
        self.ends = choose_range(own, config.low, config.high)

    def init(self, *, key: PRNGKeyArray) -> SearchState[Elites]:
        """The repertoire is empty."""
        cells = self.config.cells
        weights = jnp.zeros((cells, self.view.space.size))
        # Each has an array of its own.
        empty = Elites(
            weights, jnp.zeros(cells), jnp.zeros(cells), jnp.zeros(cells, bool)
        )
        return self.start(empty, key=key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        return Keys(*jr.split(key, 3))

    def propose(self, state: SearchState[Elites], keys: Keys) -> Proposal:
        """Step 1: what comes of pairs that are kept, or new policies before any."""
        config, elites = self.config, state.learned
        # They stay the policies that they were, whatever is observed since.
        own = self.unfold_normalisation(elites.weights, state.observations)
        # What QDax says of their types is of an older form of theirs.
        keep: Any = lambda x, key: x
        vary: Any = lambda x, other, key: isoline_variation(
            x, other, key, config.iso_scale, config.line_scale
        )
        emitter = MixingEmitter(keep, vary, 1.0, config.num_envs)
        draw = lambda key: self.view.to_vector(self._draw_policy(key))
        drawn = jax.vmap(draw)(jr.split(keys.emit, config.num_envs))
        with foreign_rules():
            emitted = emitter.emit(self._repertoire(elites, own), None, keys.emit)
        varied: Any = emitted[0]
        candidates = jnp.where(jnp.any(elites.filled), varied, drawn)
        best = own[_best(elites)]
        return Proposal(candidates, jnp.tile(best, (config.eval_episodes, 1)))

    def learn(
        self,
        state: SearchState[Elites],
        proposal: Proposal,
        outcome: Outcome,
        keys: Keys,
    ) -> tuple[Elites, Metrics]:
        """Step 3: each policy goes to its cell, if it is the best there."""
        tried = outcome.candidates
        returns = jnp.mean(tried.total_reward, axis=1)
        # Of -inf nothing is larger, so that what broke is not kept.
        returns = jnp.where(jnp.all(tried.valid, axis=1), returns, -jnp.inf)
        descriptors = jnp.mean(self.describe(tried), axis=1)
        offset = (self.task.facts.return_range or (0.0, 0.0))[0]
        before = self._repertoire(state.learned, state.learned.weights)
        with foreign_rules():
            after = before.add(outcome.acting, descriptors[:, None], returns)
            found = default_qd_metrics(after, qd_offset=-offset)
        filled = jnp.isfinite(after.fitnesses[:, 0])
        kept = jnp.where(filled, after.fitnesses[:, 0], 0.0)
        elites = Elites(after.genotypes, kept, after.descriptors[:, 0], filled)
        any_kept = jnp.any(filled)
        return elites, {
            "weight_norm": jnp.linalg.norm(elites.weights[_best(elites)]),
            # QDax's is in per cent.
            "coverage": found["coverage"] / 100,
            "qd_score": found["qd_score"],
            "return_kept_max": jnp.where(any_kept, found["max_fitness"], jnp.nan),
        }

    def policy(self, state: SearchState[Elites]) -> AbstractPolicy:
        """Returns the policy with the largest return of all that are kept."""
        return self.view.to_policy(state.learned.weights[_best(state.learned)])

    def describe(self, episodes: Episode) -> Float[Array, "*batch"]:
        """What policies are told apart by.

        Args:
            episodes: Their episodes.

        Returns:
            By episode the mean speed, or the return.
        """
        if self.speed_at is None:
            return episodes.total_reward
        return episodes.observations.mean[..., self.speed_at]

    def _repertoire(
        self, elites: Elites, weights: Float[Array, "cells weights"]
    ) -> Any:
        """What QDax has in place of what is kept, with weights of one's own."""
        low, high = self.ends
        with foreign_rules():
            centres = compute_euclidean_centroids((self.config.cells,), low, high)
        return MapElitesRepertoire(
            genotypes=weights,
            fitnesses=jnp.where(elites.filled, elites.returns, -jnp.inf)[:, None],
            descriptors=elites.descriptors[:, None],
            centroids=centres,
            extra_scores={},
            keys_extra_scores=(),
        )

    def _draw_policy(self, key: PRNGKeyArray) -> AbstractPolicy:
        config = self.config
        return make_policy(
            config.policy,
            self.task,
            config.hidden,
            levels=config.action_levels,
            key=key,
        )


def _best(elites: Elites) -> Any:
    """The cell with the largest return."""
    return jnp.argmax(jnp.where(elites.filled, elites.returns, -jnp.inf))
