import math
from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._graph._parameter_graph import Incidence, ParameterGraph


@final
class SinePhases(eqx.Module):
    r"""Gives every sine unit the phase nearest to 0, and its weights their frequency.

    A unit \(\sin(\omega (w x + b))\) computes the same up to its sign if its phase
    \(\omega b\) moves by \(m \pi\). This turns \(\omega b\) into its representative
    between \(-\pi/2\) and \(\pi/2\), multiplies the outgoing weights by \((-1)^m\), and
    writes \(\omega w\) in place of \(w\): what follows sees a network of plain sines,
    \(\sin(w' x + b')\), with the same function. Three of a sine unit's symmetries are
    left: its place, its sign, and, only where a phase is exactly \(\pm\pi/2\), the
    choice between the two.

    It works on weight features, channel by channel, and commutes with permutations and
    changes of sign of the units. As `transform` it makes encoders of sine networks
    invariant to shifted phases.

    Source: Kalogeropoulos et al. 2024 (ScaleGMN), who shift phases before training.

    Attributes:
        graph: The parameter graph of the networks.
        frequencies: Pairs of a group's name and the frequency of its units.
    """

    graph: ParameterGraph = eqx.field(static=True)
    frequencies: tuple[tuple[str, float], ...] = eqx.field(static=True)

    def __init__(self, space: WeightSpace, frequencies: Mapping[str, float]):
        """Makes the map.

        Args:
            space: Space of the networks' weights.
            frequencies: For each group of sine units, their frequency.

        Raises:
            ValueError: If a name is not a group of the space, a frequency is not
                positive, or a group does not have exactly one bias.
        """
        self.graph = ParameterGraph.from_space(space)
        for name, frequency in frequencies.items():
            if name not in space.groups:
                raise ValueError(
                    f"{name!r} is not a group of the space; groups: "
                    f"{list(space.groups)}."
                )
            if frequency <= 0:
                raise ValueError(
                    f"The frequency of {name!r} must be positive; got {frequency}."
                )
            biases = [one.path for one in self.graph.incidences if _is_bias(one, name)]
            if len(biases) != 1:
                raise ValueError(
                    f"A phase is read off a group's one bias; {name!r} has {biases}."
                )
        self.frequencies = tuple(frequencies.items())

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Shifts phases.

        Args:
            features: Weight features of the space.
            key: Not used.

        Returns:
            Features of the same shapes and dtypes.

        Raises:
            ValueError: If the features are not of the space.
        """
        leaves = self.graph.space.cut_features(features)
        incidences = self.graph.incidences
        folded = [one.fold(leaf) for one, leaf in zip(incidences, leaves, strict=True)]
        for name, frequency in self.frequencies:
            flips: Array | None = None
            for i, one in enumerate(incidences):
                if one.target and one.ends[:1] == (name,):
                    folded[i] = frequency * folded[i]
                if _is_bias(one, name):
                    turns = jnp.round(folded[i] / math.pi)
                    folded[i] = folded[i] - math.pi * turns
                    flips = 1 - 2 * jnp.mod(turns, 2)
            assert flips is not None
            for i, one in enumerate(incidences):
                if one.ends[1:] == (name,):
                    folded[i] = folded[i] * _per_weight(flips, folded[i])[None]
                elif one.ends == (name,) and not one.target:
                    folded[i] = folded[i] * _per_weight(flips, folded[i])
        return self.graph.space.join_features(
            [one.unfold(x) for one, x in zip(incidences, folded, strict=True)],
        )


def _is_bias(incidence: Incidence, name: str) -> bool:
    # Not the matrix that leads from inputs without a name to the same units.
    is_vector = len(incidence.shape) == 1
    return incidence.ends == (name,) and incidence.target and is_vector


def _per_weight(flips: Array, folded: Array) -> Array:
    """Signs by unit and channel, repeated for each of the weights on an edge."""
    return jnp.tile(flips, folded.shape[-1] // flips.shape[-1])
