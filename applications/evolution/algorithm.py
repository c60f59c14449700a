"""ARS and OpenES of evosax, with our rollouts on either engine.

Evosax asks and is told; what is ours is what lies between: episodes, what becomes of
broken ones, and the standardisation of observations. One iteration, with θ the policy:

1. evosax draws θ ± σ εᵢ, each direction both ways;
2. each of them makes an episode, and θ itself some more, to be watched;
3. evosax moves θ by the returns.
"""

import contextlib
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from applications.baselines.config import Config
from applications.envs import AbstractEnvironment
from applications.policies import FlatView, MLPPolicy, RunningStatistics
from applications.rollout import Episode
from applications.search import AbstractPolicySearch, Metrics
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


class State(eqx.Module):
    """Everything that an iteration reads and writes.

    Attributes:
        search: Evosax's state, with the weights θ as its mean.
        seen: RunningStatistics of all observations so far.
        key: Source of the randomness to come.
    """

    search: Any
    seen: RunningStatistics
    key: PRNGKeyArray


class Trial(eqx.Module):
    """The policies that an iteration tries.

    Attributes:
        population: Weights of the perturbed ones: the first half one way, the second
            half the other way.
        acting: The same and then θ several times, with the standardisation of
            observations put into them.
        key: Draws their episodes.
    """

    population: Float[Array, "policies weights"]
    acting: Float[Array, "more weights"]
    key: PRNGKeyArray


@final
class Evolution(AbstractPolicySearch):
    """An evolution strategy for one task and one setting.

    Attributes:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.
    """

    task: AbstractEnvironment
    config: Config = eqx.field(static=True)
    view: FlatView[MLPPolicy]
    _strategy: Any = eqx.field(static=True)

    def __init__(self, task: AbstractEnvironment, config: Config):
        """Prepares the algorithm.

        Args:
            task: What the policies act in.
            config: The settings.
        """
        self.task = task
        self.config = config = config.resolved()
        own = config.own
        self.view = FlatView(MLPPolicy(task, own["hidden"], key=jr.key(0)))
        weights = jnp.zeros(self.view.space.size)
        noise = optax.constant_schedule(own["noise_scale"])
        if config.algorithm == "ars":
            step = optax.sgd(own["learning_rate"])
            strategy = ARS(own["num_envs"], weights, step, noise)
            # Evosax rounds a share of the directions down.
            strategy.elite_ratio = (own["top"] + 0.5) / (own["num_envs"] // 2)
            assert strategy.num_elites == own["top"]
        else:
            step = optax.adam(own["learning_rate"])
            strategy = Open_ES(
                own["num_envs"], weights, optimizer=step, std_schedule=noise
            )
        self._strategy = strategy

    def init(self, *, key: PRNGKeyArray) -> State:
        """Draws the state before the first iteration.

        Args:
            key: Source of all randomness of the run.

        Returns:
            The state. Linear policies of ARS start at 0, as the paper's do; others as
            EPVF's.
        """
        policy_key, search_key, run_key = jr.split(key, 3)
        hidden = self.config.own["hidden"]
        weights = self.view.to_vector(MLPPolicy(self.task, hidden, key=policy_key))
        if self.config.algorithm == "ars" and not hidden:
            weights = jnp.zeros_like(weights)
        with _evosax_rules():
            search = self._strategy.init(search_key, weights, self._params)
        seen = RunningStatistics.empty(self.task.observation_size)
        return State(_strong(search), seen, run_key)

    def propose(self, state: State) -> Trial:
        """The policies to try in an iteration.

        Args:
            state: The state before it.

        Returns:
            Perturbed policies, and the unperturbed one to watch.
        """
        ask_key, rollout_key, _ = jr.split(state.key, 3)
        with _evosax_rules():
            population, _ = self._strategy.ask(ask_key, state.search, self._params)
        watched = jnp.tile(state.search.mean, (self.config.eval_episodes, 1))
        acting = jnp.concatenate([population, watched])
        return Trial(population, self.acting(acting, state.seen), rollout_key)

    def learn(
        self, state: State, trial: Trial, episodes: Episode
    ) -> tuple[State, Metrics]:
        """What an iteration makes of its episodes.

        Args:
            state: The state before the iteration.
            trial: The policies that it tried.
            episodes: Their episodes.

        Returns:
            The state after, and scalar metrics under the names that `metrics.jsonl`
            has.
        """
        count = self.config.own["num_envs"]
        tried: Episode = jax.tree.map(lambda leaf: leaf[:count], episodes)
        watched: Episode = jax.tree.map(lambda leaf: leaf[count:], episodes)
        valid = jnp.all(tried.valid, axis=1)
        returns = jnp.mean(tried.total_reward, axis=1)
        tell_key, next_key = jr.split(jr.split(state.key, 3)[2])
        with _evosax_rules():
            search, _ = self._strategy.tell(
                tell_key,
                trial.population,
                costs(returns, valid),
                state.search,
                self._params,
            )
        seen = state.seen.join(episodes.observations)
        best = jnp.where(tried.valid, tried.total_reward, -jnp.inf)
        metrics: Metrics = {
            "return_perturbed_mean": jnp.mean(tried.total_reward, where=tried.valid),
            "return_perturbed_max": jnp.max(best),
            "return_policy": jnp.mean(watched.total_reward, where=watched.valid),
            "env_steps": jnp.sum(tried.length),
            "nan_episodes": jnp.sum(~episodes.valid),
            "weight_norm": jnp.linalg.norm(search.mean),
        }
        return State(_strong(search), seen, next_key), metrics

    def policy(self, state: State) -> MLPPolicy:
        """The policy that a run stands for: the unperturbed one."""
        acting = self.acting(state.search.mean[None], state.seen)[0]
        return self.view.to_policy(acting)

    @property
    def _params(self) -> Any:
        return self._strategy.default_params


def check(task: AbstractEnvironment, config: Config) -> None:
    """There is nothing that evosax could not do."""
    del task, config


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
