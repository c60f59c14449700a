"""ARS and OpenES of evosax, with our rollouts on either engine.

Evosax asks and is told; what is ours is what lies between: episodes, what becomes of
broken ones, and the standardisation of observations. One iteration, with θ the policy:

1. evosax draws θ ± σ εᵢ, each direction both ways;
2. each of them makes an episode, and θ itself some more, to be watched;
3. evosax moves θ by the returns.
"""

import contextlib
from typing import Any, final, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.evolution.config import ARSConfig, Config
from applications.policies import AbstractPolicy, FlatView, make_policy
from applications.search import (
    AbstractPolicySearch,
    Metrics,
    Outcome,
    Proposal,
    SearchState,
)
from applications.settings import UserError


try:
    from evosax.algorithms.distribution_based.ars import (  # pyright: ignore[reportMissingImports]
        ARS,
    )
    from evosax.algorithms.distribution_based.open_es import (  # pyright: ignore[reportMissingImports]
        Open_ES,
    )
except ImportError as error:
    raise UserError(
        "ars and openes need evosax. Install the extra: pip install -c constraints.txt "
        "-e '.[applications,baselines]'."
    ) from error


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
        """
        self.task = task
        self.config = config
        self.view = FlatView(self._draw_policy(jr.key(0)))
        weights = jnp.zeros(self.view.space.size)
        noise = optax.constant_schedule(config.noise_scale)
        if isinstance(config, ARSConfig):
            step = optax.sgd(config.learning_rate)
            strategy = ARS(config.num_envs, weights, step, noise)
            # Evosax rounds a share of the directions down.
            strategy.elite_ratio = (config.top + 0.5) / (config.num_envs // 2)
            assert strategy.num_elites == config.top
        else:
            step = optax.adam(config.learning_rate)
            strategy = Open_ES(
                config.num_envs, weights, optimizer=step, std_schedule=noise
            )
        self._strategy = strategy

    def init(self, *, key: PRNGKeyArray) -> SearchState[Any]:
        """Draws θ: linear policies of ARS start at 0, as the paper's do."""
        policy_key, search_key, run_key = jr.split(key, 3)
        hidden = self.config.hidden
        weights = self.view.to_vector(self._draw_policy(policy_key))
        if isinstance(self.config, ARSConfig) and not hidden:
            weights = jnp.zeros_like(weights)
        with _evosax_rules():
            strategy = self._strategy.init(search_key, weights, self._params)
        return self.start(_strong(strategy), key=run_key)

    def split(self, key: PRNGKeyArray) -> Keys:
        """Splits the key of an iteration by purpose."""
        ask_key, rollout_key, rest = jr.split(key, 3)
        return Keys(ask_key, rollout_key, *jr.split(rest))

    def propose(self, state: SearchState[Any], keys: Keys) -> Proposal:
        """Step 1: θ ± σ εᵢ, the first half one way, the second half the other way."""
        with _evosax_rules():
            candidates, _ = self._strategy.ask(keys.ask, state.learned, self._params)
        mean = state.learned.mean
        return Proposal(candidates, jnp.tile(mean, (self.config.eval_episodes, 1)))

    def learn(
        self, state: SearchState[Any], proposal: Proposal, outcome: Outcome, keys: Keys
    ) -> tuple[Any, Metrics]:
        """Step 3: θ moves by the returns."""
        tried = outcome.candidates
        returns = jnp.mean(tried.total_reward, axis=1)
        with _evosax_rules():
            strategy, _ = self._strategy.tell(
                keys.tell,
                proposal.candidates,
                costs(returns, jnp.all(tried.valid, axis=1)),
                state.learned,
                self._params,
            )
        return _strong(strategy), {"weight_norm": jnp.linalg.norm(strategy.mean)}

    def policy(self, state: SearchState[Any]) -> AbstractPolicy:
        """Returns the unperturbed policy."""
        mean = state.learned.mean[None]
        return self.view.to_policy(self.fold_normalisation(mean, state.observations)[0])

    def _draw_policy(self, key: PRNGKeyArray) -> AbstractPolicy:
        return make_policy(self.config.policy, self.task, self.config.hidden, key=key)

    @property
    def _params(self) -> Any:
        return self._strategy.default_params


def costs(
    returns: Float[Array, " policies"], valid: Bool[Array, " policies"]
) -> Float[Array, " policies"]:
    """What evosax is to make small.

    Args:
        returns: Returns; those of the second half belong to the same directions as
            those of the first half, the other way.
        valid: Whether the simulation stayed finite.

    Returns:
        The returns' negatives. A direction in which a simulation broke says nothing:
        both ways have the worst cost of the others, so that their difference is 0.
    """
    half = len(valid) // 2
    sound = jnp.tile(valid[:half] & valid[half:], 2)
    worst = jnp.min(jnp.where(sound, returns, jnp.inf))
    worst = jnp.where(jnp.any(sound), worst, 0.0)
    return -jnp.where(sound, returns, worst)


def _strong(search: Any) -> Any:
    """Without weak types, which evosax's constants have and checkpoints do not keep."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), search)


@contextlib.contextmanager
def _evosax_rules():
    """Evosax mixes dtypes and ranks."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield
