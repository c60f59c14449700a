"""Gains of norms, multiplied into the matrices that read what they scale."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl._linear._infer import changes, ROOM, Search
from wsl._linear._places import act_at, LinearPlace
from wsl._linear._symmetry import places_of
from wsl._space import is_weight, WeightSpace
from wsl._verify import Check


Weights = TypeVar("Weights")
_CERTAIN = 0.1  # How far from 0 or 1 a share may be before it is looked at closely.
_FLAT = 1e-3  # Of singular values, in units of the largest.
_DRAWS = 256  # How many stretches are tried, at most.
_WIDEST = 2.0  # Of a factor that a unit is scaled by, to check.


@dataclasses.dataclass(frozen=True)
class Folded(Generic[Weights]):
    """What [`fold_gains`][wsl.fold_gains] made of a network.

    Attributes:
        weights: The weights, or the model, of the same function.
        gains: By path of each gain that is 1 now, the paths of what it was multiplied
            into. Of leaves that are sums of index sets these are paths of pieces.
    """

    weights: Weights
    gains: dict[str, tuple[str, ...]]


def fold_gains(
    space: WeightSpace,
    fn: Callable[..., Any],
    *inputs: PyTree,
    key: PRNGKeyArray,
    num_samples: int = 2,
    noise: float = 0.1,
) -> Folded[Any]:
    """Multiplies gains of norms into the matrices that read what they scale.

    Most norms end with a gain g for each unit, and matrices W read what it gives:
    W (g * x) = (W g) x. With the gains at 1 a root-mean-square norm has nothing left
    that tells one direction of its stream from another, so that
    [`infer_linear_symmetry`][wsl.infer_linear_symmetry] finds the rotations:

        folded = wsl.fold_gains(space, model, x, key=key)
        symmetry = wsl.infer_linear_symmetry(
            space, folded.weights, x, key=key, constant=folded.gains
        )

    A gain is a leaf with one axis, that of a group whose rotations do not hold as it
    is. What reads it is found on numbers: the change of the outputs when units of the
    gain alone are stretched is the sum of those when its readers are. All is checked on
    random factors, by what rounding explains. These stay as they are: a gain with an
    offset, as that of a layer norm; a gain that matrices do not read alone; a gain that
    either of two matrices could undo; and one that is added to 1 before it scales.

    Two networks have one symmetry after both have been folded.

    Args:
        space: The space, for instance from
            [`infer_weight_space`][wsl.infer_weight_space].
        fn: A model with weights of this space, or a function of such weights, as
            [`verify_symmetry`][wsl.verify_symmetry] takes it.
        *inputs: What the model is called with; for a function, the weights and then
            its other inputs, if any.
        key: Source of randomness.
        num_samples: How many random factors to check each gain with.
        noise: Relative size of noise on the weights, so that nothing holds by accident.

    Returns:
        The weights, and which gains were folded into what.

    Raises:
        ValueError: If `num_samples` is not positive, or `noise` negative, or the
            weights are not of this space or in bfloat16.

    Examples:
        >>> import jax, wsl
        >>> weights = {"gain": jax.numpy.array([2.0, 3.0]), "w": jax.numpy.ones((2, 2))}
        >>> fn = lambda w, x: jax.nn.relu((w["gain"] * jax.numpy.tanh(x)) @ w["w"])
        >>> spec = {"['gain']": ("g",), "['w']": ("g", None)}
        >>> space = wsl.WeightSpace.from_spec(weights, spec)
        >>> x = jax.numpy.array([1.0, -0.5])
        >>> folded = wsl.fold_gains(space, fn, weights, x, key=jax.random.key(0))
        >>> print(folded.gains, folded.weights["w"].tolist())
        {"['gain']": ("['w']",)} [[2.0, 2.0], [3.0, 3.0]]
    """
    search = Search.make(space, fn, inputs, num_samples, noise, key)
    is_model = jax.tree.structure(eqx.filter(fn, is_weight)) == space.treedef
    model: Any = fn if is_model else inputs[0]
    pieces = [jnp.asarray(x) for x in space.cut(space.weight_leaves(model))]
    gains = {}
    for i, name in enumerate(space.groups):
        for gain, readers in _gains(search, name, jr.fold_in(key, i)):
            maps = jnp.diag(pieces[gain.piece])
            for place in readers:
                sizes = space.pieces[place.piece].layout.sizes
                pieces[place.piece] = act_at(place, pieces[place.piece], sizes, maps)
            pieces[gain.piece] = jnp.ones_like(pieces[gain.piece])
            gains[gain.path] = tuple(place.path for place in readers)
    leaves = jax.tree.unflatten(space.treedef, space.join(pieces))
    return Folded(eqx.combine(leaves, model), gains)


def _gains(
    search: Search, name: str, key: PRNGKeyArray
) -> Iterator[tuple[LinearPlace, list[LinearPlace]]]:
    """The gains of a group's units, each with the places that make up for it."""
    space, checks = search.space, search.checks
    places = [at for at in places_of(space, name) if not at.blocks]
    gains = [at for at in places if len(space.pieces[at.piece].factors) == 1]
    # Of two gains in a row either could make up for the other.
    others = [at for at in places if len(space.pieces[at.piece].factors) > 1]
    # A vector that rotations may turn is no gain.
    if not gains or not others or search.turning(name) is not None:
        return
    known: set[LinearPlace] = set()
    for check in checks:
        left = [gain for gain in gains if gain not in known]
        rows = 2 * len(others) if left else 0
        drawn = _stretched(check, [*left, *others], space.groups[name], rows, key)
        for i, gain in enumerate(left):
            columns = drawn[:, len(left) :]
            shares = np.linalg.lstsq(columns, drawn[:, i], rcond=_FLAT)[0]
            chosen = np.abs(shares - 1) < _CERTAIN
            if not (chosen.any() and np.all(chosen | (np.abs(shares) < _CERTAIN))):
                continue
            pairs = zip(others, chosen, strict=True)
            readers = [place for place, is_one in pairs if is_one]
            if all(_holds(one, gain, readers, key) for one in checks):
                known.add(gain)
                yield gain, readers


def _stretched(
    check: Check, places: Sequence[LinearPlace], size: int, rows: int, key: PRNGKeyArray
) -> np.ndarray:
    """Changes of outputs when units at one place are stretched, as many as asked."""
    found: list[np.ndarray] = []
    while sum(map(len, found)) < rows and len(found) < _DRAWS:
        stretch = jnp.diag(jr.normal(jr.fold_in(key, len(found)), (size,)))
        found.append(changes(check, places, stretch))
    return np.concatenate(found or [np.zeros((0, len(places)))])


def _holds(
    check: Check, gain: LinearPlace, readers: Sequence[LinearPlace], key: PRNGKeyArray
) -> bool:
    """Whether random factors of a gain, undone by its readers, change nothing."""
    size, bound = check.leaves[gain.piece].size, math.log(_WIDEST)
    for i in range(check.num_samples):
        size_key, sign_key = jr.split(jr.fold_in(key, _DRAWS + i))
        factors = jnp.exp(jr.uniform(size_key, (size,), None, -bound, bound))
        maps = jnp.diag(factors * jr.rademacher(sign_key, (size,), jnp.float32))
        moved = [jnp.asarray(array) for array in check.leaves]
        for place in [gain, *(reader._replace(inverted=True) for reader in readers)]:
            sizes = check.space.pieces[place.piece].layout.sizes
            moved[place.piece] = act_at(place, moved[place.piece], sizes, maps)
        if not check.change([np.asarray(array) for array in moved]) <= ROOM:
            return False
    return True
