"""One sweep of messages from inputs to outputs, as signals run through the network."""

from collections.abc import Callable, Mapping, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import check_positive
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant, split, uniform
from wsl.nn._graph._parameter_graph import Incidence
from wsl.nn._graph._scale_mlp import ScaleEquivariantMLP
from wsl.nn._graph._scale_symmetry import (
    is_scaled,
    is_signed,
    ScaleKind,
    ScaleSymmetry,
)


@final
class ForwardSweep(eqx.Module):
    r"""Sends states through a network as the network sends its signals.

    Every unit has a state of several channels. Those of the inputs are learned; along
    an edge they are mixed and multiplied by the weight, at a unit the messages and the
    bias times a learned vector are summed up, and a map follows that commutes with the
    multipliers of the unit:

    \[ m_i = \sum_j W_{ij} \, A x_j + b_i v, \qquad x_i = \phi(m_i) \]

    with \(A\) and \(v\) for each leaf (where several weights lie on an edge, one for
    each of them). \(\phi\) is a given activation, or learned: a
    [`ScaleEquivariantMLP`][wsl.nn.ScaleEquivariantMLP] for each set of units, of a
    bounded state where only signs may change. Each leaf is used once, so that the
    cost of a sweep grows as that of running the network on `channels` inputs.

    At the start \(A\) is the identity, \(v\) is 1 and the states of the inputs are
    uniform between -1 and 1 (where inputs have no name, as a single one does, the
    \(v\) of their leaf). With the network's own activation the sweep then *is* the
    network at `channels` learned inputs, as in probing; learning mixes the channels.
    With any other the states mean nothing to the network.

    Leaves are used in the order in which the space holds them, or as `order` says.
    Where a state is passed on before all has arrived, as by residual connections and
    recurrent weights, what has arrived by then is.

    Source: the forward variant of Kalogeropoulos et al. 2024 (ScaleGMN) in one sweep
    with states shared by all units of a set; Faccio et al. 2022 for the start.

    Attributes:
        symmetry: The symmetry of the networks, and with it their space.
        order: Paths of the leaves with two ends, in the order of their use.
        in_channels: Channels of each leaf.
        embeddings: States of the units that no edge leads to, by the label of their
            set: one for each index of a fixed name, else a shared one.
        mixing: For each leaf that states pass, by its path, `A`: `(width * in_channels,
            channels, channels)`.
        vectors: For each other leaf, by its path, `v`: `(width * in_channels,
            channels)`.
        maps: For each set of units that passes its states on, `phi`; empty if an
            activation is given.
        activation: The activation, or None.
    """

    symmetry: ScaleSymmetry = eqx.field(static=True)
    order: tuple[str, ...] = eqx.field(static=True)
    in_channels: tuple[int, ...] = eqx.field(static=True)
    embeddings: dict[str, Float[Array, "_ channels"]]
    mixing: dict[str, Float[Array, "_width channels channels"]]
    vectors: dict[str, Float[Array, "_width channels"]]
    maps: dict[str, ScaleEquivariantMLP]
    activation: Callable[[Array], Array] | None = eqx.field(static=True)

    def __init__(
        self,
        symmetry: ScaleSymmetry,
        in_channels: int | Mapping[str, int],
        channels: int,
        *,
        activation: Callable[[Array], Array] | None = None,
        order: Sequence[str] | None = None,
        key: PRNGKeyArray,
    ):
        """Draws the coefficients.

        Args:
            symmetry: The symmetry, and with it the space.
            in_channels: Channels of all leaves, or of each by its path.
            channels: Channels of all states.
            activation: Of the units' states: odd where signs may change, positively
                homogeneous where units may be scaled. By default it is learned.
            order: Paths of the leaves between two sets, in the order of the signal;
                by default that of the space.
            key: Source of randomness.

        Raises:
            ValueError: If a number of channels does not fit, the activation does not
                commute with the multipliers, `order` is not an order of these leaves,
                or states would be passed on before any have arrived.
        """
        check_positive(channels=channels)
        graph, space = symmetry.graph, symmetry.space
        edges = {one.path: one for one in graph.edges}
        order = tuple(edges if order is None else order)
        if sorted(order) != sorted(edges):
            raise ValueError(
                f"`order` must hold each of these paths once: {list(edges)}; got "
                f"{list(order)}."
            )
        given = {one.ends[0] for one in graph.incidences if _is_input(one)}
        targets = given | {one.ends[0] for one in graph.edges}
        _check_order([edges[path] for path in order], targets, given)
        sources = {end for one in graph.incidences for end in _passed_on(one)}
        kinds: dict[str, ScaleKind] = {
            label: symmetry.kind(label) for label in sorted(sources)
        }
        if activation is not None:
            signed = [label for label in kinds if is_signed(kinds[label])]
            scaled = [label for label in kinds if is_scaled(kinds[label])]
            _check_activation(activation, signed, scaled)

        self.symmetry = symmetry
        self.order = order
        self.in_channels = per_leaf(space, in_channels)
        embedding_key, vector_key, map_key = split(key, 3)
        self.embeddings = {
            one.label: uniform(
                k, (one.size if set(one.names) <= space.fixed else 1, channels)
            )
            for k, one in zip(
                split(embedding_key, len(graph.node_sets)),
                graph.node_sets,
                strict=True,
            )
            if one.label not in targets
        }
        widths = {
            one: one.width * count
            for one, count in zip(graph.incidences, self.in_channels, strict=True)
        }
        self.mixing = {
            one.path: constant(np.eye(channels), width, channels, channels)
            for one, width in widths.items()
            if _passed_on(one)
        }
        self.vectors = {
            one.path: uniform(k, (width, channels))
            if _is_input(one)
            else constant(1.0, width, channels)
            for k, (one, width) in zip(
                split(vector_key, len(widths)), widths.items(), strict=True
            )
            if not _passed_on(one)
        }
        self.maps = {
            label: ScaleEquivariantMLP(
                channels,
                channels,
                channels,
                kinds[label],
                key=k,
            )
            for k, label in zip(split(map_key, len(kinds)), kinds, strict=True)
            if label in targets and activation is None
        }
        self.activation = activation

    @property
    def outputs(self) -> dict[str, int]:
        """Where the sweep ends, and how many states there are."""
        graph = self.symmetry.graph
        sources = {end for one in graph.incidences for end in _passed_on(one)}
        sets = {
            one.label: one.size for one in graph.node_sets if one.label not in sources
        }
        nameless = self._nameless()
        return sets | {self._place(path): width for path, width in nameless.items()}

    def __call__(
        self, features: PyTree, *, key: PRNGKeyArray | None = None
    ) -> dict[str, Float[Array, "_ channels"]]:
        """Sweeps.

        Args:
            features: Weight features, which rescale as the weights do.
            key: Not used.

        Returns:
            What arrives where the sweep ends. By its label, for each set of units that
            passes nothing on, `(size, channels)`, before any activation. By its path,
            for a leaf whose results have no name, `(width * in_channels, channels)`,
            to which other such leaves are added if they have as many results (a last
            weight and its bias).

        Raises:
            ValueError: If the features do not fit the space or the channels.
        """
        incidences = {one.path: one for one in self.symmetry.graph.incidences}
        leaves = self.symmetry.space.cut_features(features, self.in_channels)
        weights = {
            path: one.fold(leaf)
            for (path, one), leaf in zip(incidences.items(), leaves, strict=True)
        }
        received: dict[str, Array] = {}

        def receive(place: str, message: Array) -> None:
            already = received.get(place)
            received[place] = message if already is None else already + message

        for path, vector in self.vectors.items():
            weight = weights[path].astype(vector.dtype)
            if incidences[path].ends:
                receive(incidences[path].ends[0], weight @ vector)
            else:
                receive(self._place(path), weight[:, None] * vector)
        nameless = [path for path in self.mixing if path not in self.order]
        for path in (*self.order, *nameless):
            (source,) = _passed_on(incidences[path])
            states, mixing = self._pass_on(source, received), self.mixing[path]
            weight = weights[path].astype(mixing.dtype)
            if path in self.order:
                message = jnp.einsum("tsw,sd,wdc->tc", weight, states, mixing)
                receive(incidences[path].ends[0], message)
            else:
                message = jnp.einsum("sw,sd,wdc->wc", weight, states, mixing)
                receive(self._place(path), message)
        return {place: self._state(place, received) for place in self.outputs}

    def _place(self, path: str) -> str:
        """Where results without a name are summed up: at the first such leaf."""
        widths = self._nameless()
        return next(first for first in widths if widths[first] == widths[path])

    def _nameless(self) -> dict[str, int]:
        """How many results the leaves have that end in no set of units, by path."""
        incidences = self.symmetry.graph.incidences
        return {
            one.path: one.width * count
            for one, count in zip(incidences, self.in_channels, strict=True)
            if len(one.ends) < 2 and not one.target
        }

    def _state(self, place: str, received: Mapping[str, Array]) -> Array:
        """What has arrived somewhere, or was there from the start."""
        if place not in self.embeddings:
            return received[place]
        (one,) = (x for x in self.symmetry.graph.node_sets if x.label == place)
        states = self.embeddings[place]
        states = jnp.broadcast_to(states, (one.size, states.shape[1]))
        return states + received[place] if place in received else states

    def _pass_on(self, label: str, received: Mapping[str, Array]) -> Array:
        """What the units of a set send along their edges."""
        x = self._state(label, received)
        if label in self.embeddings:
            return x
        if self.activation is not None:
            return self.activation(x)
        if not is_scaled(self.symmetry.kind(label)):
            x = x * jax.lax.rsqrt(1 + jnp.mean(jnp.square(x), axis=-1, keepdims=True))
        return self.maps[label](x)


