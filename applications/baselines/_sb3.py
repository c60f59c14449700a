"""DDPG, PPO and SAC of Stable-Baselines3, on our tasks.

What is ours: the environments, all stepped in one call, the rows of metrics, and the
policy in our own form, so that it is evaluated, saved and replayed like any other.
"""

import contextlib
from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.baselines.config_sb3 import DDPGConfig, SB3PPOConfig, SB3SACConfig
from applications.envs import AbstractEnvironment, Continuous
from applications.policies import FlatView, MLPPolicy
from applications.rollout import compile_rollout
from applications.settings import UserError
from applications.training import key_for, Purpose


# pyright: reportMissingImports=false
try:
    import torch
    from stable_baselines3 import DDPG, PPO, SAC
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

    from applications.baselines._sb3_envs import SB3Environments
except ImportError as error:
    raise UserError(
        "ddpg, sb3-ppo and sb3-sac need stable-baselines3. Install the extra: pip "
        "install -c constraints.txt -e '.[applications,baselines]'."
    ) from error


AddRow: TypeAlias = Callable[[int, dict[str, float]], None]
Config: TypeAlias = DDPGConfig | SB3PPOConfig | SB3SACConfig
_NAMES = {DDPGConfig: "ddpg", SB3SACConfig: "sb3-sac"}
_ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def check(task: AbstractEnvironment, config: Config) -> None:
    """Refuses what an algorithm cannot learn.

    Args:
        task: The task.
        config: The settings.

    Raises:
        UserError: If actions are not continuous where they must be.
    """
    if isinstance(task.action_space, Continuous):
        return
    name = _NAMES.get(type(config))
    if isinstance(config, SB3PPOConfig) and config.sde:
        name = "--sde"
    if name is not None:
        raise UserError(
            f"{name} needs continuous actions, which the task does not have. Choose "
            "another --env or --algorithm."
        )


def train(
    task: AbstractEnvironment, config: Config, add_row: AddRow, *, seed: int
) -> MLPPolicy:
    """Trains a policy.

    Args:
        task: The task.
        config: The settings.
        add_row: Called with control steps and metrics, `iterations` times in equal
            distances, or where a batch is longer than those, once a batch.
        seed: Seed of all randomness.

    Returns:
        The policy without its noise.
    """
    torch.set_num_threads(config.threads)
    with contextlib.closing(_environments(task, config)) as environments:
        model = make_model(environments, config, seed=seed)
        callback = _Evaluation(task, config, add_row, seed=seed)
        model.learn(config.steps, callback=callback)
        return to_policy(task, model)


def make_model(environments: Any, config: Config, *, seed: int) -> Any:
    """Makes an algorithm of Stable-Baselines3.

    Args:
        environments: What it acts in.
        config: The settings.
        seed: Seed of all randomness.

    Returns:
        The algorithm, before its first step.
    """
    shared: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": environments,
        "batch_size": config.batch_size,
        "gamma": config.discount,
        "seed": seed,
        "device": "cpu",
    }
    if isinstance(config, SB3PPOConfig):
        return PPO(
            learning_rate=_scheduled(config, config.learning_rate),
            n_steps=config.unroll,
            n_epochs=config.updates,
            gae_lambda=config.gae_lambda,
            clip_range=_scheduled(config, config.ratio_clip),
            ent_coef=config.entropy_cost,
            vf_coef=config.critic_cost,
            max_grad_norm=config.max_grad_norm,
            use_sde=config.sde,
            policy_kwargs={
                "net_arch": {
                    "pi": list(config.hidden),
                    "vf": list(config.critic_hidden),
                },
                "activation_fn": _ACTIVATIONS[config.activation],
                "log_std_init": float(np.log(config.noise_scale)),
                "ortho_init": config.orthogonal,
            },
            **shared,
        )
    of_a_buffer = {
        "learning_rate": config.learning_rate,
        "buffer_size": min(config.buffer, config.steps),
        "learning_starts": config.warm_up,
        "tau": config.target_rate,
    }
    if isinstance(config, DDPGConfig):
        size = environments.action_space.shape
        # Of actions within 1, whatever the task's box.
        noise = NormalActionNoise(np.zeros(size), np.full(size, config.noise_scale))
        networks: dict[str, Any] = {"net_arch": list(config.hidden)}
        return DDPG(action_noise=noise, policy_kwargs=networks, **of_a_buffer, **shared)
    networks = {"net_arch": list(config.hidden)}
    if config.sde:
        networks["log_std_init"] = float(np.log(config.noise_scale))
        # Means are not clipped before tanh, which our policies could not say.
        networks["clip_mean"] = 0.0
    return SAC(
        train_freq=config.unroll,
        gradient_steps=config.updates,
        ent_coef="auto" if config.entropy_cost is None else config.entropy_cost,
        use_sde=config.sde,
        policy_kwargs=networks,
        **of_a_buffer,
        **shared,
    )


