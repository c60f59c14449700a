"""ARS, PPO and SAC of `brax.training`, on our tasks in JAX.

What is ours: the task behind Brax's interface, the rows of metrics, and the policy in
our own form, so that it is evaluated, saved and replayed like any other.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PyTree

from applications.baselines.config import BraxARSConfig, PPOConfig, SACConfig
from applications.envs import AbstractEnvironment
from applications.envs.adapters import quiet_import, to_brax
from applications.policies import Activation, MLPPolicy, RunningStatistics, standardised
from applications.settings import UserError


# pyright: reportMissingImports=false
try:
    with quiet_import():
        from brax.training.agents.ars import networks as ars_networks, train as ars
        from brax.training.agents.ppo import networks as ppo_networks, train as ppo
        from brax.training.agents.sac import networks as sac_networks, train as sac
except ImportError as error:
    raise UserError(
        "brax-ars, ppo and sac need brax. Install the extra: pip install -c "
        "constraints.txt -e '.[applications,baselines]'."
    ) from error


AddRow: TypeAlias = Callable[[int, dict[str, float]], None]
Config: TypeAlias = BraxARSConfig | PPOConfig | SACConfig


def check(task: AbstractEnvironment, config: Config) -> None:
    """Refuses what Brax would fail on.

    Args:
        task: The task.
        config: The settings.

    Raises:
        UserError: If the environments cannot be shared out among the devices.
    """
    del task
    devices = jax.local_device_count()
    if config.num_envs % devices:
        raise UserError(
            f"--num-envs {config.num_envs} cannot be shared out among the "
            f"{devices} devices."
        )


def train(
    task: AbstractEnvironment, config: Config, add_row: AddRow, *, seed: int
) -> MLPPolicy:
    """Trains a policy.

    Args:
        task: The task.
        config: The settings.
        add_row: Called with control steps and metrics each time that Brax evaluates.
        seed: Seed of all randomness.

    Returns:
        The policy without its noise.
    """

    def progress(steps: int, metrics: dict[str, Any]) -> None:
        add_row(int(steps), {"return_policy": float(metrics["eval/episode_reward"])})

    run: Any = {BraxARSConfig: _ars, PPOConfig: _ppo, SACConfig: _sac}[type(config)]
    with _brax_rules():
        normaliser, layers, activation = run(
            config,
            environment=to_brax(task),
            episode_length=task.horizon,
            num_timesteps=config.steps,
            num_eval_envs=config.eval_episodes,
            normalize_observations=config.normalise,
            seed=seed,
            progress_fn=progress,
        )
    return to_policy(task, layers, activation, normaliser if config.normalise else None)


def to_policy(
    task: AbstractEnvironment, layers: PyTree, activation: Activation, normaliser: Any
) -> MLPPolicy:
    """Brax's network as a policy of ours.

    Args:
        task: What it acts in.
        layers: Flax's parameters of an MLP: `kernel` and `bias` by layer. The last one
            may have more outputs than the task has actions; the first are taken, since
            Brax has spreads after means.
        activation: What its hidden units are.
        normaliser: Brax's running statistics of observations, or None.

    Returns:
        The policy that does what Brax's does without noise: both squash the last
        layer's output by tanh.
    """
    ordered = [layers[f"hidden_{i}"] for i in range(len(layers))]
    hidden = tuple(len(layer["bias"]) for layer in ordered[:-1])
    policy = MLPPolicy(task, hidden, activation=activation, key=jr.key(0))
    filled = []
    layer: Any
    for layer, given in zip(policy.layers, ordered, strict=True):
        outputs = layer.out_features
        weight = jnp.asarray(given["kernel"])[:, :outputs].T
        bias = jnp.asarray(given["bias"])[:outputs]
        where = lambda layer: (layer.weight, layer.bias)
        filled.append(eqx.tree_at(where, layer, (weight, bias)))
    policy = eqx.tree_at(lambda policy: policy.layers, policy, tuple(filled))
    if normaliser is None:
        return policy
    # Two observations with this mean and this deviation.
    mean, std = jnp.asarray(normaliser.mean), jnp.asarray(normaliser.std)
    seen = RunningStatistics(jnp.asarray(2.0), mean, 2 * jnp.square(std))
    return standardised(policy, seen)


def _ars(config: BraxARSConfig, **shared: Any) -> tuple[Any, PyTree, Activation]:
    an_iteration = config.num_envs * shared["episode_length"]
    # Brax's protocol wants default arguments, which it never uses.
    factory: Any = _squashed_linear
    _, (normaliser, weights), _ = ars.train(
        number_of_directions=config.num_envs // 2,
        top_directions=config.top,
        step_size=config.learning_rate,
        exploration_noise_std=config.noise_scale,
        num_evals=min(config.iterations, max(1, config.steps // an_iteration)),
        network_factory=factory,
        **shared,
    )
    layer = {"kernel": weights, "bias": jnp.zeros(weights.shape[1])}
    return normaliser, {"hidden_0": layer}, "tanh"


def _ppo(config: PPOConfig, **shared: Any) -> tuple[Any, PyTree, Activation]:
    _, (normaliser, policy, _), _ = ppo.train(
        num_envs=config.num_envs,
        unroll_length=config.unroll,
        # In trajectories: each environment makes one for each batch.
        batch_size=config.num_envs // config.minibatches,
        num_minibatches=config.minibatches,
        num_updates_per_batch=config.updates,
        learning_rate=config.learning_rate,
        discounting=config.discount,
        gae_lambda=config.gae_lambda,
        clipping_epsilon=config.ratio_clip,
        entropy_cost=config.entropy_cost,
        vf_loss_coefficient=config.critic_cost,
        max_grad_norm=config.max_grad_norm,
        reward_scaling=config.reward_scale,
        # One evaluation more, before the first step.
        num_evals=1 + _rows(config, config.num_envs * config.unroll),
        deterministic_eval=True,
        network_factory=functools.partial(
            ppo_networks.make_ppo_networks,
            policy_hidden_layer_sizes=config.hidden,
            value_hidden_layer_sizes=config.critic_hidden,
        ),
        **shared,
    )
    return normaliser, policy["params"], "swish"


def _sac(config: SACConfig, **shared: Any) -> tuple[Any, PyTree, Activation]:
    factory: Any = functools.partial(
        sac_networks.make_sac_networks, hidden_layer_sizes=config.hidden
    )
    _, (normaliser, policy), _ = sac.train(
        num_envs=config.num_envs,
        learning_rate=config.learning_rate,
        discounting=config.discount,
        batch_size=config.batch_size,
        min_replay_size=config.warm_up,
        max_replay_size=min(config.buffer, config.steps),
        grad_updates_per_step=config.updates,
        tau=config.target_rate,
        reward_scaling=config.reward_scale,
        num_evals=1 + _rows(config, config.num_envs),
        deterministic_eval=True,
        network_factory=factory,
        **shared,
    )
    return normaliser, policy["params"], "relu"


def _rows(config: PPOConfig | SACConfig, steps: int) -> int:
    """Chooses how many rows Brax writes when each of its updates takes so many steps.

    Brax makes the same number of updates before each row. Of the numbers of rows up to
    `iterations` this is one with which it goes only a little beyond the steps.
    """
    updates = -(-config.steps // steps)
    in_a_row = -(-updates // config.iterations)
    return -(-updates // in_a_row)


def _squashed_linear(
    observation_size: int,
    action_size: int,
    preprocess_observations_fn: Any,
) -> Any:
    """Brax's linear policy, squashed into the box as all policies here are."""
    linear = ars_networks.make_policy_network(
        observation_size, action_size, preprocess_observations_fn
    )
    return ars_networks.ARSNetwork(
        init=linear.init, apply=lambda *args: jnp.tanh(linear.apply(*args))
    )


def _replicated(tree: PyTree, devices: list[Any]) -> PyTree:
    """What Brax asks of JAX, which has it no more: a copy for each device."""
    return jax.tree.map(lambda x: jnp.stack(len(devices) * [jnp.asarray(x)]), tree)


@contextlib.contextmanager
def _brax_rules():
    """Brax mixes dtypes and ranks, and uses what JAX and Optax are about to drop."""
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        mock.patch.object(jax, "device_put_replicated", _replicated, create=True),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
