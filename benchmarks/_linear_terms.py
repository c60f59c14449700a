"""The same layer evaluated term by term, as public code for any weights does it.

For each pair of leaves and each term between them: reduce the input, multiply by the
term's own matrix, broadcast, add.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from wsl.nn import EquivariantLinear
from wsl.nn._linear_plan import LeafPattern, make_plan


def split_coefficients(layer: EquivariantLinear) -> list[list[list[Array]]]:
    """One matrix for each term: for each mix, row and column of blocks."""
    plan = _plan(layer)
    found = []
    for matrix, rows, columns in zip(
        layer.matrices(), plan.rows, plan.columns, strict=True
    ):
        blocks, top = [], 0
        for row in rows:
            line, left = [], 0
            for column in columns:
                block = matrix[top : top + row.width, left : left + column.width]
                line.append(block)
                left += column.width
            blocks.append(line)
            top += row.width
        found.append(blocks)
    return found


def stack_coefficients(layer: EquivariantLinear) -> list[dict[str, Array]]:
    """The same with one array for each leaf (and shape) of the output, as in UNF."""
    stacks: list[dict[str, list[Array]]] = [{} for _ in layer.space.leaves]
    for column, block in _in_order(layer, split_coefficients(layer)):
        stacks[column.leaf].setdefault(str(block.shape), []).append(block)
    return [
        {shape: jnp.stack(blocks) for shape, blocks in stack.items()}
        for stack in stacks
    ]


def unstack_coefficients(
    layer: EquivariantLinear, stacks: list[dict[str, Array]]
) -> list[list[list[Array]]]:
    """Undoes `stack_coefficients`, by an index for each term."""
    plan = _plan(layer)
    counts = [dict.fromkeys(stack, 0) for stack in stacks]
    found = []
    for rows, columns in zip(plan.rows, plan.columns, strict=True):
        blocks = []
        for row in rows:
            line = []
            for column in columns:
                shape = str((row.width, column.width))
                index = counts[column.leaf][shape]
                counts[column.leaf][shape] += 1
                line.append(stacks[column.leaf][shape][index])
            blocks.append(line)
        found.append(blocks)
    return found


def apply_terms(
    layer: EquivariantLinear, coefficients: list[list[list[Array]]], features: PyTree
) -> PyTree:
    """What the layer computes, but for its bias."""
    plan = _plan(layer)
    leaf_layouts = plan.basis.layouts
    leaves = layer.space.feature_leaves(features)
    folded = [
        layout.fold(leaf) for layout, leaf in zip(leaf_layouts, leaves, strict=True)
    ]
    outputs = [
        jnp.zeros((*layout.slot_sizes, layout.fixed * channels))
        for layout, channels in zip(leaf_layouts, layer.out_channels, strict=True)
    ]
    for rows, columns, blocks in zip(
        plan.rows, plan.columns, coefficients, strict=True
    ):
        for row, line in zip(rows, blocks, strict=True):
            for column, matrix in zip(columns, line, strict=True):
                sizes = leaf_layouts[column.leaf].slot_sizes
                term = _broadcast(
                    _reduce(folded[row.leaf], row) @ matrix, column, sizes
                )
                outputs[column.leaf] = outputs[column.leaf] + term
    unfolded = [
        layout.unfold(output)
        for layout, output in zip(leaf_layouts, outputs, strict=True)
    ]
    return jax.tree.unflatten(layer.space.treedef, unfolded)


def count_terms(layer: EquivariantLinear) -> int:
    """How many there are, each with a matrix over channels and fixed indices."""
    plan = _plan(layer)
    return sum(len(r) * len(c) for r, c in zip(plan.rows, plan.columns, strict=True))


def _in_order(
    layer: EquivariantLinear, coefficients: list[list[list[Array]]]
) -> Iterator[tuple[LeafPattern, Array]]:
    for columns, blocks in zip(_plan(layer).columns, coefficients, strict=True):
        for line in blocks:
            yield from zip(columns, line, strict=True)


def _plan(layer: EquivariantLinear):
    return make_plan(layer.space, layer.basis, layer.in_channels, layer.out_channels)


def _reduce(tensor: Array, row: LeafPattern) -> Array:
    names = {slot: chr(97 + b) for b, block in enumerate(row.merged) for slot in block}
    before = "".join(names[slot] for slot in range(tensor.ndim - 1))
    after = "".join(names[min(block)] for block in row.kept)
    gone = [tensor.shape[min(block)] for block in row.merged if block not in row.kept]
    if before == after:
        return tensor
    return jnp.einsum(f"{before}z->{after}z", tensor) / math.prod(gone)


def _broadcast(tensor: Array, column: LeafPattern, sizes: tuple[int, ...]) -> Array:
    order = sorted(range(len(column.kept)), key=lambda i: min(column.kept[i]))
    tensor = tensor.transpose(*order, len(order))
    places = {min(block) for block in column.kept}
    tensor = jnp.expand_dims(
        tensor, [slot for slot in range(len(sizes)) if slot not in places]
    )
    for block in column.merged:
        first, *others = sorted(block)
        for slot in others:
            mask = jnp.eye(sizes[slot])
            axes = [i for i in range(len(sizes) + 1) if i not in (first, slot)]
            tensor = tensor * jnp.expand_dims(mask, axes)
    return tensor
