"""Step 3: what V is, and how it is fitted."""

from applications.envs import AbstractEnvironment
from applications.epvf.config import Config
from applications.policies import AbstractPolicy, FlatView
from applications.values import (
    AbstractCritic,
    KernelCritic,
    make_encoder,
    PerceptronCritic,
)


def make_critic(
    task: AbstractEnvironment, config: Config, view: FlatView[AbstractPolicy]
) -> AbstractCritic:
    """The critic that settings ask for.

    Args:
        task: What the policies act in.
        config: The settings.
        view: From vectors θ to policies and back.

    Returns:
        The critic.
    """

    def draw_encoder(*, key):
        options = config.encoder_options
        return make_encoder(config.representation, task, view.like, options, key=key)

    if config.critic == "kernel":
        return KernelCritic(
            draw_encoder,
            points=min(config.kernel_points, config.archive * config.num_envs),
            targets=config.targets,
            scale=config.kernel_scale,
            noise=config.kernel_noise,
        )
    return PerceptronCritic(
        draw_encoder,
        state_size=task.observation_size if config.start_states else 0,
        width=config.critic_width,
        depth=config.critic_depth,
        learning_rate=config.critic_lr,
        updates=config.critic_updates,
        batch_size=config.resolved_batch_size,
        targets=config.targets,
        start=config.critic_start,
        ensemble=config.ensemble,
    )
