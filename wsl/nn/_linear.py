import itertools
import math
from collections.abc import Mapping, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import WeightSpace
from wsl.nn._channels import per_leaf
from wsl.nn._draw import constant, normals
from wsl.nn._linear_apply import broadcast_to_leaves, pool_leaves
from wsl.nn._linear_matmul import times_matrix
from wsl.nn._linear_plan import BasisName, LeafPattern, make_plan, Plan, Tying


@final
class EquivariantLinear(eqx.Module):
    """The linear maps of weight features that commute with the group of a space.

    With `basis="full"` all of them: for each pair of leaves one term, with a matrix
    over channels, for every partition of their slots that equates only slots of one
    group (and nested ones only where their blocks are equated). An index that nothing
    may move is treated as a channel is: each value has coefficients of its own.

    - `"near-neighbour"`: only the terms in which output and input have an index in
      common, so that their number grows with the number of leaves and not with its
      square. A leaf in which nothing moves has no index to share: it gets the means of
      all leaves, and its own mean goes to all.
    - `"layer-tied"`: all terms, but those of one kind have one matrix. Two terms are of
      one kind if their leaves' paths differ only in numbers, and the leaves are in the
      same relation: the same leaf or not, the same numbers or not, the slots they have
      in common. So the number of parameters does not grow with depth, and what reaches
      a leaf from several others by one matrix is their mean. Layer-index encodings tell
      the layers apart again.

    All leaves with the same indices are pooled together, each mean is made once; the
    means with the same indices stand side by side, and one matrix product serves all
    the places that they go to; what is broadcast is summed while it is small.

    Source: Zhou et al. 2023 (NFN) for perceptrons and convolutions; Zhou et al. 2024
    (UNF), appendix B.2, for any weights with a permutation on each axis. The tied form
    follows `NFLinearMlp` of the latter's code.

    Attributes:
        space: The weight space.
        in_channels: For each leaf, and each piece of one with sums, the channels that
            go in.
        out_channels: The same, the channels that come out.
        basis: Which terms.
        coefficients: The matrices: for each set of indices that terms carry one, for
            all of their inputs and outputs; in a tied layer one stack for each shape.
        bias: What is added to each leaf, and to each of its diagonals, in all channels
            and at all fixed indices; or None.
    """

    space: WeightSpace = eqx.field(static=True)
    in_channels: tuple[int, ...] = eqx.field(static=True)
    out_channels: tuple[int, ...] = eqx.field(static=True)
    basis: BasisName = eqx.field(static=True)
    coefficients: tuple[Float[Array, "..."], ...]
    bias: Float[Array, " constants"] | None

    def __init__(
        self,
        space: WeightSpace,
        in_channels: int | Mapping[str, int],
        out_channels: int | Mapping[str, int],
        *,
        basis: BasisName = "full",
        use_bias: bool = True,
        gain: float = math.sqrt(2.0),
        key: PRNGKeyArray,
    ):
        """Makes the layer and draws its first coefficients.

        They are normal and of mean zero. Nine tenths of an output's variance come from
        the same entry of the input, the rest in equal parts from all other terms: a
        pooled mean has between 1/n and all of an entry's second moment, so that the
        variance would fall from layer to layer if all terms counted alike.

        Args:
            space: The weight space.
            in_channels: How many channels go in: for all leaves, or for each path.
            out_channels: How many come out.
            basis: Which terms.
            use_bias: Whether to add constants. They are zero at first.
            gain: Standard deviation of an output entry where all inputs have a second
                moment of one. The default is right after a ReLU.
            key: Source of randomness.

        Raises:
            ValueError: If there is no such basis, the channels do not fit the space, or
                there would be more coefficients than memory holds.
        """
        if basis not in ("full", "near-neighbour", "layer-tied"):
            raise ValueError(
                f"There is no basis {basis!r}; give 'full', 'near-neighbour' or "
                "'layer-tied'."
            )
        self.space = space
        self.in_channels = per_leaf(space, in_channels)
        self.out_channels = per_leaf(space, out_channels)
        self.basis = basis
        plan = self._plan
        pairs = list(zip(plan.rows, plan.columns, strict=True))
        widths = [(_width(rows), _width(columns)) for rows, columns in pairs]
        tied = basis == "layer-tied"
        _check_size(space, plan.tied_shapes if tied else widths)
        if tied:
            shapes, deviations = plan.tied_shapes, plan.tied_deviations
            spreads = [scale[:, None, None] for scale in deviations]
        else:
            shapes = widths
            spreads = [
                _spread(deviations, *pair)
                for deviations, pair in zip(plan.deviations, pairs, strict=True)
            ]
        self.coefficients = normals(key, shapes, [gain * spread for spread in spreads])
        self.bias = constant(0.0, plan.num_constants) if use_bias else None

    @property
    def num_terms(self) -> int:
        """How many terms the basis has, for one input and one output channel.

        Every value of a fixed index counts as an entry of its own. Terms that have
        their coefficients in common count once.
        """
        plan = self._plan
        pairs = zip(plan.rows, plan.columns, strict=True)
        if self.basis != "layer-tied":
            return sum(
                sum(row.fixed for row in rows) * sum(column.fixed for column in columns)
                for rows, columns in pairs
            )
        sizes = {}
        for (rows, columns), tying in zip(pairs, plan.tyings, strict=True):
            for (row, column), kind in zip(
                itertools.product(rows, columns), tying.kinds.flat, strict=True
            ):
                name = row.width, column.width, int(kind)
                sizes[name] = row.fixed * column.fixed
        return sum(sizes.values())

    def __call__(self, features: PyTree, *, key: PRNGKeyArray | None = None) -> PyTree:
        """Applies the layer.

        Args:
            features: Weight features of the space, with `in_channels`.
            key: Not used.

        Returns:
            Weight features with `out_channels`, each leaf in the dtype that it came in.

        Raises:
            ValueError: If the features are not of this space or have other channels.
        """
        leaves = self.space.cut_features(features, self.in_channels)
        if not leaves:
            return features
        basis = self._plan.basis
        # The cast is explicit, so strict promotion need not forbid it.
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*leaves)
        folded = [
            layout.fold(leaf.astype(dtype))
            for layout, leaf in zip(basis.layouts, leaves, strict=True)
        ]
        mixed = [
            times_matrix(pooled, matrix.astype(dtype))
            for pooled, matrix in zip(
                pool_leaves(basis, folded), self.matrices(), strict=True
            )
        ]
        bias = None if self.bias is None else self.bias.astype(dtype)
        outputs = broadcast_to_leaves(basis, self.out_channels, mixed, bias)
        return self.space.join_features(
            [
                layout.unfold(output).astype(leaf.dtype)
                for layout, output, leaf in zip(
                    basis.layouts, outputs, leaves, strict=True
                )
            ],
        )

    def matrices(self) -> tuple[Float[Array, "inputs outputs"], ...]:
        """The coefficients of each set of indices as one matrix."""
        if self.basis != "layer-tied":
            return self.coefficients
        plan = self._plan
        stacks = {
            shape[1:]: stack
            for shape, stack in zip(plan.tied_shapes, self.coefficients, strict=True)
        }
        return tuple(
            _assemble(stacks, rows, columns, tying)
            for rows, columns, tying in zip(
                plan.rows, plan.columns, plan.tyings, strict=True
            )
        )

    @property
    def _plan(self) -> Plan:
        return make_plan(self.space, self.basis, self.in_channels, self.out_channels)


