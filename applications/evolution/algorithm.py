"""Evolution strategies of evosax, with our rollouts on either engine.

Evosax asks and is told; what is ours is what lies between: episodes, what becomes of
broken ones, and the standardisation of observations. One iteration, with θ the policy:

1. evosax draws policies around θ: of ARS and OpenES θ ± σ εᵢ, each direction both ways;
   of the strategies that adapt, from a normal distribution of mean θ;
2. each of them makes an episode, and θ itself some more, to be watched;
3. evosax moves θ by the returns, and adapts the distribution.
"""

from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.evolution._foreign import foreign_rules
from applications.evolution.config import (
    AdaptiveConfig,
    ARSConfig,
    CMAESConfig,
    Config,
    OpenESConfig,
    SepCMAESConfig,
    SNESConfig,
)
from applications.policies import AbstractPolicy, FlatView, make_policy
from applications.search import (
    AbstractPolicySearch,
    Metrics,
    Outcome,
    Proposal,
    SearchState,
)
from applications.settings import UserError


# pyright: reportMissingImports=false
try:
    from evosax.algorithms.distribution_based.ars import ARS
    from evosax.algorithms.distribution_based.cma_es import CMA_ES
    from evosax.algorithms.distribution_based.open_es import Open_ES
    from evosax.algorithms.distribution_based.sep_cma_es import Sep_CMA_ES
    from evosax.algorithms.distribution_based.snes import SNES
except ImportError as error:
    raise UserError(
        "ars, openes, cma-es, sep-cma-es and snes need evosax. Install the extra: pip "
        "install -c constraints.txt -e '.[applications,baselines]'."
    ) from error


_ADAPTIVE: dict[Any, Any] = {
    CMAESConfig: CMA_ES,
    SepCMAESConfig: Sep_CMA_ES,
    SNESConfig: SNES,
}
# Of CMA-ES: beyond these an iteration would spend a minute on eigenvectors.
_MOST_WEIGHTS = 5000


class Keys(NamedTuple):
    """The randomness of one iteration."""

    ask: PRNGKeyArray
    rollout: PRNGKeyArray
    tell: PRNGKeyArray
    next: PRNGKeyArray


