"""What policies do of what is commanded: the curve, and how good it is."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.stats import spearmanr

from applications.gogepo._conditions import AbstractCondition
from applications.gogepo._outcomes import OutcomeStatistics, PolicyRecord
from applications.gogepo.algorithm import GoGePo, Model
from applications.rollout import compile_rollout
from applications.stores import Archive


# Standard normal observations on which policies are compared, if the evaluator shows
# them none.
_COMPARISON_STATES = 32
# Latents by which policies for one command are told apart.
_LATENT_DRAWS = 16


def commands_between(
    outcomes: OutcomeStatistics,
    count: int,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Float[Array, "commands outcomes"]:
    """Commands at equal distances; further numbers are in proportion to the first.

    Args:
        outcomes: What was done.
        count: How many.
        low: First number of the first command; the least outcome unless given.
        high: First number of the last one; the best outcome unless given.

    Returns:
        The commands.
    """
    least, best = outcomes.least, outcomes.best
    start = least if low is None else jnp.asarray(low)
    end = best[0] if high is None else jnp.asarray(high)
    first = start + jnp.linspace(0.0, 1.0, count) * (end - start)
    span = best[0] - least
    share = jnp.where(span > 0, (first - least) / jnp.where(span > 0, span, 1.0), 1.0)
    rest = share[:, None] * best[None, 1:]
    return jnp.concatenate([first[:, None], rest], axis=1)


def under_conditions(
    condition: AbstractCondition, commands: Float[Array, "commands 2"], count: int
) -> Float[Array, "all 2"]:
    """The same returns under several conditions, from end to end of their range.

    Args:
        condition: What is given beside the return.
        commands: Returns, under any condition.
        count: How many conditions.

    Returns:
        All returns under the first condition, then under the second, and so on.
    """
    numbers = jnp.repeat(condition.evenly(count), len(commands))
    return jnp.stack([jnp.tile(commands[:, 0], count), numbers], axis=1)


def compile_curve(
    algorithm: GoGePo,
    commands: Float[Array, "commands outcomes"],
    *,
    episodes: int,
    told: float | None = None,
    key: PRNGKeyArray,
) -> Callable[[Model], dict[str, Any]]:
    """Prepares rollouts of policies for commands.

    Args:
        algorithm: What writes them.
        commands: What they are to do.
        episodes: Episodes for each command.
        told: The number of the condition that the generator is told in place of all
            commands' own; the policies act under their own.
        key: Source of start states and latents, the same for all models.

    Returns:
        From a model to a curve: by command what is done and what is expected, and how
        well both agree. With latents also their share of the variance of what policies
        answer: 0 if all for one command are alike, 1 if the command makes no
        difference. Under conditions also what each of them comes to.
    """
    given = np.asarray(commands)
    condition = algorithm.commands.condition
    has_latents = algorithm.config.generator == "latent"

    @eqx.filter_jit
    def write(model):
        asked = commands if told is None else commands.at[:, -1].set(told)
        weights = algorithm.generate(model, asked, key=key)
        if told is not None:
            weights = algorithm.under(weights, commands)
        expected = algorithm.predict(model, weights)
        return algorithm.fold_normalisation(weights, model.observations), expected

    @eqx.filter_jit
    def latent_share(model):
        def draw(key):
            weights = algorithm.generate(model, commands, key=key)
            return answers_of(algorithm, model, weights)

        answers = jax.lax.map(draw, jr.split(key, _LATENT_DRAWS))
        return answers.var(axis=0).mean() / answers.var(axis=(0, 1)).mean()

    run = compile_rollout(algorithm.task, algorithm.view.to_policy, episodes=episodes)

    def curve_of(model):
        acting, expected = write(model)
        tried = run(acting, key=key)
        outcomes = np.asarray(algorithm.commands.measure(tried))
        # Broken episodes do not count, unless there is nothing else.
        sound = np.asarray(tried.valid)
        counted = (sound | ~sound.any(axis=1, keepdims=True))[..., None]
        if condition is not None:
            numbers = np.broadcast_to(given[:, None, -1:], (*outcomes.shape[:2], 1))
            outcomes = np.concatenate([outcomes, numbers], axis=2)
        achieved = outcomes.mean(axis=1, where=counted)
        of_each = {}
        if condition is not None:
            at = {number: given[:, 1] == number for number in np.unique(given[:, 1])}
            of_each["conditions"] = [
                {"number": float(n)} | _figures(given[mask, 0], achieved[mask, 0])
                for n, mask in at.items()
            ]
        return {
            "commanded": given.tolist(),
            "achieved": achieved.tolist(),
            "achieved_std": outcomes.std(axis=1, where=counted).tolist(),
            "predicted": np.asarray(expected).tolist(),
            **_figures(given[:, 0], achieved[:, 0]),
            **of_each,
            **({"latent_share": latent_share(model).item()} if has_latents else {}),
        }

    return curve_of


def _figures(
    given: Float[np.ndarray, " commands"], achieved: Float[np.ndarray, " commands"]
) -> dict[str, float | None]:
    """How well what was achieved agrees with what was commanded."""
    error, span = float(np.abs(given - achieved).mean()), float(np.ptp(given))
    return {
        "rank_correlation": rank_correlation(given, achieved),
        "mean_error": error,
        "relative_error": error / span if span else None,
        "best_achieved": float(achieved.max()),
    }


def archive_error(
    commands: Float[Array, "commands outcomes"],
    archive: Archive[PolicyRecord],
    condition: AbstractCondition | None = None,
) -> float:
    """What picking policies from the archive would be off by.

    For each command the policy with the nearest first number is taken at its word: at
    what came of its own episodes, noise and luck in them.

    Args:
        commands: What is commanded.
        archive: What was done.
        condition: What is given beside it, if anything is: then policies of the same
            part of its range are to choose from.

    Returns:
        The mean distance, in the units of commands; infinite for an empty archive.
    """
    there = archive.filled & archive.entries.valid
    done = jnp.where(there, archive.entries.outcome[:, 0], jnp.inf)
    away = jnp.abs(commands[:, :1] - done[None])
    if condition is not None:
        parts = condition.part(archive.entries.outcome[:, -1])
        near = condition.part(commands[:, -1:]) == parts[None]
        away = jnp.where(near, away, jnp.inf)
    away = jnp.min(away, axis=1)
    return float(jnp.mean(away))


def rank_correlation(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
) -> float | None:
    """Spearman's; None where one of them does not vary."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result: Any = spearmanr(x, y)
    return float(result.statistic)


def answers_of(
    algorithm: GoGePo, model: Model, population: Float[Array, "policies weights"]
) -> Float[Array, "policies answers"]:
    """What policies say to the evaluator's probing states.

    Args:
        algorithm: What wrote them.
        model: Has the evaluator.
        population: Their weights, for standardised observations.

    Returns:
        One row a policy; to random states where the evaluator has none.
    """
    shown = getattr(model.value.encoder, "probes", None)
    if shown is None:
        size = algorithm.task.observation_size
        shown = jr.normal(jr.key(0), (_COMPARISON_STATES, size))

    def of_policy(weights):
        return jax.vmap(algorithm.view.to_policy(weights))(shown).ravel()

    return jax.vmap(of_policy)(population)
