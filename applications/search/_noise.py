from typing import Literal, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.rollout import Episode


NoiseLaw: TypeAlias = Literal["uniform", "gaussian"]
NoiseShape: TypeAlias = Literal["common", "weight", "array"]

# Of the largest unit that an array or policy has, what the least may be: a weight of 0
# is perturbed too.
_LEAST_UNIT = 0.1
# Standard deviation of unscaled perturbations.
_DEVIATIONS = {"gaussian": 1.0, "uniform": 3**-0.5}
# Of the one-fifth rule (Rechenberg, 1973): the share of successes at which a scale
# stays. How fast it is adapted and within which factors is ours.
_SUCCESS_SHARE, _ADAPTATION_RATE, _FACTOR_BOUNDS = 0.2, 0.2, (0.1, 10.0)

Policy = TypeVar("Policy", bound=eqx.Module)


def draw_noise(
    law: NoiseLaw,
    count: int,
    size: int,
    *,
    antithetic: bool = False,
    key: PRNGKeyArray,
) -> Float[Array, "count size"]:
    """Draws unscaled perturbations of policies.

    Args:
        law: Uniform on [-1, 1] or standard normal.
        count: Number of policies.
        size: Number of weights of each.
        antithetic: Whether rows come in pairs, of which the second is minus the first.
        key: Source of randomness. Row i depends on it and on i alone, so that no device
            has to draw another one's noise.

    Returns:
        One perturbation a row.
    """

    def draw(index):
        if antithetic:
            return (1 - 2 * (index % 2)).astype(jnp.float32) * draw_one(index // 2)
        return draw_one(index)

    def draw_one(index):
        own_key = jr.fold_in(key, index)
        if law == "uniform":
            return jr.uniform(own_key, (size,), minval=-1.0, maxval=1.0)
        return jr.normal(own_key, (size,))

    return jax.vmap(draw)(jnp.arange(count))


def noise_deviation(law: NoiseLaw) -> float:
    """Standard deviation of what `draw_noise` draws."""
    return _DEVIATIONS[law]


def noise_units(policy: Policy, shape: NoiseShape) -> Policy:
    """In what units weights are perturbed.

    Args:
        policy: The policy that is perturbed.
        shape: The same for all weights; each weight's magnitude; or the root mean
            square of the weights of each array.

    Returns:
        A unit for each weight, in the place of it, with mean square 1 over all weights.
        None is much smaller than the largest, so that weights of 0 move too.
    """
    arrays, rest = eqx.partition(policy, eqx.is_inexact_array)
    match shape:
        case "common":
            units = jax.tree.map(jnp.ones_like, arrays)
        case "weight":
            units = jax.tree.map(jnp.abs, arrays)
        case "array":
            size = lambda leaf: jnp.sqrt(jnp.mean(jnp.square(leaf)))
            units = jax.tree.map(lambda leaf: jnp.full_like(leaf, size(leaf)), arrays)
    flat, unravel = jax.flatten_util.ravel_pytree(units)
    largest = jnp.max(flat)
    flat = jnp.maximum(flat, _LEAST_UNIT * largest)
    flat = jnp.where(largest > 0, flat, jnp.ones_like(flat))
    flat = flat / jnp.sqrt(jnp.mean(jnp.square(flat)))
    return eqx.combine(unravel(flat), rest)


def adapt_noise_factor(
    factor: Float[Array, ""], candidates: Episode, evaluation: Episode
) -> Float[Array, ""]:
    """Widens perturbations while more than a fifth of them succeed, or narrows them.

    Source: the one-fifth success rule of Rechenberg (1973).

    Args:
        factor: By what the scale of the perturbations was multiplied.
        candidates: Episodes of perturbed policies.
        evaluation: Episodes of the policy that they perturb; a perturbation succeeds if
            its return is larger than the mean of these.

    Returns:
        The next factor. It stays where all returns are alike: from those nothing is to
        be learned of the width.
    """
    own = jnp.mean(evaluation.total_reward, where=evaluation.valid)
    better = jnp.mean(candidates.total_reward > own, where=candidates.valid)
    returns = jnp.where(candidates.valid, candidates.total_reward, own)
    known = jnp.isfinite(better) & (jnp.ptp(returns) > 0)
    change = jnp.where(known, _ADAPTATION_RATE * (better - _SUCCESS_SHARE), 0.0)
    return jnp.clip(factor * jnp.exp(change), *_FACTOR_BOUNDS)