@final
class Evolution(AbstractPolicySearch[Any, Keys]):
    """An evolution strategy for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[AbstractPolicy]
    _strategy: Any = eqx.field(static=True)

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.

        Raises:
            UserError: If there are too many weights for CMA-ES.
        """
        self.task = task
        self.config = config
        self.view = FlatView(self._draw_policy(jr.key(0)))
        weights = jnp.zeros(self.view.space.size)
        if isinstance(config, CMAESConfig) and weights.size > _MOST_WEIGHTS:
            raise UserError(
                f"cma-es is for up to {_MOST_WEIGHTS} weights; this policy has "
                f"{weights.size}. Use --algorithm sep-cma-es or snes, or a smaller "
                "--hidden."
            )
        self._strategy = _strategy(config, weights)

    def init(self, *, key: PRNGKeyArray) -> SearchState[Any]:
        """Draws θ: linear policies of ARS start at 0, as the paper's do."""
        policy_key, search_key, run_key = jr.split(key, 3)
        hidden = self.config.hidden
        weights = self.view.to_vector(self._draw_policy(policy_key))
        if isinstance(self.config, ARSConfig) and not hidden:
            weights = jnp.zeros_like(weights)
        with foreign_rules():
            strategy = self._strategy.init(search_key, weights, self._params)
        # Nothing has been tried yet, which evosax says by NaN and infinity; a
        # checkpoint has neither.
        worst = jnp.full_like(strategy.best_fitness, jnp.finfo(jnp.float32).max)
        strategy = strategy.replace(best_solution=weights, best_fitness=worst)
        return self.start(_strong(strategy), key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        ask_key, rollout_key, rest = jr.split(key, 3)
        return Keys(ask_key, rollout_key, *jr.split(rest))

    def propose(self, state: SearchState[Any], keys: Keys) -> Proposal:
        """Step 1: policies around θ.

        Of ARS and OpenES the first half one way, the second half the other way.
        """
        with foreign_rules():
            candidates, asked = self._strategy.ask(
                keys.ask, state.learned, self._params
            )
        watched = jnp.tile(state.learned.mean, (self.config.eval_episodes, 1))
        # Of CMA-ES what is asked has the eigenvectors, of which it is to be told.
        return Proposal(candidates, watched, context=asked)

    def learn(
        self, state: SearchState[Any], proposal: Proposal, outcome: Outcome, keys: Keys
    ) -> tuple[Any, Metrics]:
        """Step 3: θ moves by the returns."""
        tried = outcome.candidates
        returns = jnp.mean(tried.total_reward, axis=1)
        adapts = isinstance(self.config, AdaptiveConfig)
        with foreign_rules():
            strategy, _ = self._strategy.tell(
                keys.tell,
                proposal.candidates,
                costs(returns, jnp.all(tried.valid, axis=1), paired=not adapts),
                proposal.context,
                self._params,
            )
            metrics = {"weight_norm": jnp.linalg.norm(strategy.mean)}
            if adapts:
                metrics["noise_scale"] = _noise_scale(strategy)
        return _strong(strategy), metrics

    def policy(self, state: SearchState[Any]) -> AbstractPolicy:
        """Returns the unperturbed policy."""
        mean = state.learned.mean[None]
        return self.view.to_policy(self.fold_normalisation(mean, state.observations)[0])

    def _draw_policy(self, key: PRNGKeyArray) -> AbstractPolicy:
        config = self.config
        return make_policy(
            config.policy,
            self.task,
            config.hidden,
            levels=config.action_levels,
            key=key,
        )

    @property
    def _params(self) -> Any:
        params = self._strategy.default_params
        if isinstance(self.config, AdaptiveConfig):
            params = params.replace(std_init=jnp.asarray(self.config.noise_scale))
        if isinstance(self.config, SepCMAESConfig):
            # Ros and Hansen (2008), section 3: n numbers are learned faster than n².
            faster = (self.view.space.size + 2) / 3
            rank_one = jnp.minimum(params.c_1 * faster, 1.0)
            rank_mu = jnp.minimum(params.c_mu * faster, 1 - rank_one)
            params = params.replace(c_1=rank_one, c_mu=rank_mu)
        return params


def costs(
    returns: Float[Array, " policies"],
    valid: Bool[Array, " policies"],
    *,
    paired: bool,
) -> Float[Array, " policies"]:
    """What evosax is to make small.

    Args:
        returns: Returns.
        valid: Whether the simulation stayed finite.
        paired: Whether those of the second half belong to the same directions as those
            of the first half, the other way.

    Returns:
        The returns' negatives. A policy whose simulation broke has the worst cost of
        the others. Of a pair both have it then: such a direction says nothing, for the
        difference is 0.
    """
    half = len(valid) // 2
    sound = jnp.tile(valid[:half] & valid[half:], 2) if paired else valid
    worst = jnp.min(jnp.where(sound, returns, jnp.inf))
    worst = jnp.where(jnp.any(sound), worst, 0.0)
    return -jnp.where(sound, returns, worst)


def _strategy(config: Config, weights: Float[Array, " weights"]) -> Any:
    """The strategy of evosax that settings are for."""
    if isinstance(config, ARSConfig | OpenESConfig):
        noise = optax.constant_schedule(config.noise_scale)
        if isinstance(config, OpenESConfig):
            step = optax.adam(config.learning_rate)
            return Open_ES(config.num_envs, weights, optimizer=step, std_schedule=noise)
        step = optax.sgd(config.learning_rate)
        strategy = ARS(config.num_envs, weights, step, noise)
        # Evosax rounds a share of the directions down.
        strategy.elite_ratio = (config.top + 0.5) / (config.num_envs // 2)
        assert strategy.num_elites == config.top
        return strategy
    with foreign_rules():
        return _ADAPTIVE[type(config)](config.num_envs, weights)


def _noise_scale(search: Any) -> Float[Array, ""]:
    """Root of the mean variance of the noise on weights."""
    variances = jnp.square(search.std)
    if hasattr(search, "C"):
        shape = search.C
        variances = variances * (jnp.diag(shape) if shape.ndim == 2 else shape)
    return jnp.sqrt(jnp.mean(variances))


def _strong(search: Any) -> Any:
    """Without weak types, which evosax's constants have and checkpoints do not keep."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), search)
