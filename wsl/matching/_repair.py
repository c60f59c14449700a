"""Units of a merged network brought back to the mean and deviation that they had."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wsl._infer import Activations
from wsl._space import check_space, WeightSpace
from wsl.matching._activations import recorded
from wsl.matching._problem import finite_arrays


Weights = TypeVar("Weights")
_SAME = 1e-3  # Of derivatives in single precision, relative to the largest.


def repair(
    space: WeightSpace,
    network: Weights,
    parents: Sequence[PyTree],
    *inputs: PyTree,
    fn: Any = None,
    shares: Sequence[float] | None = None,
) -> Weights:
    """Brings the hidden units of a merged network back to their parents' spread.

    In the mean of two networks, units answer less than in either: what differs between
    parents cancels, layer by layer (variance collapse). Each hidden unit's sum, before
    its activation, is scaled and shifted so that its mean and its deviation over the
    data are the means of those of its parents. This goes into the weights and the bias
    of the unit: the result is a network of the same form.

    Layers are found by their derivatives, wherever they are in the model: a bias on
    units of a group, an array that grows by one with it, and the one leaf that is
    linear in the rest of it: a matrix, a kernel, the scale of a norm. They are mended
    in the order in which they run, each on what the mended ones before it give. Layers
    without a bias stay as they are, and so do those within loops and those with
    several matrices. Networks with batch norms take
    [`reset_statistics`][wsl.matching.reset_statistics].

    Source: Jordan et al. 2023 (REPAIR), section 3, equation 3.

    Args:
        space: The space of all of them, as
            [`infer_weight_space`][wsl.infer_weight_space] finds it for the function and
            these inputs.
        network: The merged network: the mean of its parents, or a place between them.
        parents: The networks that it was made of, aligned.
        *inputs: Data: what the function takes beside its weights, a batch of it.
        fn: The function, with the weights as its first input; unless given, the models
            are called.
        shares: What each parent counts. Unless given, the shares of which the network
            is the mean, by least squares.

    Returns:
        The network with other weights and biases of its hidden units.

    Raises:
        ValueError: If the space is not that of the function, a weight is not finite,
            the shares do not fit the parents, or no layer is found.
    """
    check_space(space)
    parents = list(parents)
    arrays = finite_arrays(space, network, "network")
    before = [finite_arrays(space, x, f"parents[{i}]") for i, x in enumerate(parents)]
    counts = _shares(arrays, before, shares)
    seen = recorded(space, network, inputs, fn)
    pieces = space.cut(list(map(jnp.asarray, space.weight_leaves(network))))
    run = _Run(seen, [x.shape for x in seen.cut(space.weight_leaves(network))])
    layers = _find_layers(space, run, pieces)
    if not layers:
        raise ValueError(
            "There is no hidden layer to mend: none with a bias on units of a group, "
            f"and one leaf that it is linear in. The space:\n{space}"
        )
    spreads = []
    for parent in parents:
        answers = run(space.cut(list(map(jnp.asarray, space.weight_leaves(parent)))))
        spreads.append([_spread(layer, answers[layer.site]) for layer in layers])
    for i, layer in enumerate(layers):
        mean, deviation = _spread(layer, run(pieces)[layer.site])
        target = [
            sum(c * spread[i][part] for c, spread in zip(counts, spreads, strict=True))
            for part in (0, 1)
        ]
        silent = deviation <= 1e-6 * deviation.max(initial=0.0)
        scale = np.where(silent, 1.0, target[1] / np.where(silent, 1.0, deviation))
        bias, weight = pieces[layer.bias], pieces[layer.weight]
        shifted = (np.asarray(bias, float) - mean) * scale + target[0]
        shape = [-1 if d == layer.axis else 1 for d in range(weight.ndim)]
        scaled = np.asarray(weight, float) * scale.reshape(shape)
        pieces[layer.bias] = jnp.asarray(shifted, bias.dtype)
        pieces[layer.weight] = jnp.asarray(scaled, weight.dtype)
    return eqx.combine(space.join_features(pieces), network)


class _Layer(NamedTuple):
    """Units with a bias.

    Attributes:
        site: Which array holds their sums.
        units: The axis of the units there.
        bias: Which piece is their bias.
        weight: Which piece the rest of the sums is linear in.
        axis: The axis of the units there.
    """

    site: int
    units: int
    bias: int
    weight: int
    axis: int


class _Run:
    """From pieces to the arrays of units, and their derivatives."""

    def __init__(self, seen: Activations, shapes: list[tuple[int, ...]]):
        self.seen, self.shapes = seen, shapes

        @jax.jit
        def moved(blocks: Any, directions: Any, given: Any) -> list[jax.Array | None]:
            at = lambda blocks: [
                x if jnp.issubdtype(x.dtype, jnp.floating) else None
                for x in seen.run(blocks, given)
            ]
            return jax.jvp(at, (blocks,), (directions,))[1]

        self._moved = moved

    def __call__(self, pieces: Sequence[Any]) -> list[np.ndarray]:
        answers = self.seen.run(self._blocks(pieces), self.seen.given)
        return [np.asarray(x) for x in answers]

    def moved(self, pieces: Sequence[Any], which: int, by: Any) -> list[Any]:
        """How fast the arrays change when one piece moves in a direction."""
        still = [jnp.zeros_like(x) for x in pieces]
        still[which] = jnp.broadcast_to(jnp.asarray(by, still[which].dtype), by.shape)
        directions = self._blocks(still)
        return self._moved(self._blocks(pieces), directions, self.seen.given)

    def _blocks(self, pieces: Sequence[Any]) -> list[Any]:
        return [x.reshape(s) for x, s in zip(pieces, self.shapes, strict=True)]


def _find_layers(space: WeightSpace, run: _Run, pieces: list[Any]) -> list[_Layer]:
    answers, layers = run(pieces), []
    for bias, leaf in enumerate(space.pieces):
        if len(leaf.axes) != 1 or not leaf.slots:
            continue
        units = leaf.axes[0]
        grows = run.moved(pieces, bias, jnp.ones_like(pieces[bias]))
        sites = [
            (site, axes.index(units))
            for site, axes in enumerate(run.seen.axes)
            if list(axes).count(units) == 1
            and grows[site] is not None
            and np.allclose(grows[site], 1.0, atol=1e-6)
        ]
        if not sites:
            continue
        site, axis = sites[0]
        sums, shape = answers[site], [1] * answers[site].ndim
        shape[axis] = -1
        rest = sums - np.asarray(pieces[bias]).reshape(shape)
        linear = []
        for weight, other in enumerate(space.pieces):
            if weight == bias or list(other.axes).count(units) != 1:
                continue
            change = run.moved(pieces, weight, pieces[weight])[site]
            if np.allclose(change, rest, rtol=0, atol=_SAME * np.abs(rest).max()):
                linear.append((weight, list(other.axes).index(units)))
        if len(linear) == 1:
            layers.append(_Layer(site, axis, bias, *linear[0]))
    return sorted(layers)


def _spread(layer: _Layer, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each unit over everything else."""
    units = np.moveaxis(sums.astype(float), layer.units, 0)
    units = units.reshape(len(units), -1)
    return units.mean(1), units.std(1)


def _shares(
    network: Sequence[np.ndarray],
    parents: Sequence[Sequence[np.ndarray]],
    shares: Sequence[float] | None,
) -> np.ndarray:
    """Shares of sum 1: those given, or those that come closest to the network."""
    if not parents or (shares is not None and len(shares) != len(parents)):
        raise ValueError(
            f"Needs parents, and a share for each; got {len(parents)} parents and the "
            f"shares {shares}."
        )
    if shares is not None:
        return np.asarray(shares, float) / sum(shares)
    flat = [np.concatenate([x.ravel() for x in one]) for one in (network, *parents)]
    own, first, *others = flat
    if not others:
        return np.ones(1)
    steps = np.stack([other - first for other in others], axis=1)
    found = np.linalg.lstsq(steps, own - first)[0]
    return np.concatenate([[1 - found.sum()], found])
