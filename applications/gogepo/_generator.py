"""Generators of policies by name, and how commands are put to them."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.envs import AbstractEnvironment
from applications.gogepo._commands import Commands
from applications.gogepo._outcomes import OutcomeStatistics
from applications.gogepo.config import Config
from applications.policies import AbstractPolicy
from wsl import infer_weight_space
from wsl.encoders import Probing
from wsl.generators import (
    AbstractGenerator,
    ChunkedHyperNetwork,
    LatentGenerator,
    MLPHyperNetwork,
    SliceHyperNetwork,
)


# Contexts over which generators are calibrated.
_CALIBRATION_CONTEXTS = 256
_ROOT_3 = math.sqrt(3)


def make_generator(
    config: Config,
    task: AbstractEnvironment,
    draw_policy: Callable[[PRNGKeyArray], AbstractPolicy],
    commands: Commands,
    *,
    key: PRNGKeyArray,
) -> AbstractGenerator:
    """Draws a generator, whose contexts are what `context_of` makes of commands.

    Args:
        config: The settings.
        task: What the policies act in.
        draw_policy: Their own initialiser.
        commands: What can be commanded.
        key: Source of randomness.

    Returns:
        The generator.
    """
    own_key, context_key, latent_key = jr.split(key, 3)
    # The generator standardises what it is calibrated on.
    low, high = jnp.asarray(commands.low), jnp.asarray(commands.high)
    if config.command_scale == "seen":
        # As much above and below the mean as the ends of the range are at first.
        low, high = -jnp.ones_like(low), jnp.ones_like(high)
    elif config.command_scale == "quantile":
        low, high = jnp.full_like(low, -_ROOT_3), jnp.full_like(high, _ROOT_3)
    # A grid on the diagonal would hide that numbers of a command vary by themselves.
    part = jr.uniform(context_key, (_CALIBRATION_CONTEXTS, commands.size))
    contexts = low[None] + part * (high - low)[None]
    if config.generator == "latent":
        contexts = jnp.concatenate(
            [
                contexts,
                jr.normal(latent_key, (_CALIBRATION_CONTEXTS, config.latent_size)),
            ],
            axis=1,
        )
    shared: dict[str, Any] = {
        "width": config.generator_width,
        "depth": config.generator_depth,
        "contexts": contexts,
        "key": own_key,
    }
    size = contexts.shape[1]
    if config.generator == "mlp":
        return MLPHyperNetwork(draw_policy, size, **shared)
    if config.generator == "chunked":
        return ChunkedHyperNetwork(
            draw_policy, size, embedding_size=config.embedding_size, **shared
        )
    space = infer_weight_space(draw_policy(jr.key(0)), jnp.zeros(task.observation_size))
    slices = SliceHyperNetwork(
        draw_policy,
        size,
        slice_size=config.slice_size,
        embedding_size=config.embedding_size,
        space=space,
        **shared,
    )
    if config.generator == "slice":
        return slices
    probing_key, head_key = jr.split(latent_key)
    encoder = Probing(
        task.observation_size, task.action_space.output_size, 16, key=probing_key
    )
    return LatentGenerator(encoder, slices, config.latent_size, key=head_key)


def context_of(
    config: Config,
    commands: Commands,
    seen: OutcomeStatistics,
    command: Float[Array, " outcomes"],
) -> Float[Array, " outcomes"]:
    """What the generator is given for a command.

    Args:
        config: The settings.
        commands: What can be commanded.
        seen: What was done so far.
        command: What is to be done.

    Returns:
        The command; for the scale `seen` with the mean outcome taken off, in units of
        the outcomes' deviation, and in proportion to the range while there are none.
        For `quantile` the share of the archive's outcomes below it, stretched to ±√3,
        so that what policies do is spread evenly; beyond all of them it goes on in
        units of the outcomes' deviation.
    """
    if config.command_scale == "range":
        return command
    low, high = jnp.asarray(commands.low), jnp.asarray(commands.high)
    mean = jnp.where(seen.begun, seen.moments.mean, (low + high) / 2)
    deviation = jnp.where(seen.begun, seen.moments.std, (high - low) / 2)
    if config.command_scale == "seen":
        return (command - mean) / deviation
    levels = jnp.linspace(-_ROOT_3, _ROOT_3, len(seen.quantiles))
    rank = jax.vmap(lambda number, known: jnp.interp(number, known, levels))
    least, largest = seen.quantiles[0], seen.quantiles[-1]
    outside = command - jnp.clip(command, least, largest)
    return rank(command, seen.quantiles.T) + outside / deviation
