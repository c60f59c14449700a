"""Compares inferred spaces with written ones, and with what the function does."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from tests.wsl.helpers import act, draw_element
from wsl import infer_weight_space, WeightSpace


# Outputs are scaled to order 1. Summing in another order moves them by about 1e-6;
# permuting a leaf alone by far more than 1e-3.
_SAME, _MOVED = 2e-4, 1e-3


def draw(tree, seed=0):
    """Other numbers for all weights, so that none is zero or equal to another."""
    random = np.random.default_rng(seed)

    def draw_leaf(leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        fan_in = int(np.prod(leaf.shape[1:])) if leaf.ndim > 1 else 4
        numbers = random.standard_normal(leaf.shape) / np.sqrt(fan_in)
        return jnp.asarray(numbers, leaf.dtype)

    return jax.tree.map(draw_leaf, tree)


def numbers(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def canonical(space: WeightSpace):
    """Everything that the group is, in names that only depend on where they stand."""
    names: dict[str, int] = {}
    leaves = []
    for one in space.pieces:
        leaf = []
        for factors in one.axes:
            axis: list[Any] = []
            for size, name in factors:
                if name in space.groups:
                    axis.append((names.setdefault(name, len(names)), size))
                elif axis and isinstance(axis[-1], int):
                    axis[-1] *= size
                elif size > 1:
                    axis.append(size)
            leaf.append(tuple(axis))
        leaves.append(tuple(leaf))
    nested = {(names[inner], names[block]) for inner, block in space.nested}
    return dict(zip((x.path for x in space.pieces), leaves, strict=True)), nested


def assert_group(space: WeightSpace, spec, *, nested=None, sizes=None):
    """That the group is the one of a written spec, whose names are all free."""
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in space.leaves]
    weights = jax.tree.unflatten(space.treedef, shapes)
    expected = WeightSpace.from_spec(weights, spec, nested=nested, sizes=sizes)
    assert canonical(space) == canonical(expected)


def compiled(fn: Callable[..., Any], weights, inputs):
    """The function, from the floating-point leaves of its weights to one vector."""

    @jax.jit
    def run(arrays):
        result = fn(eqx.combine(arrays, weights), *inputs)
        flat = [jnp.ravel(x).astype(jnp.float32) for x in _arrays(result)]
        return jnp.concatenate(flat)

    return lambda arrays: np.asarray(run(arrays), np.float64)


def _arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def assert_preserved(space: WeightSpace, fn, weights, inputs, *, samples=2):
    """That elements of the group leave the outputs alone, and that this says something.

    Of each group on several leaves some leaf must matter: permuted alone, it changes
    the outputs.
    """
    arrays = eqx.filter(weights, eqx.is_inexact_array)
    apply = compiled(fn, weights, inputs)
    leaves, treedef = jax.tree.flatten(arrays)
    before = apply(arrays)
    assert np.isfinite(before).all()
    scale = np.abs(before).max() + 1e-6
    for seed in range(samples):
        moved = act(space, leaves, draw_element(space, seed))
        after = apply(jax.tree.unflatten(treedef, moved))
        np.testing.assert_allclose(after / scale, before / scale, atol=_SAME)
    moved = act(space, leaves, _cycles(space))
    for group in space.groups:
        alone = [
            [*leaves[:i], moved[i], *leaves[i + 1 :]]
            for i, leaf in enumerate(space.leaves)
            if any(
                slot.group == group
                for piece in leaf.pieces or (leaf,)
                for slot in piece.slots
            )
        ]
        assert len(alone) == 1 or any(
            np.abs(apply(jax.tree.unflatten(treedef, one)) - before).max()
            > _MOVED * scale
            for one in alone
        ), group


def _cycles(space: WeightSpace):
    return {
        group: np.broadcast_to((np.arange(shape[-1]) + 1) % shape[-1], shape)
        for group, shape in space.element_shapes().items()
    }


def check(fn, weights, inputs, spec, *, nested=None, sizes=None):
    """That inference finds a written group, that holds, and knows every primitive."""
    space = infer_weight_space(fn, weights, *inputs)
    assert_group(space, spec, nested=nested, sizes=sizes)
    assert space.unknown_primitives == ()
    assert_preserved(space, fn, draw(weights), inputs)
    return space


def check_module(module, inputs, spec, *, nested=None, sizes=None):
    """The same for a module that is called."""
    space = infer_weight_space(module, *inputs)
    by_function = check(
        lambda m, *xs: m(*xs), module, inputs, spec, nested=nested, sizes=sizes
    )
    assert space == by_function
    return space
