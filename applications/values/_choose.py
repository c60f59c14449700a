"""Choosing one of many given policies with few evaluations."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

import wsl
from applications.envs import AbstractEnvironment
from applications.values._inputs import (
    bounded_answer,
    observed_states,
    root_mean_square,
)
from applications.values._kernel import fit_kernel
from applications.values._targets import StandardTargets
from wsl.encoders import Flat


# Policies that an encoder reads at once.
_AT_ONCE = 128


class Chosen(NamedTuple):
    """What came of a choice.

    Attributes:
        best: Number of the policy of those tried for which V is highest.
        tried: Numbers of the policies that were evaluated, in order; some may be there
            several times.
        returns: What they returned.
    """

    best: int
    tried: Int[np.ndarray, " evaluations"]
    returns: Float[np.ndarray, " evaluations"]


def choose(
    points: Float[Array, "policies features"],
    evaluate: Callable[[Int[np.ndarray, " chosen"]], Any],
    *,
    tried: Int[np.ndarray, " begun"],
    returns: Float[np.ndarray, " begun"],
    evaluations: int,
    batch: int = 10,
    optimism: float = 2.0,
) -> Chosen:
    """Chooses one of many given policies, by V and few evaluations.

    In each round V(θ), a Gaussian process on what is known of the policies, is fitted
    to the returns so far, and those with the largest upper confidence bound, V +
    optimism x deviation, are evaluated. Policies that a round has chosen count as
    evaluated, with the return that V expects, so that it does not go on asking for
    their like; later rounds may evaluate one again.

    Sources: Srinivas et al. (2010), "Gaussian Process Optimization in the Bandit
    Setting", for the bound; Desautels, Krause and Burdick (2014), "Parallelizing
    Exploration-Exploitation Tradeoffs in Gaussian Process Bandit Optimization", for
    rounds of several. Their bounds grow with the number of policies; here the factor is
    the same throughout. V's scale and noise are those with the least leave-one-out
    error (`fit_kernel`).

    Args:
        points: A vector of each policy; of an encoder such as `ObservedStates`, with
            the states that the first evaluations have visited.
        evaluate: From numbers of policies to one return of each, by a new episode.
            Those that are not finite count as the worst so far.
        tried: Policies that have been evaluated before, one at least, such as a few
            drawn at random.
        returns: What they returned.
        evaluations: How many more there may be.
        batch: Evaluations of a round.
        optimism: How much of the deviation counts.

    Returns:
        Of the policies that were evaluated, the one with the highest V: its own return
        and those of its like count. And all evaluations.

    Raises:
        ValueError: If nothing was tried before, or a number is too small.
    """
    if not len(tried) or len(tried) != len(returns):
        raise ValueError(
            f"{len(tried)} policies and {len(returns)} returns to begin with; there "
            "must be equally many, and one at least."
        )
    if evaluations < 0 or not 1 <= batch <= len(points):
        raise ValueError(
            f"evaluations is {evaluations} and batch {batch}, of {len(points)} "
            "policies; they must be at least 0 and 1, and a batch has each policy once."
        )
    size, begun = len(tried) + evaluations, len(tried)
    numbers, found = np.zeros(size, np.int32), np.zeros(size, np.float32)
    numbers[:begun], found[:begun] = tried, returns
    known = begun
    while known < size:
        count = min(batch, size - known)
        fitted = _fit(points, numbers, _finite(found, known), known)
        for i in range(known, known + count):
            mean, deviation = _say(points, numbers, fitted, i)
            bound = np.array(mean + optimism * deviation)
            bound[numbers[known:i]] = -np.inf
            numbers[i] = np.argmax(bound)
            # Believed until the round is over: it leaves the mean as it is.
            fitted = fitted._replace(targets=fitted.targets.at[i].set(mean[numbers[i]]))
        found[known : known + count] = evaluate(numbers[known : known + count])
        known += count
    fitted = _fit(points, numbers, _finite(found, known), known)
    mean, _ = _say(points, numbers, fitted, known)
    best = numbers[np.argmax(np.asarray(mean)[numbers])]
    return Chosen(int(best), numbers, found)


def answers(
    task: AbstractEnvironment,
    make_policy: Callable[[Any], Any],
    population: PyTree[Array],
    states: Float[Array, "states observation"],
) -> Float[Array, "policies features"]:
    """What each policy of a population answers in the same states.

    Args:
        task: What they act in.
        make_policy: From weights to a policy, for instance `FlatView.to_policy`.
        population: The weights, one policy a row.
        states: Observations, such as those that the first evaluations have visited.

    Returns:
        A vector of each policy, for `choose`.
    """
    encoder = observed_states(task, len(states), bounded_answer(task))
    encoder = eqx.tree_at(lambda encoder: encoder.probing.probes, encoder, states)
    read = lambda weights: encoder(make_policy(weights))
    return eqx.filter_jit(
        lambda population: jax.lax.map(read, population, batch_size=_AT_ONCE)
    )(population)


class _Fitted(NamedTuple):
    """Targets of the evaluations, and the kernel's length and noise."""

    targets: Float[Array, " evaluations"]
    length: Float[Array, ""]
    noise: Float[Array, ""]


def _finite(returns: np.ndarray, known: int) -> np.ndarray:
    there = np.isfinite(returns[:known])
    worst = returns[:known][there].min() if there.any() else 0.0
    return np.where(np.isfinite(returns), returns, worst).astype(np.float32)


@jax.jit
def _fit(points: Any, numbers: Any, returns: Any, known: Any) -> _Fitted:
    there = jnp.arange(len(numbers)) < known
    targets = StandardTargets(returns, there)(returns)
    middle = jnp.mean(points, axis=0)
    spread = root_mean_square(points - middle[None])
    spread = spread * jnp.sqrt(jnp.asarray(float(points.shape[1])))
    value, _ = fit_kernel(
        _encoder(points),
        points[numbers],
        targets,
        there,
        spread,
        scale=None,
        noise=None,
    )
    return _Fitted(targets, value.length, value.noise)


@jax.jit
def _say(points: Any, numbers: Any, fitted: _Fitted, known: Any) -> tuple[Array, Array]:
    """Mean and deviation of V at all policies."""
    value, _ = fit_kernel(
        _encoder(points),
        points[numbers],
        fitted.targets,
        jnp.arange(len(numbers)) < known,
        fitted.length,
        scale=1.0,
        noise=fitted.noise,
    )
    return value.of_vectors(points)


def _encoder(points: Any) -> Flat:
    """Takes vectors as they are."""
    return Flat(wsl.WeightSpace.from_spec(jnp.zeros(points.shape[1])))