def _passed_on(incidence: Incidence) -> tuple[str, ...]:
    """The set whose states pass a leaf, if there is one."""
    if len(incidence.ends) == 2:
        return incidence.ends[1:]
    return () if incidence.target else incidence.ends


def _is_input(incidence: Incidence) -> bool:
    """Whether a leaf leads from inputs without a name to a set of units."""
    return len(incidence.ends) == 1 and incidence.target and len(incidence.shape) > 1


def _check_order(
    edges: Sequence[Incidence], targets: set[str], given: set[str]
) -> None:
    reached = set(given)
    for one in edges:
        target, source = one.ends
        if source in targets and source not in reached:
            raise ValueError(
                f"Leaf {one.path!r} passes on the states of {source!r} before any have "
                "arrived there. Give the leaves in the order of the signal by `order`; "
                f"now: {[one.path for one in edges]}."
            )
        reached.add(target)


def _check_activation(
    activation: Callable[[Array], Array], signed: list[str], scaled: list[str]
) -> None:
    with jax.ensure_compile_time_eval():
        x = jnp.array([0.3, 1.1, 2.7])
        results = activation(x), activation(-x), activation(2 * x), activation(-2 * x)
        up, down, up_twice, down_twice = results
        odd = bool(jnp.allclose(up, -down, rtol=1e-4, atol=1e-5))
        homogeneous = bool(
            jnp.allclose(2 * up, up_twice, rtol=1e-4, atol=1e-5)
            & jnp.allclose(2 * down, down_twice, rtol=1e-4, atol=1e-5)
        )
    for labels, holds, wanted in (
        (signed, odd, "odd: units may change sign"),
        (scaled, homogeneous, "positively homogeneous: units may be scaled"),
    ):
        if labels and not holds:
            raise ValueError(f"The activation of {labels} must be {wanted}.")
