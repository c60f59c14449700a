from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from wsl._space import AxisSpec, GroupElement, Stacked, Sum, WeightSpace
from wsl.nn._channels import by_path, per_leaf
from wsl.testing._composite import composite, Draw


_GROUPS = {"a": 2, "b": 3, "c": 1}


def weight_spaces(
    *,
    max_leaves: int = 3,
    max_axes: int = 3,
    fixed: bool = True,
    nested: bool = True,
    sums: bool = True,
) -> st.SearchStrategy[WeightSpace]:
    """Random weight spaces, of no particular network.

    Leaves are those of a dict, scalars among them. Axes have names that may move (`a`,
    `b`, `c`) or are fixed (`f`), no name, factors, or are sums of such; a name may
    stand several times on one leaf; `inner` is nested in `outer`, `innermost` in
    `inner`. Now and then a leaf is a stack, whose members have names of their own.

    Args:
        max_leaves: The largest number of leaves; at least one is drawn.
        max_axes: The largest number of axes of a leaf.
        fixed: Whether to draw fixed names.
        nested: Whether to draw nested names.
        sums: Whether to draw sums and stacks.

    Returns:
        A strategy for spaces.
    """
    return _weight_spaces(max_leaves, max_axes, fixed, nested, sums)


@composite
def _weight_spaces(
    draw: Draw, max_leaves: int, max_axes: int, fixed: bool, nested: bool, sums: bool
) -> WeightSpace:
    sizes = {**_GROUPS, "f": 2, "outer": 2, "inner": 3, "innermost": 2, "d": 2}
    plain = [*_GROUPS, "f"] if fixed else list(_GROUPS)
    one = st.sampled_from(plain)
    axis = st.one_of(
        one,
        one,
        st.none(),
        st.tuples(st.sampled_from([2, 3]), one),
        st.tuples(one, st.sampled_from([2, 3])),
        st.tuples(one, one),
    )
    if sums:
        part = st.one_of(one, one, st.just(2), st.tuples(one, st.just(2)))
        total = st.builds(Sum, part, part)
        within = st.tuples(st.sampled_from([2, "a"]), total)
        axis = st.one_of(axis, axis, axis, total, within)
    blocks: list[tuple[AxisSpec, ...]] = [
        ("outer",),
        (("outer", "inner"),),
        (("outer", "inner", "innermost"),),
        ("inner", "outer"),
        (("outer", "inner"), "outer"),
    ]
    blocks = [axes for axes in blocks if len(axes) <= max_axes]
    if sums:
        blocks.append((Sum(("outer", "inner"), "outer", ("outer", "inner")),))
    spec: dict[str, Any] = {}
    for i in range(draw(st.integers(1, max_leaves))):
        axes = tuple(draw(st.lists(axis, max_size=max_axes)))
        if nested and blocks and draw(st.integers(0, 2)) == 0:
            axes = (*draw(st.sampled_from(blocks)), *axes)[:max_axes]
        if sums and 0 < len(axes) < max_axes and draw(st.integers(0, 4)) == 0:
            alike = st.sampled_from(["a", "d", *(["f"] if fixed else [])])
            members = [draw(alike) for _ in range(2)]
            spec[f"['{i}']"] = Stacked(*((name, *axes[1:]) for name in members))
        else:
            spec[f"['{i}']"] = axes
    shapes, names = {}, set()
    for path, axes in spec.items():
        stacked = isinstance(axes, Stacked)
        members = axes.specs if stacked else [axes]
        shape = tuple(_length(entry, sizes) for entry in members[0])
        shape = (len(members), *shape) if stacked else shape
        shapes[path.strip("[']")] = jax.ShapeDtypeStruct(shape, jnp.float32)
        names |= {n for one in members for entry in one for n in _names(entry)}
    return WeightSpace.from_spec(
        shapes,
        spec,
        fixed=names & {"f"},
        nested={
            name: block
            for name, block in (("inner", "outer"), ("innermost", "inner"))
            if name in names
        },
        sizes={name: sizes[name] for name in names},
    )


def _names(entry: Any) -> list[str]:
    if entry is None or isinstance(entry, str | int):
        return [entry] if isinstance(entry, str) else []
    parts = entry.terms if isinstance(entry, Sum) else entry
    return [name for part in parts for name in _names(part)]


def _length(entry: Any, sizes: Mapping[str, int]) -> int:
    if entry is None:
        return 2
    if isinstance(entry, str | int):
        return sizes[entry] if isinstance(entry, str) else entry
    if isinstance(entry, Sum):
        return sum(_length(term, sizes) for term in entry.terms)
    return int(np.prod([_length(part, sizes) for part in entry]))


def group_elements(space: WeightSpace) -> st.SearchStrategy[GroupElement]:
    """Elements of a space's group.

    Args:
        space: The space.

    Returns:
        A strategy for elements; it shrinks towards the identity.
    """
    return _group_elements(space)


@composite
def _group_elements(draw: Draw, space: WeightSpace) -> GroupElement:
    element = {}
    for group, shape in space.element_shapes().items():
        rows = [
            draw(st.permutations(range(shape[-1])))
            for _ in range(int(np.prod(shape[:-1])))
        ]
        element[group] = jax.device_put(np.asarray(rows, np.int32).reshape(shape))
    return element


def features(
    space: WeightSpace, channels: int | Mapping[str, int] = 1
) -> st.SearchStrategy[PyTree]:
    """Weight features of a space: normal numbers, with zeros among them now and then.

    Args:
        space: The space.
        channels: How many channels every leaf has, or one number for each path.

    Returns:
        A strategy for features.
    """
    counts = by_path(space, per_leaf(space, channels))
    shapes = [(*leaf.shape, counts[leaf.path]) for leaf in space.leaves]
    return _numbers(space, shapes)


def weights(space: WeightSpace) -> st.SearchStrategy[PyTree]:
    """Weights of a space: normal numbers, with zeros among them now and then.

    Args:
        space: The space.

    Returns:
        A strategy for weights.
    """
    return _numbers(space, [leaf.shape for leaf in space.leaves])


@composite
def _numbers(draw: Draw, space: WeightSpace, shapes: list[tuple[int, ...]]) -> PyTree:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Pruned weights: some entries, or whole leaves.
    sparse, empty = draw(st.sampled_from([(0, 0), (0, 0), (0.3, 0), (0, 0.5), (0, 1)]))
    arrays: list[Array] = []
    for leaf, shape in zip(space.leaves, shapes, strict=True):
        keep = (random.random(shape) >= sparse) * (random.random() >= empty)
        numbers = np.asarray(random.standard_normal(shape) * keep)
        arrays.append(jax.device_put(numbers.astype(leaf.dtype)))
    return jax.tree.unflatten(space.treedef, arrays)