# More than a machine is likely to have memory for, with gradients and an optimiser.
_MOST_COEFFICIENTS = 400_000_000


def _check_size(space: WeightSpace, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raises a ValueError before memory is asked for, naming what takes it."""
    number = sum(math.prod(shape) for shape in shapes)
    if number <= _MOST_COEFFICIENTS:
        return
    reasons, sizes = dict(space.reasons), space.index_sets
    fixed = sorted(space.fixed, key=lambda name: -sizes[name])[:3]
    named = [
        f"{name!r} ({sizes[name]}{f': {reasons[name]}' if name in reasons else ''})"
        for name in fixed
    ]
    widest = max(space.pieces, key=lambda leaf: leaf.layout.fixed)
    advice = (
        f"The largest sets are {', '.join(named)}. Treat their indices alike: "
        "`space.unfix(name)`, or `release=space.fixed` of an encoder"
        if named
        else f"Leaf {widest.path!r} has {widest.layout.fixed} of them. Give its axes "
        "names that may move"
    )
    memory = f"{number * 4 / 2**30:,.0f} GiB"
    raise ValueError(
        f"This layer would have {number:,} coefficients, {memory}: every value of an "
        f"index that nothing may move has its own. {advice}; or take "
        "message passing (`wsl.encoders.Graph`), whose size does not depend on them."
    )


def _width(patterns: Sequence[LeafPattern]) -> int:
    return sum(pattern.width for pattern in patterns)


def _spread(
    deviations: np.ndarray, rows: Sequence[LeafPattern], columns: Sequence[LeafPattern]
) -> np.ndarray:
    """One number for each block, repeated over the block."""
    deviations = np.repeat(deviations, [pattern.width for pattern in rows], axis=0)
    return np.repeat(deviations, [pattern.width for pattern in columns], axis=1)


def _assemble(
    stacks: Mapping[tuple[int, int], Array],
    rows: Sequence[LeafPattern],
    columns: Sequence[LeafPattern],
    tying: Tying,
) -> Array:
    """A matrix of tied blocks; blocks of one shape that lie together in one go."""
    lines = []
    for top, bottom in _runs(rows):
        parts = []
        for left, right in _runs(columns):
            height, width = rows[top].width, columns[left].width
            part = np.s_[top:bottom, left:right]
            blocks = jnp.take(stacks[height, width], tying.kinds[part], axis=0)
            scales = jnp.asarray(tying.scales[part], blocks.dtype)
            blocks = (blocks * scales[:, :, None, None]).swapaxes(1, 2)
            parts.append(
                blocks.reshape((bottom - top) * height, (right - left) * width)
            )
        lines.append(jnp.concatenate(parts, 1))
    return jnp.concatenate(lines, 0)


def _runs(patterns: Sequence[LeafPattern]) -> list[tuple[int, int]]:
    """Where stretches of patterns of one width begin and end."""
    lengths = [
        len(list(run))
        for _, run in itertools.groupby(pattern.width for pattern in patterns)
    ]
    return list(itertools.pairwise(itertools.accumulate(lengths, initial=0)))
