"""The evaluator: from a policy to what it does."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

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
        policy: One of them, under no condition.
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
        state_size=0 if commands.condition is None else 1,
        out_size=commands.achieved,
        key=head_key,
    )


def judge(
    commands: Commands, value: EncodedMLP, policy: Any
) -> Float[Array, " achieved"]:
    """What the evaluator says of a policy.

    Args:
        commands: What can be commanded.
        value: The evaluator.
        policy: The policy, under its condition if there is one. The evaluator reads
            what acts, and the condition's number beside it.

    Returns:
        What it is to achieve, in units of the targets.
    """
    if commands.condition is None:
        return value(policy)
    return value(policy.policy, commands.condition.scaled(policy.number))
