"""Whether a layer commutes with the group of a space."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from wsl._space import (
    identity,
    numpy_generator,
    permute_leaves,
    sample,
    WeightSpace,
)
from wsl._verify._rounding import (
    arrays_of,
    jitter,
    longest_sum,
    make_ruler,
    Ruler,
    with_noise,
)
from wsl.nn._channels import by_path, per_leaf


def check_equivariance(
    layer: Callable[[PyTree], Any],
    space: WeightSpace,
    *,
    in_channels: int | Mapping[str, int] = 1,
    invariant: bool = False,
    key: PRNGKeyArray,
    num_samples: int = 4,
    tolerance: float | None = None,
    noise: float = 0.1,
    allow_constant: bool = False,
) -> None:
    """Raises an error unless a layer commutes with the group of a space.

    The layer is run on normal weight features, as they are and permuted: by one group
    at a time, and by all at once. Parameters of a layer that start at zero or one can
    hide a mistake, so normal noise is added to all of them first (an
    `equinox.Module`'s arrays; what a function closes over is left alone).

    Args:
        layer: What to check: called with weight features of the space, it returns
            weight features of the same space, with any number of channels; or, if it
            is invariant, any arrays.
        space: The space.
        in_channels: How many channels the features have, or one number for each leaf's
            path.
        invariant: Check instead that permuting leaves the outputs as they are.
        key: Source of randomness.
        num_samples: How many features and permutations to draw.
        tolerance: The largest error allowed, relative to the largest magnitude in each
            output. By default what rounding explains, measured by changing the
            features' last digits.
        noise: Size of the noise, relative to the root mean square of each parameter;
            0 to check the layer as it is.
        allow_constant: Accept layers whose outputs do not depend on the features, or
            which return nothing but zeros. They prove nothing, so that by default they
            are an error.

    Raises:
        AssertionError: If the layer is not equivariant; it names the group and the
            leaf with the largest error. Also if the outputs do not depend on the
            features, are not finite, or are not features of the space.
        ValueError: If `num_samples` is not positive, `noise` negative, no group of the
            space can move anything, or `in_channels` does not fit.

    Examples:
        >>> import jax, wsl, wsl.testing
        >>> weights = {"w": jax.numpy.zeros((3, 2))}
        >>> space = wsl.WeightSpace.from_spec(weights, {"['w']": ("g", None)})
        >>> mean = lambda x: {"w": x["w"] - x["w"].mean(0, keepdims=True)}
        >>> wsl.testing.check_equivariance(mean, space, key=jax.random.key(0))
    """
    if num_samples < 1 or noise < 0:
        raise ValueError(
            "Draw one sample or more, with noise of 0 or more; got "
            f"num_samples={num_samples}, noise={noise}."
        )
    groups = [group for group, size in space.groups.items() if size > 1]
    if not groups:
        raise ValueError(
            "No group of this space can move anything, so every layer commutes with "
            f"it.\n{space}"
        )
    random = numpy_generator(key)
    if noise:
        arrays, rest = eqx.partition(layer, eqx.is_inexact_array)
        leaves, treedef = jax.tree.flatten(arrays)
        moved = with_noise([np.asarray(leaf) for leaf in leaves], noise, random)
        arrays = jax.tree.unflatten(treedef, [jax.device_put(leaf) for leaf in moved])
        layer = eqx.combine(arrays, rest)
    compiled = eqx.filter_jit(_call)

    def run(features: PyTree) -> PyTree:
        with jax.default_matmul_precision("highest"):
            return compiled(layer, features)

    counts = tuple(by_path(space, per_leaf(space, in_channels)).values())
    constant, largest = True, (0.0, "", "", 0.0, 0.0)
    previous = None
    for _ in range(num_samples):
        features = _draw(space, counts, random)
        outputs = run(features)
        labels = _labels(space, outputs, invariant)
        jittered = [arrays_of(run(jitter(features, random))) for _ in range(2)]
        numbers = arrays_of(outputs)
        _assert_finite(numbers, labels)
        ruler = make_ruler(numbers, jittered, longest_sum(space))
        if tolerance is not None:
            ruler = ruler._replace(
                tolerances=[tolerance * scale for scale in ruler.scales]
            )
        other = previous if previous is not None else _draw(space, counts, random)
        constant = constant and ruler.ratio(arrays_of(run(other))) <= 1
        previous = features
        for group in (*groups, None):
            element = _element(space, group, random)
            expected = outputs if invariant else _permute(space, outputs, element)
            found = arrays_of(run(_permute(space, features, element)))
            error = _largest(ruler, arrays_of(expected), found, labels)
            named = f"group {group!r} alone" if group else "all groups together"
            largest = max(largest, (error[0], named, *error[1:]))
    ratio, moved_by, label, change, allowed = largest
    if ratio > 1:
        raise AssertionError(
            f"Not {'in' if invariant else 'equi'}variant: moving {moved_by}, {label} "
            f"is off by {change:.2g} of its largest entry; allowed: {allowed:.2g}."
        )
    if constant and not allow_constant:
        raise AssertionError(
            "The outputs do not depend on the features, so there is nothing to check. "
            "Where that is meant, pass `allow_constant=True`."
        )


def check_invariance(
    fn: Callable[[PyTree], Any],
    space: WeightSpace,
    *,
    in_channels: int | Mapping[str, int] = 1,
    key: PRNGKeyArray,
    num_samples: int = 4,
    tolerance: float | None = None,
    noise: float = 0.1,
    allow_constant: bool = False,
) -> None:
    """Raises an error unless permuting weight features leaves the outputs as they are.

    The same as [`check_equivariance`][wsl.testing.check_equivariance] with
    `invariant=True`.

    Args:
        fn: What to check: called with weight features of the space, it returns arrays.
        space: The space.
        in_channels: How many channels the features have, or one number for each leaf's
            path.
        key: Source of randomness.
        num_samples: How many features and permutations to draw.
        tolerance: The largest error allowed, relative to the largest magnitude in each
            output; by default what rounding explains.
        noise: Size of the noise added to parameters.
        allow_constant: Accept outputs that do not depend on the features.

    Raises:
        AssertionError: If a permutation changes an output; it names the group and the
            output. Also if the outputs do not depend on the features or are not finite.
        ValueError: If an argument makes no sense.
    """
    check_equivariance(
        fn,
        space,
        in_channels=in_channels,
        invariant=True,
        key=key,
        num_samples=num_samples,
        tolerance=tolerance,
        noise=noise,
        allow_constant=allow_constant,
    )


def _call(layer: Callable[[PyTree], Any], features: PyTree) -> Any:
    return layer(features)


def _draw(
    space: WeightSpace, counts: tuple[int, ...], random: np.random.Generator
) -> PyTree:
    leaves = [
        jax.device_put(random.standard_normal((*leaf.shape, count)).astype(leaf.dtype))
        for leaf, count in zip(space.leaves, counts, strict=True)
    ]
    return jax.tree.unflatten(space.treedef, leaves)


def _element(
    space: WeightSpace, group: str | None, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """A random element of one group, or of all; it does not leave all in place."""
    shapes = space.element_shapes()
    unmoved, element = identity(shapes), sample(shapes, random)
    for name in unmoved:
        if np.array_equal(element[name], unmoved[name]):
            element[name] = np.roll(unmoved[name], 1, axis=-1)
    return element if group is None else unmoved | {group: element[group]}


def _permute(
    space: WeightSpace, features: PyTree, element: dict[str, np.ndarray]
) -> PyTree:
    """The action in NumPy, of which nothing has to be compiled."""
    arrays = [np.asarray(array) for array in space.feature_leaves(features)]
    moved = permute_leaves(space.pieces, space.cut(arrays), element)
    return space.join_features(moved)


def _labels(space: WeightSpace, outputs: PyTree, invariant: bool) -> list[str]:
    """What to call each output in a message."""
    if not invariant:
        try:
            space.feature_leaves(outputs)
        except (ValueError, AttributeError) as error:
            raise AssertionError(
                "The outputs are not weight features of the space; for outputs that "
                f"the group leaves alone pass `invariant=True`. {error}"
            ) from error
        return [f"leaf {leaf.path!r}" for leaf in space.leaves]
    with_paths, _ = jax.tree.flatten_with_path(outputs)
    paths = [
        jax.tree_util.keystr(path) for path, x in with_paths if eqx.is_array_like(x)
    ]
    return [f"output {path}".strip() for path in paths]


def _assert_finite(outputs: list[np.ndarray], labels: list[str]) -> None:
    for output, label in zip(outputs, labels, strict=True):
        if not np.isfinite(output.astype(float)).all():
            raise AssertionError(f"Not all numbers of {label} are finite.")


def _largest(
    ruler: Ruler,
    expected: list[np.ndarray],
    found: list[np.ndarray],
    labels: list[str],
) -> tuple[float, str, float, float]:
    """The largest error: in tolerances, where, and it and the tolerance relative."""
    ratios = ruler._replace(outputs=expected).ratios(found)
    errors = [
        (ratio, label, ratio * tolerance / scale, tolerance / scale)
        for ratio, label, tolerance, scale in zip(
            ratios, labels, ruler.tolerances, ruler.scales, strict=True
        )
    ]
    return max(errors, default=(0.0, "", 0.0, 0.0))
