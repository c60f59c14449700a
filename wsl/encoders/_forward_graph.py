from collections.abc import Callable, Sequence
from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.encoders._encoder import AbstractEncoder
from wsl.encoders._inputs import count_channels, features_of
from wsl.nn import ForwardSweep, ScaleSymmetry
from wsl.nn._draw import linear, split


@final
class ForwardGraph(AbstractEncoder):
    """One sweep of messages in the direction of the network's own signals.

    [`ForwardSweep`][wsl.nn.ForwardSweep] sends learned states from the inputs to the
    outputs; what arrives there, through `arcsinh` and a linear map, is the vector.
    States of outputs without a fixed order are averaged.

    The cheapest of the graph encoders: it uses every weight once and keeps states of
    units only. Two networks get one vector if they differ by a permutation of hidden
    units or by what `symmetry` says may multiply them; with
    [`SinePhases`][wsl.nn.SinePhases] as `transform`, also by phases of sine units.

    It can be given the activation of the networks it reads. Then it starts out as
    probing at `channels` inputs, whose answers learning mixes layer by layer: better
    with few networks to learn from, but no evidence that weights as such were
    understood.

    Source: see [`ForwardSweep`][wsl.nn.ForwardSweep].

    Attributes:
        transform: What is done to the weights first.
        sweep: From weights to states of the outputs.
        readout: From these to the result.
        num_features: Length of the vector.
    """

    transform: Callable[[PyTree], PyTree] | None
    sweep: ForwardSweep
    readout: eqx.nn.Linear
    num_features: int = eqx.field(static=True)
    is_invariant: ClassVar[bool] = True

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        num_features: int,
        *,
        channels: int = 64,
        activation: Callable[[Array], Array] | None = None,
        order: Sequence[str] | None = None,
        transform: Callable[[PyTree], PyTree] | None = None,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry of the networks to encode.
            num_features: Length of the vector.
            channels: Channels of all states.
            activation: Of the states: odd where signs of units may change, positively
                homogeneous where units may be scaled. By default it is learned.
            order: Paths of the leaves between two sets, in the order of the signal;
                by default that of the space.
            transform: From weight features to weight features; it must commute with
                the symmetry.
            key: Source of randomness.

        Raises:
            ValueError: If a number is not positive, the outputs may be rescaled, the
                activation does not commute with the symmetry, `order` does not fit,
                or `transform` does not return features of the space.
        """
        check_positive(num_features=num_features)
        space = symmetry.space
        sweep_key, readout_key = split(key, 2)
        self.transform = transform
        self.sweep = ForwardSweep(
            symmetry,
            count_channels(space, transform),
            channels,
            activation=activation,
            order=order,
            key=sweep_key,
        )
        rescaled = [end for end in self.sweep.outputs if symmetry.kind(end) != "none"]
        if rescaled:
            raise ValueError(
                f"The sweep ends in {rescaled}, whose units `symmetry` rescales: then "
                "no linear map of their states is invariant."
            )
        moving = _moving(symmetry)
        num_states = sum(
            1 if place in moving else size for place, size in self.sweep.outputs.items()
        )
        self.readout = linear(num_states * channels, num_features, key=readout_key)
        self.num_features = num_features

    @property
    def num_reads(self) -> int:
        """How many numbers of a network it reads: all weights."""
        return self.sweep.symmetry.space.size

    def __call__(self, network: PyTree) -> Float[Array, " features"]:
        """Encodes one network.

        Args:
            network: A network of the symmetry's space, or only its weights.

        Returns:
            A vector, the same for networks that differ by a permutation or by
            multipliers of the symmetry.

        Raises:
            ValueError: If the network is not of the space.
        """
        symmetry = self.sweep.symmetry
        moving = _moving(symmetry)
        states = [
            jnp.mean(x, axis=0) if place in moving else x.ravel()
            for place, x in self.sweep(
                features_of(symmetry.space, self.transform, network)
            ).items()
        ]
        return self.readout(jnp.arcsinh(jnp.concatenate(states)))


def _moving(symmetry: ScaleSymmetry) -> set[str]:
    """Labels of the sets of units that a permutation may move."""
    return {
        one.label
        for one in symmetry.graph.node_sets
        if not set(one.names) <= symmetry.space.fixed
    }
