"""Rescaling of neurons: the other symmetry that activations bring."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._graph._parameter_graph import Incidence, ParameterGraph


ScaleKind = Literal["none", "scale", "sign", "nonzero"]
"""Which multipliers a quantity may get: only 1, positive ones, 1 and -1, any but 0."""


def is_scaled(kind: ScaleKind) -> bool:
    """Whether absolute values of multipliers differ from 1."""
    return kind in ("scale", "nonzero")


def is_signed(kind: ScaleKind) -> bool:
    """Whether multipliers may be negative."""
    return kind in ("sign", "nonzero")


def join_kinds(*kinds: ScaleKind) -> ScaleKind:
    """The kind of a product, or a quotient, of multipliers."""
    scaled, signed = any(map(is_scaled, kinds)), any(map(is_signed, kinds))
    if scaled:
        return "nonzero" if signed else "scale"
    return "sign" if signed else "none"


@dataclasses.dataclass(frozen=True)
class ScaleSymmetry:
    """Which rescalings of its neurons leave a network's function alone.

    A neuron with activation `f` may be multiplied by `q` where `f(q z) = q f(z)`: its
    incoming weights and bias times `q`, its outgoing weights divided by it,

        W[l][i, :]     <- q_i W[l][i, :]
        b[l][i]        <- q_i b[l][i]
        W[l + 1][:, i] <- W[l + 1][:, i] / q_i

    For ReLU, leaky ReLU and other positively homogeneous activations `q` is any
    positive number (`"scale"`); for odd ones such as tanh and sine it is 1 or -1
    (`"sign"`); without an activation any number but 0 (`"nonzero"`); for all others,
    and where a norm or a softmax follows, only 1 (`"none"`).

    Which ends of a leaf are multiplied and which divided is read off the parameter
    graph: the first axis with a name is the target, the second the source. A leaf that
    names one set (a bias) is a target if that is its first axis, and a source if not,
    as the last matrix of a network whose outputs have no name. It is taken on trust
    that this is so in the network at hand: [`act`][wsl.nn.ScaleSymmetry.act] on its
    weights, and compare outputs.

    Source: Kalogeropoulos et al. 2024 (ScaleGMN); Godfrey et al. 2022.

    Attributes:
        graph: The parameter graph.
        kinds: Pairs of a group of the space and the kind of its multipliers, where that
            is not `"none"`.
    """

    graph: ParameterGraph
    kinds: tuple[tuple[str, ScaleKind], ...]

    @classmethod
    def from_space(
        cls,
        space: WeightSpace,
        kinds: ScaleKind | Mapping[str, ScaleKind],
        *,
        transposed: Collection[str] = (),
    ) -> "ScaleSymmetry":
        """States the symmetry of a network.

        Args:
            space: Space of the weights, of a multi-layer perceptron or alike: no leaf
                has more than two named axes, and no axis more than one name.
            kinds: The kind of all groups, or of each by its name; those left out are
                `"none"`, as fixed names always are.
            transposed: Paths of leaves whose first named axis is the source.

        Returns:
            The symmetry.

        Raises:
            ValueError: If a leaf has three named axes or more or an axis several names,
                if a kind is not known, or if `kinds` or `transposed` name what the
                space does not have.
        """
        graph = ParameterGraph.from_space(space, transposed=transposed)
        labels = {one.label: one for one in graph.node_sets}
        for incidence in graph.incidences:
            named = [name for end in incidence.ends for name in labels[end].names]
            if len(incidence.ends) > 2 or len(named) > len(incidence.ends):
                raise ValueError(
                    f"Leaf {incidence.path!r} has the names {named} on its axes. "
                    "Rescaling is defined for leaves that lie between two sets of "
                    "neurons: at most two named axes, with one name each."
                )
        if not isinstance(kinds, Mapping):
            kinds = dict.fromkeys(space.groups, kinds)
        unknown = [name for name in kinds if name not in space.groups]
        if unknown:
            raise ValueError(
                f"`kinds` names {unknown}, which are not groups of the space. Groups: "
                f"{list(space.groups)}."
            )
        for name, kind in kinds.items():
            if kind not in ("none", "scale", "sign", "nonzero"):
                raise ValueError(
                    f'The kind of {name!r} must be "none", "scale", "sign" or '
                    f'"nonzero"; got {kind!r}.'
                )
        moving = [name for name in space.groups if kinds.get(name, "none") != "none"]
        return cls(graph, tuple((name, kinds[name]) for name in moving))

    @property
    def space(self) -> WeightSpace:
        """Space of the weights."""
        return self.graph.space

    def kind(self, name: str) -> ScaleKind:
        """The kind of a node set's multipliers.

        Args:
            name: Name of a group or a fixed set.

        Returns:
            The kind.
        """
        return dict(self.kinds).get(name, "none")

    def sample(
        self, *, key: PRNGKeyArray, largest: float = 10.0
    ) -> dict[str, Float[Array, " _"]]:
        """Draws multipliers: signs uniformly, absolute values log-uniformly.

        Args:
            key: Source of randomness.
            largest: The greatest absolute value; the least is its reciprocal.

        Returns:
            For each group with multipliers, one for each neuron.
        """
        multipliers = {}
        for i, (name, kind) in enumerate(self.kinds):
            sign_key, scale_key = jr.split(jr.fold_in(key, i))
            q = jnp.ones(self.space.groups[name])
            if is_signed(kind):
                q = q * jr.rademacher(sign_key, q.shape, q.dtype)
            if is_scaled(kind):
                bound = math.log(largest)
                q = q * jnp.exp(jr.uniform(scale_key, q.shape, None, -bound, bound))
            multipliers[name] = q
        return multipliers

    def act(self, weights: PyTree, multipliers: Mapping[str, Array]) -> PyTree:
        """Rescales the neurons of a network.

        Args:
            weights: Weights of the space; a whole model is returned as a model.
            multipliers: For each group with multipliers, one for each neuron.

        Returns:
            The rescaled weights, of the same structure and dtypes.

        Raises:
            ValueError: If the weights are not of the space or multipliers are missing.
        """
        arrays = eqx.filter(weights, eqx.is_array)
        features = jax.tree.map(lambda leaf: leaf[..., None], arrays)
        features = self.act_on_features(features, multipliers)
        rescaled = jax.tree.map(lambda leaf: leaf[..., 0], features)
        return eqx.combine(rescaled, weights)

    def act_on_features(
        self, features: PyTree, multipliers: Mapping[str, Array]
    ) -> PyTree:
        """Rescales weight features, every channel as the weights are.

        Args:
            features: Weight features of the space.
            multipliers: For each group with multipliers, one for each neuron.

        Returns:
            The rescaled features, of the same shapes and dtypes.

        Raises:
            ValueError: If the features are not of the space or multipliers are missing.
        """
        missing = [name for name, _ in self.kinds if name not in multipliers]
        if missing:
            raise ValueError(f"There are no multipliers for {missing}.")
        rescaled = []
        leaves = self.space.cut_features(features)
        for leaf, incidence in zip(leaves, self.graph.incidences, strict=True):
            folded = incidence.fold(leaf)
            for axis, end in enumerate(incidence.ends):
                if self.kind(end) != "none":
                    q = multipliers[end].astype(leaf.dtype)
                    q = q if is_target(incidence, axis) else 1 / q
                    other = [d for d in range(folded.ndim) if d != axis]
                    folded = folded * jnp.expand_dims(q, other)
            rescaled.append(incidence.unfold(folded))
        return self.space.join_features(rescaled)


def is_target(incidence: Incidence, end: int) -> bool:
    """Whether the multipliers of an end multiply the leaf; else they divide it."""
    return incidence.target if end == 0 else False
