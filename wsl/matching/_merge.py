"""The line between two networks: points on it, the loss along it, their statistics."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

from wsl._space import is_weight
from wsl.matching._many import average


Weights = TypeVar("Weights")


def interpolate(a: Weights, b: Weights, t: float) -> Weights:
    """The network at `t` on the line from one to another.

    Args:
        a: The network at 0.
        b: The network at 1, aligned to `a`.
        t: Where.

    Returns:
        A network whose weights are `(1 - t) a + t b`, else as `a`.

    Raises:
        ValueError: If the networks are of different forms.
    """
    return average([a, b], [1.0 - t, t])


@dataclasses.dataclass(frozen=True)
class Barrier:
    """The loss along the line between two networks.

    Attributes:
        ts: Places, from 0 to 1.
        losses: The loss at each.
        height: How far the loss rises above the line from its value at one end to that
            at the other, at most; 0 where it nowhere does.
    """

    ts: tuple[float, ...]
    losses: tuple[float, ...]
    height: float


def barrier(
    loss: Callable[[Any], Any],
    a: Any,
    b: Any,
    *,
    num_points: int = 11,
    adjust: Callable[[Any], Any] | None = None,
) -> Barrier:
    """Measures the loss along the line between two networks.

    Networks are linearly connected if there is no barrier: then their average is as
    good as they are. Two that were trained alike usually have one as they stand, and
    hardly one once they are aligned.

    Source: Frankle et al. 2020 (linear mode connectivity); the height is that of
    Entezari et al. 2022, definition 2.

    Args:
        loss: From a network to a number.
        a: The network at 0.
        b: The network at 1.
        num_points: At how many places, both ends among them.
        adjust: Done to each network between the ends before its loss is taken, for
            instance [`reset_statistics`][wsl.matching.reset_statistics].

    Returns:
        Places, losses and the height of the barrier.

    Raises:
        ValueError: If there are fewer than three places, or the networks are of
            different forms.

    Examples:
        >>> import jax.numpy as jnp, wsl
        >>> loss = lambda w: (1.0 - w**2) ** 2  # good at -1 and 1, bad at 0
        >>> wsl.matching.barrier(loss, jnp.array(-1.0), jnp.array(1.0)).height
        1.0
    """
    if num_points < 3:
        raise ValueError(f"A line has three points or more; got {num_points}.")
    run = eqx.filter_jit(loss)
    ts = np.linspace(0.0, 1.0, num_points)
    losses = []
    for t in ts:
        network = interpolate(a, b, float(t))
        if adjust is not None and 0 < t < 1:
            network = adjust(network)
        losses.append(float(run(network)))
    chord = (1 - ts) * losses[0] + ts * losses[-1]
    height = float(np.max(np.asarray(losses) - chord))
    return Barrier(tuple(map(float, ts)), tuple(losses), max(height, 0.0))


def reset_statistics(
    network: Weights, update: Callable[..., Weights], *batches: Any
) -> Weights:
    """Measures a network's running statistics anew.

    The mean of two networks has the mean of their running statistics, which are not
    those of its own activations: these are less spread, and a batch norm that divides
    by the old deviations passes on too little (variance collapse).

    Running statistics are moving averages, `s' = m s + (1 - m) batch`. Two updates on
    a batch are enough to know `m`, and with it the batch's own statistics; the result
    has their mean over all batches. Whatever else an update changes is left as it was.

    Source: Jordan et al. 2023 (REPAIR), section 3, resetting of batch norms.

    Args:
        network: The network, or a pair of a model and its `equinox.nn.State`, or the
            variables of a Flax module.
        update: From a network and a batch to the network after a step in training mode,
            with other running statistics and the same weights.
        *batches: Data, one batch or more.

    Returns:
        The network with new statistics.

    Raises:
        ValueError: If there are no batches, or an update changes nothing.
    """
    if not batches:
        raise ValueError("There are no batches to measure statistics on.")
    run = eqx.filter_jit(update)
    found: list[list[np.ndarray]] = []
    paths = [jtu.keystr(p) for p, _ in jtu.tree_leaves_with_path(network)]
    leaves, treedef = jax.tree.flatten(network)
    moved: set[int] = set()
    for batch in batches:
        first = run(network, batch)
        states = [leaves, *map(jax.tree.leaves, (first, run(first, batch)))]
        statistics = list(leaves)
        for i, steps in enumerate(zip(*states, strict=True)):
            if not is_weight(steps[0]):
                continue
            before, once, twice = (np.asarray(x, float) for x in steps)
            if np.array_equal(before, once):
                continue
            moved.add(i)
            statistics[i] = _limit(before, once, twice, paths[i])
        found.append(statistics)
    if not moved:
        raise ValueError(
            "`update` changes no floating-point array, so that there are no running "
            "statistics to reset. It must run the network in training mode, and return "
            "it with what that has changed."
        )
    result = list(leaves)
    for i in moved:
        mean = np.mean([np.asarray(one[i], float) for one in found], axis=0)
        result[i] = jnp.asarray(mean, leaves[i].dtype)
    return jax.tree.unflatten(treedef, result)


def _limit(
    before: np.ndarray, once: np.ndarray, twice: np.ndarray, path: str
) -> np.ndarray:
    """Where a moving average would end on one batch, from two steps of it."""
    first, second = (once - before).ravel(), (twice - once).ravel()
    ratio = float(first @ second) / float(first @ first)
    if not 0 <= ratio < 1:
        raise ValueError(
            f"Leaf {path!r} is no moving average: its second step on one batch is "
            f"{ratio:.3g} times its first. `update` must change running statistics, "
            "not weights."
        )
    return before + (once - before) / (1 - ratio)
