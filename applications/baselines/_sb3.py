"""DDPG of Stable-Baselines3, on our tasks as Gymnasium environments.

What is ours: the task behind Gymnasium's interface, the rows of metrics, and the policy
in our own form, so that it is evaluated, saved and replayed like any other.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from applications.baselines.config import DDPGConfig
from applications.envs import AbstractEnvironment, Continuous
from applications.envs.adapters import to_gymnasium
from applications.policies import FlatView, MLPPolicy
from applications.rollout import compile_rollout
from applications.settings import UserError
from applications.training import key_for, Purpose


# pyright: reportMissingImports=false
try:
    import torch
    from stable_baselines3 import DDPG
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise
except ImportError as error:
    raise UserError(
        "ddpg needs stable-baselines3. Install the extra: pip install -c "
        "constraints.txt -e '.[applications,baselines]'."
    ) from error


AddRow: TypeAlias = Callable[[int, dict[str, float]], None]


def check(task: AbstractEnvironment, config: DDPGConfig) -> None:
    """Refuses what DDPG cannot learn.

    Args:
        task: The task.
        config: The settings.

    Raises:
        UserError: If actions are not continuous.
    """
    del config
    if not isinstance(task.action_space, Continuous):
        raise UserError(
            "ddpg needs continuous actions, which the task does not have. Choose "
            "another --env or --algorithm."
        )


def train(
    task: AbstractEnvironment, config: DDPGConfig, add_row: AddRow, *, seed: int
) -> MLPPolicy:
    """Trains a policy.

    Args:
        task: The task.
        config: The settings.
        add_row: Called with control steps and metrics, `iterations` times in equal
            distances.
        seed: Seed of all randomness.

    Returns:
        The policy without its noise.
    """
    space = task.action_space
    assert isinstance(space, Continuous)
    size = space.output_size
    # Networks this small gain nothing from more, and lose much where cores are busy.
    torch.set_num_threads(1)
    model = DDPG(
        "MlpPolicy",
        to_gymnasium(task),
        learning_rate=config.learning_rate,
        buffer_size=min(config.buffer, config.steps),
        learning_starts=config.warm_up,
        batch_size=config.batch_size,
        tau=config.target_rate,
        gamma=config.discount,
        # Of actions within 1, whatever the task's box.
        action_noise=NormalActionNoise(
            np.zeros(size), np.full(size, config.noise_scale)
        ),
        policy_kwargs={"net_arch": list(config.hidden)},
        seed=seed,
        device="cpu",
    )
    key = key_for(seed, Purpose.TRAIN)
    view = FlatView(to_policy(task, model.actor))
    run = compile_rollout(task, view.to_policy, episodes=config.eval_episodes)

    class Evaluation(BaseCallback):
        rows = 0

        def _on_step(self) -> bool:
            due = (self.rows + 1) * config.steps // config.iterations
            if self.num_timesteps >= due:
                self.rows += 1
                policy = to_policy(task, model.actor)
                own_key = jr.fold_in(key, self.rows)
                episodes = run(view.to_vector(policy)[None], key=own_key)
                mean = jnp.mean(episodes.total_reward, where=episodes.valid)
                add_row(self.num_timesteps, {"return_policy": mean.item()})
            return True

    model.learn(config.steps, callback=Evaluation())
    return to_policy(task, model.actor)


def to_policy(task: AbstractEnvironment, actor: Any) -> MLPPolicy:
    """Stable-Baselines3's actor as a policy of ours.

    Args:
        task: What it acts in.
        actor: Linear layers with ReLU between them and tanh at the end.

    Returns:
        The policy that does what the actor does without noise.
    """
    linear = [layer for layer in actor.mu if hasattr(layer, "weight")]
    hidden = tuple(layer.out_features for layer in linear[:-1])
    policy = MLPPolicy(task, hidden, activation="relu", key=jr.key(0))
    filled = []
    layer: Any
    for layer, given in zip(policy.layers, linear, strict=True):
        # Copies: the actor goes on learning in its own memory.
        weight, bias = (
            jnp.array(tensor.detach().numpy(), copy=True)
            for tensor in (given.weight, given.bias)
        )
        where = lambda layer: (layer.weight, layer.bias)
        filled.append(eqx.tree_at(where, layer, (weight, bias)))
    return eqx.tree_at(lambda policy: policy.layers, policy, tuple(filled))