def to_policy(task: AbstractEnvironment, model: Any) -> MLPPolicy:
    """The policy of an algorithm of Stable-Baselines3 as one of ours.

    Args:
        task: What it acts in.
        model: The algorithm, a `DDPG`, `PPO` or `SAC` with perceptrons.

    Returns:
        The policy that does what the algorithm's does without noise: that of PPO is
        clipped to the action box, those of the others are squashed by tanh. If
        observations are standardised, that is in its first layer.
    """
    form: Any = {"activation": "relu"}
    if isinstance(model, PPO):
        parts = (model.policy.mlp_extractor.policy_net, model.policy.action_net)
        relu = model.policy.activation_fn is torch.nn.ReLU
        form = {"activation": "relu" if relu else "tanh", "bound": "clip"}
    elif isinstance(model, SAC):
        parts = (model.actor.latent_pi, model.actor.mu)
    else:
        parts = (model.actor.mu,)
    linear = [
        layer
        for part in parts
        for layer in part.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    hidden = tuple(layer.out_features for layer in linear[:-1])
    policy = MLPPolicy(task, hidden, **form, key=jr.key(0))
    filled = []
    layer: Any
    for layer, given in zip(policy.layers, linear, strict=True):
        # Copies: the algorithm goes on learning in its own memory.
        weight, bias = (
            jnp.array(tensor.detach().numpy(), copy=True)
            for tensor in (given.weight, given.bias)
        )
        where = lambda layer: (layer.weight, layer.bias)
        filled.append(eqx.tree_at(where, layer, (weight, bias)))
    policy = eqx.tree_at(lambda policy: policy.layers, policy, tuple(filled))
    normaliser: Any = model.get_vec_normalize_env()
    if normaliser is None or not normaliser.norm_obs:
        return policy
    seen = normaliser.obs_rms
    std = np.sqrt(seen.var + normaliser.epsilon)
    return policy.fold_standardisation(
        jnp.asarray(seen.mean, jnp.float32), jnp.asarray(std, jnp.float32)
    )


class _Evaluation(BaseCallback):
    """Writes a row where the steps of one are done and learned from."""

    def __init__(
        self, task: AbstractEnvironment, config: Config, add_row: AddRow, *, seed: int
    ):
        super().__init__()
        self._task, self._config, self._add_row = task, config, add_row
        self._key = key_for(seed, Purpose.TRAIN)
        self._rows = 0
        self._run: Any = None

    def _on_rollout_start(self) -> None:
        self._row_if_due()

    def _on_training_end(self) -> None:
        self._row_if_due()

    def _on_step(self) -> bool:
        return True

    def _row_if_due(self) -> None:
        rows = self._config.iterations * self.num_timesteps // self._config.steps
        if rows > self._rows:
            self._rows = rows
            returns = [info["r"] for info in self.model.ep_info_buffer or ()]
            metrics = {"return_policy": self._evaluated()}
            if returns:
                metrics["return_training"] = float(np.mean(returns))
            self._add_row(self.num_timesteps, metrics)

    def _evaluated(self) -> float:
        policy = to_policy(self._task, self.model)
        view = FlatView(policy)
        if self._run is None:
            self._run = compile_rollout(
                self._task, view.to_policy, episodes=self._config.eval_episodes
            )
        key = jr.fold_in(self._key, self._rows)
        episodes = self._run(view.to_vector(policy)[None], key=key)
        return jnp.mean(episodes.total_reward, where=episodes.valid).item()


def _environments(task: AbstractEnvironment, config: Config) -> Any:
    count = 1 if isinstance(config, DDPGConfig) else config.num_envs
    environments = VecMonitor(SB3Environments(task, count))
    observations = not isinstance(config, DDPGConfig) and config.normalise
    rewards = isinstance(config, SB3PPOConfig) and config.normalise_rewards
    if not observations and not rewards:
        return environments
    return VecNormalize(
        environments,
        norm_obs=observations,
        norm_reward=rewards,
        # Not clipped: what is folded into the first layer of a policy cannot be.
        clip_obs=np.inf,
        gamma=config.discount,
    )


def _scheduled(config: SB3PPOConfig, value: float) -> Any:
    return value if config.schedule == "constant" else lambda left: left * value
