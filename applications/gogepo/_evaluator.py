"""The evaluator: from a policy to what it does."""

from jaxtyping import PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.gogepo._commands import Commands
from applications.gogepo.config import Config
from applications.policies import AbstractPolicy
from applications.values import make_encoder, value_function
from wsl.encoders import EncodedMLP


def make_evaluator(
    config: Config,
    task: AbstractEnvironment,
    policy: AbstractPolicy,
    commands: Commands,
    *,
    encoder_key: PRNGKeyArray,
    head_key: PRNGKeyArray,
) -> EncodedMLP:
    """Draws an evaluator.

    Args:
        config: The settings.
        task: What policies act in.
        policy: One of them.
        commands: What can be commanded, and so has to be told of a policy.
        encoder_key: Draws the encoder.
        head_key: Draws the perceptron on its vector.

    Returns:
        The evaluator, whose values are in units of the targets.
    """
    encoder = make_encoder(
        config.representation, task, policy, config.encoder_options, key=encoder_key
    )
    return value_function(
        encoder,
        config.critic_width,
        config.critic_depth,
        out_size=commands.size,
        key=head_key,
    )
