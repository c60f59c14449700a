"""What is known of the policies that a critic is to tell apart, from an archive."""

from collections.abc import Callable
from typing import Any, final, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from applications.policies import (
    AbstractPolicy,
    FlatView,
    RunningStatistics,
    standardise,
    unstandardised,
)
from applications.stores import Archive, Record, StatePool
from applications.values._fit import MakePolicy
from applications.values._inputs import (
    ObservedStates,
    root_mean_square,
    ScaledFeatures,
    ScaledWeights,
)
from wsl.encoders import Concatenated


Tree = TypeVar("Tree")

# Fresh policies by which the spread of perturbations is measured, at most.
_MEASURED = 256


@final
class Surroundings(eqx.Module):
    """What is known, when V is fitted, of the policies that it is to tell apart.

    Attributes:
        centre: The policy that others are compared with.
        noise_scale: Standard deviation of the perturbations of each weight.
        fresh: Policies that were tried last, stacked leaf by leaf.
        states: Observations that policies acted on, one a row, or None.
        weight_mean: Mean weights in the archive, as a policy; None where no encoder
            asks for them.
        weight_std: Standard deviation of each weight in the archive, likewise.
        known: Policies of the archive, stacked, or None.
    """

    centre: PyTree
    noise_scale: Float[Array, ""]
    fresh: PyTree
    states: Float[Array, "states observation"] | None
    weight_mean: PyTree = None
    weight_std: PyTree = None
    known: PyTree = None

    @classmethod
    def of_archive(
        cls,
        archive: Archive[Record],
        make_policy: MakePolicy,
        view: FlatView[Any],
        policies: Float[Array, "policies weights"],
        *,
        noise_scale: Float[Array, ""],
        states: Float[Array, "states observation"] | None,
        by_archive: bool,
    ) -> "Surroundings":
        """Finds them.

        Args:
            archive: Policies that were tried, the last batch being the fresh ones.
            make_policy: From the weights of an entry to the policy that V is shown.
            view: From vectors of weights to policies and back.
            policies: What was perturbed; the mean of several is the centre.
            noise_scale: Standard deviation of the perturbations of each weight.
            states: Observations that policies acted on.
            by_archive: Whether mean and deviation of the archive are asked for.

        Returns:
            What is known.
        """
        newest = (archive.added - archive.batch) % archive.capacity
        # The first of a batch: perturbations in pairs stay together.
        count = min(archive.batch, _MEASURED)
        fresh = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, newest, count),
            archive.entries.weights,
        )
        mean = std = known = None
        if by_archive:
            to_vector = lambda weights: view.to_vector(make_policy(weights))
            weights = jax.vmap(to_vector)(archive.entries.weights)
            there = archive.filled[:, None]
            average = jnp.mean(weights, axis=0, where=there)
            spread = jnp.std(weights, axis=0, where=there)
            mean = view.to_policy(average)
            std = view.to_policy(jnp.where(spread > 0, spread, 1.0))
            known = jax.vmap(view.to_policy)(jnp.where(there, weights, average[None]))
        return cls(
            centre=view.to_policy(jnp.mean(policies, axis=0)),
            noise_scale=noise_scale,
            weight_mean=mean,
            weight_std=std,
            fresh=jax.vmap(make_policy)(fresh),
            known=known,
            states=states,
        )


def shown_by(
    to_policy: Callable[[Any], AbstractPolicy], observations: RunningStatistics | None
) -> MakePolicy:
    """From weights of an archive's entries to the policies that V is shown.

    Entries stay the policies that they were, by whatever statistics observations are
    standardised now.

    Args:
        to_policy: From an entry's weights to its policy, as it acted on observations as
            they are.
        observations: Statistics by which observations are standardised now; None where
            they are not.

    Returns:
        The same, to policies for observations that are standardised so.
    """
    if observations is None:
        return to_policy
    return lambda weights: unstandardised(to_policy(weights), observations)


def draw_states(
    pool: StatePool,
    count: int,
    observations: RunningStatistics | None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "count observation"]:
    """Draws observations, as the policies are shown them that V is shown.

    Args:
        pool: Observations as they are.
        count: How many.
        observations: Statistics by which they are standardised; None where they are
            not.
        key: Source of randomness.

    Returns:
        The observations.
    """
    states = pool.sample(count, key=key)
    return states if observations is None else standardise(states, observations)


def surrounded(encoder: Tree, surroundings: Surroundings) -> Tree:
    """Puts the present states, centres and scales into an encoder.

    Args:
        encoder: Any encoder; those that hold none of these stay as they are.
        surroundings: What is known now.

    Returns:
        The encoder.
    """
    found: Any = encoder
    match encoder:
        case Concatenated():
            parts = [surrounded(part, surroundings) for part in encoder.encoders]
            found = Concatenated(*parts)
        case ObservedStates():
            where = lambda answers: answers.probing.probes
            found = eqx.tree_at(where, encoder, surroundings.states)
        case ScaledWeights():
            centre, scale = surroundings.weight_mean, surroundings.weight_std
            if encoder.kind == "noise":
                centre = surroundings.centre
                ones = lambda leaf: jnp.full_like(leaf, surroundings.noise_scale)
                arrays, rest = eqx.partition(centre, eqx.is_array)
                scale = eqx.combine(jax.tree.map(ones, arrays), rest)
            inner = surrounded(encoder.encoder, surroundings)
            found = ScaledWeights(inner, encoder.kind, centre, scale)
        case ScaledFeatures():
            inner = surrounded(encoder.encoder, surroundings)
            if encoder.kind == "noise":
                centre = inner(surroundings.centre)
                others = surroundings.fresh
            else:
                others = surroundings.known
                centre = jnp.mean(eqx.filter_vmap(inner)(others), axis=0)
            spread = root_mean_square(eqx.filter_vmap(inner)(others) - centre[None])
            found = ScaledFeatures(inner, encoder.kind, centre, spread)
    return found
