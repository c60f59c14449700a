"""The weights of a model as a space on which permutation groups act."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._action import ancestors, GroupElement, move_blocks, permute_leaf
from wsl._axes import AxisSpec, Factor, find_slots, read_spec, Slot
from wsl._table import leaf_table


@dataclasses.dataclass(frozen=True)
class WeightSpace:
    """The floating-point array leaves of a model, and who may permute their axes.

    For every axis of every leaf the space says what its indices are, by name: the rows
    of one layer's matrix, the same layer's bias and the columns of the next matrix all
    run over the units of that layer, and share a name. Each name stands for a
    permutation group that moves all its axes together, unless it is listed as fixed
    (inputs, outputs). A name may stand twice on one leaf (recurrent weights).

    An axis may also be a product of several parts, in row-major order: the gates of a
    GRU times its units, the channels of a flattened feature map times its pixels, the
    heads of an attention layer times the units of a head. A name nested in another has
    a permutation of its own in every block: whole heads may change places, and the
    units inside each head.

    A space is immutable, hashable, equal to any other with the same leaves, axes, fixed
    and nested names, and holds no arrays: it can be closed over or kept in a static
    field.

    [`infer_weight_space`][wsl.infer_weight_space] derives one from a model;
    [`from_spec`][wsl.WeightSpace.from_spec] takes one that is written by hand.

    Attributes:
        treedef: Structure of the weights.
        paths: Path of each leaf, in the order of flattening, as written by
            `jax.tree_util.keystr`.
        shapes: Shape of each leaf.
        dtypes: Name of each leaf's dtype.
        axes: For each leaf, for each of its axes, the factors of that axis.
        fixed: Names that nothing may move.
        nested: Pairs of a name and the name whose blocks it lives in.
        reasons: For names that an inference found to be fixed, the reason. Takes no
            part in comparisons.
        unknown_primitives: What an inference could not follow, so that the true group
            may be larger. Takes no part in comparisons.
        ties: What made an inference move index sets by one permutation that might move
            apart, such as two layers' units side by side in a concatenation. Takes no
            part in comparisons.
    """

    treedef: jtu.PyTreeDef  # pyright: ignore[reportInvalidTypeForm]
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    axes: tuple[tuple[tuple[Factor, ...], ...], ...]
    fixed: frozenset[str] = frozenset()
    nested: tuple[tuple[str, str], ...] = ()
    reasons: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)
    unknown_primitives: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    ties: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self):
        nested, names = dict(self.nested), self.index_sets
        for name, block in self.nested:
            if name not in self.groups or block not in self.groups:
                raise ValueError(
                    f"{name!r} cannot be nested in {block!r}: both must be names of "
                    f"axes that may move. Names: {list(names)}; fixed: "
                    f"{sorted(self.fixed)}."
                )
            above = ancestors(name, nested)
            if name in above:
                raise ValueError(f"Group {name!r} is nested in itself: {above}.")
        unknown = sorted(self.fixed - names.keys())
        if unknown:
            raise ValueError(
                f"`fixed` names {unknown}, which no axis has. Names: {list(names)}."
            )
        for path, axes in zip(self.paths, self.axes, strict=True):
            find_slots(path, axes, self.fixed, nested)

    @classmethod
    def from_spec(
        cls,
        weights: PyTree,
        spec: Mapping[str, Sequence[AxisSpec]] | None = None,
        *,
        fixed: Collection[str] = (),
        nested: Mapping[str, str] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> "WeightSpace":
        """Builds a space from a written specification.

        Args:
            weights: A model, or its array leaves, or a pytree of
                `jax.ShapeDtypeStruct` of the same form. Only shapes and dtypes are
                read.
            spec: For each leaf's path (as in `jax.tree_util.keystr`, for instance
                `".layers[0].weight"`) one entry for each of its axes: a name; None
                where nothing may move the axis; or for an axis that is a product of
                parts a sequence of names and sizes, for instance `(3, "units")`.
                Without a spec no axis may move.
            fixed: Names that nothing may move.
            nested: For each name that is nested, the name whose blocks it lives in:
                `{"units": "heads"}`.
            sizes: Sizes of names, where the lengths of the axes leave them open.

        Returns:
            The space. It is taken on trust that the model's function is unchanged by
            the groups named; [`verify_symmetry`][wsl.verify_symmetry] checks it.

        Raises:
            ValueError: If the spec leaves out a leaf, names one that is not there, has
                the wrong number of axes, gives one name two sizes or a product that is
                not the axis' length, if `fixed` or `nested` do not fit the spec, or if
                a leaf is not of a floating dtype.

        Examples:
            >>> import equinox as eqx, jax, wsl
            >>> model = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
            >>> space = wsl.WeightSpace.from_spec(
            ...     model,
            ...     {
            ...         ".layers[0].weight": ("hidden", None),
            ...         ".layers[0].bias": ("hidden",),
            ...         ".layers[1].weight": (None, "hidden"),
            ...         ".layers[1].bias": (None,),
            ...     },
            ... )
            >>> space.groups
            {'hidden': 8}
        """
        with_paths, treedef = jtu.tree_flatten_with_path(eqx.filter(weights, _is_array))
        paths = tuple(jtu.keystr(path) for path, _ in with_paths)
        leaves = [leaf for _, leaf in with_paths]
        for path, leaf in zip(paths, leaves, strict=True):
            if not is_weight(leaf):
                raise ValueError(
                    f"Leaf {path!r} has dtype {leaf.dtype}; weights are real floating-"
                    "point arrays. Take the others out first, for instance with "
                    "`eqx.filter(model, eqx.is_inexact_array)`."
                )
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        if spec is None:
            spec = {
                path: (None,) * len(shape)
                for path, shape in zip(paths, shapes, strict=True)
            }
        return cls(
            treedef,
            paths,
            shapes,
            tuple(np.dtype(leaf.dtype).name for leaf in leaves),
            read_spec(spec, paths, shapes, sizes or {}),
            frozenset(fixed),
            tuple((nested or {}).items()),
        )

    def release(self, *names: str) -> "WeightSpace":
        """The same space with some fixed names free to move.

        A larger group than the model's own, to be used with care: what commutes with it
        treats, say, all inputs alike. It is how NFN layers for networks with many
        inputs stay small (Zhou et al. 2023, neuron permutation "NP"); encodings tell
        the inputs apart again.

        Args:
            *names: Names in `fixed`.

        Returns:
            The larger space.

        Raises:
            ValueError: If a name is not fixed.
        """
        for name in names:
            if name not in self.fixed:
                raise ValueError(
                    f"{name!r} is not fixed in this space; fixed: {sorted(self.fixed)}."
                )
        return dataclasses.replace(
            self,
            fixed=self.fixed - set(names),
            reasons=tuple((n, why) for n, why in self.reasons if n not in names),
        )

    @property
    def index_sets(self) -> dict[str, int]:
        """Size of each name's set of indices, in order of appearance."""
        return {
            factor.name: factor.size
            for axes in self.axes
            for factors in axes
            for factor in factors
            if factor.name is not None
        }

    @property
    def groups(self) -> dict[str, int]:
        """Size of each group's set of indices, by name, in order of appearance.

        For a nested group, of one block.
        """
        return {
            name: size
            for name, size in self.index_sets.items()
            if name not in self.fixed
        }

    @property
    def size(self) -> int:
        """How many numbers the weights hold."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def slots(self) -> tuple[tuple[Slot, ...], ...]:
        """For each leaf, those factors of its axes that a group acts on."""
        return tuple(
            find_slots(path, axes, self.fixed, dict(self.nested))
            for path, axes in zip(self.paths, self.axes, strict=True)
        )

    # The group.

    def element_shapes(self) -> dict[str, tuple[int, ...]]:
        """For each group, the shape of its permutations: sizes of the blocks, then `n`.

        Returns:
            Shapes, by the group's name.
        """
        groups = self.groups
        return {
            group: tuple(groups[name] for name in (*blocks, group))
            for group, blocks in self._blocks().items()
        }

    def identity(self) -> GroupElement:
        """The element that moves nothing."""
        return {
            group: jnp.broadcast_to(jnp.arange(shape[-1]), shape)
            for group, shape in self.element_shapes().items()
        }

    def sample(self, *, key: PRNGKeyArray) -> GroupElement:
        """Draws an element uniformly.

        Args:
            key: Source of randomness.

        Returns:
            One permutation of `0..n-1` for each group, and for each block of a nested
            one.
        """
        identity = self.identity()
        keys = jr.split(key, max(len(identity), 1))
        return {
            group: jr.permutation(subkey, unmoved, axis=-1, independent=True)
            for subkey, (group, unmoved) in zip(keys, identity.items(), strict=False)
        }

    def compose(self, first: GroupElement, second: GroupElement) -> GroupElement:
        """The element that acts as `first`, then `second`."""
        self._check_element(first)
        self._check_element(second)
        return {
            group: jnp.take_along_axis(
                move_blocks(first[group], [second[block] for block in blocks]),
                second[group],
                axis=-1,
            )
            for group, blocks in self._blocks().items()
        }

    def inverse(self, element: GroupElement) -> GroupElement:
        """The element that undoes `element`."""
        self._check_element(element)
        inverse: GroupElement = {}
        # What lies in a block comes after the block.
        for group, blocks in sorted(self._blocks().items(), key=lambda x: len(x[1])):
            moved = move_blocks(element[group], [inverse[block] for block in blocks])
            inverse[group] = jnp.argsort(moved, axis=-1)
        return {group: inverse[group] for group in self.groups}

    def permute(self, weights: PyTree, element: GroupElement) -> PyTree:
        """Acts on weights with a group element.

        Along every axis of group `g`, entry `i` of the result is entry `element[g][i]`
        of the weights. For a group nested in another, `g` in `h`: entry `(i, j)` is
        entry `(element[h][i], element[g][i, j])`.

        Args:
            weights: Weights of this space. A whole model is returned as a model, with
                what it holds beside its floating-point arrays as it was.
            element: A permutation for each group.

        Returns:
            The permuted weights, of the same structure as given.

        Raises:
            ValueError: If the weights are not of this space or the element lacks a
                group.
        """
        self._check_element(element)
        permuted = [
            permute_leaf(leaf, axes, slots, element)
            for leaf, axes, slots in zip(
                self._leaves(weights), self.axes, self.slots, strict=True
            )
        ]
        return eqx.combine(jax.tree.unflatten(self.treedef, permuted), weights)

    def permute_features(self, features: PyTree, element: GroupElement) -> PyTree:
        """Acts on weight features with a group element, channel by channel.

        Args:
            features: Weight features of this space: its leaves, each with one more
                axis, last.
            element: A permutation for each group.

        Returns:
            The permuted features.

        Raises:
            ValueError: If the features are not of this space or the element lacks a
                group.
        """
        self._check_element(element)
        return jax.tree.unflatten(
            self.treedef,
            [
                permute_leaf(leaf, axes, slots, element)
                for leaf, axes, slots in zip(
                    self.feature_leaves(features), self.axes, self.slots, strict=True
                )
            ],
        )

    def feature_leaves(
        self, features: PyTree, channels: Sequence[int] | None = None
    ) -> list[Array]:
        """The leaves of weight features, once they are seen to be of this space.

        Args:
            features: Leaves of this space, each with one more axis, last.
            channels: How many channels each leaf must have; None for any number.

        Returns:
            The leaves, in the order of `paths`.

        Raises:
            ValueError: If a leaf is missing or has another shape.
        """
        leaves, treedef = self._named_leaves(features)
        for i, (path, shape) in enumerate(zip(self.paths, self.shapes, strict=True)):
            found = tuple(leaves[i].shape)
            wanted = "channels" if channels is None else channels[i]
            if found[:-1] != shape or channels is not None and found[-1] != wanted:
                raise ValueError(
                    f"The features of leaf {path!r} have shape {found}; expected "
                    f"({', '.join(map(str, (*shape, wanted)))}). A batch goes through "
                    "`jax.vmap`."
                )
        self._check_structure(treedef)
        return leaves

    # The flat view.

    def flatten(self, weights: PyTree) -> Float[Array, " size"]:
        """The weights as one vector, leaf after leaf, each in row-major order.

        Args:
            weights: Weights of this space, or the model itself.

        Returns:
            A vector of the promoted dtype of all leaves.

        Raises:
            ValueError: If the weights are not of this space.
        """
        leaves = self._leaves(weights)
        dtype = self._flat_dtype()
        return jnp.concatenate(
            [jnp.zeros((0,), dtype), *(leaf.astype(dtype).ravel() for leaf in leaves)]
        )

    def unflatten(self, vector: Float[Array, " size"]) -> PyTree:
        """Inverse of [`flatten`][wsl.WeightSpace.flatten].

        Args:
            vector: As many numbers as the space has.

        Returns:
            The weights, each leaf in its own shape and dtype. Where the space was
            built from a model, join them with its other parts by `eqx.combine`.

        Raises:
            ValueError: If the vector has another length.
        """
        if vector.shape != (self.size,):
            raise ValueError(
                f"Expected a vector of {self.size} weights; got shape {vector.shape}."
            )
        stops = np.cumsum([math.prod(shape) for shape in self.shapes])
        parts = jnp.split(vector, stops[:-1]) if self.shapes else []
        leaves = [
            part.reshape(shape).astype(dtype)
            for part, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)

    # Showing itself.

    def table(self) -> str:
        """The leaves with their shapes and the group on each axis, as text."""
        nested, reasons = dict(self.nested), dict(self.reasons)
        groups = [
            f"{name} ({n}, in each of {nested[name]})"
            if name in nested
            else f"{name} ({n})"
            for name, n in self.groups.items()
        ]
        fixed = [
            f"{name} ({n}: {reasons[name]})" if name in reasons else f"{name} ({n})"
            for name, n in self.index_sets.items()
            if name in self.fixed
        ]
        lines = leaf_table(self.paths, self.shapes, self.axes)
        lines.append(f"groups: {', '.join(groups) or 'none'}")
        if fixed:
            lines.append(f"fixed: {', '.join(fixed)}")
        if self.unknown_primitives:
            lines.append(f"not followed: {', '.join(self.unknown_primitives)}")
        if self.ties:
            lines.append(f"moved together by: {'; '.join(self.ties)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    # Checks.

    def _flat_dtype(self) -> np.dtype:
        dtypes = [np.dtype(dtype) for dtype in self.dtypes]
        # The casts are explicit, so strict promotion need not forbid them.
        with jax.numpy_dtype_promotion("standard"):
            return jnp.result_type(*dtypes) if dtypes else np.dtype(np.float32)

    def _leaves(self, weights: PyTree) -> list[Any]:
        leaves, treedef = self._named_leaves(weights)
        for path, shape, leaf in zip(self.paths, self.shapes, leaves, strict=True):
            if tuple(leaf.shape) != shape:
                raise ValueError(
                    f"Leaf {path!r} has shape {tuple(leaf.shape)}; this space has "
                    f"{shape} there. A batch of weights goes through `jax.vmap`."
                )
        self._check_structure(treedef)
        return leaves

    def _named_leaves(self, tree: PyTree) -> tuple[list[Any], Any]:
        with_paths, treedef = jtu.tree_flatten_with_path(eqx.filter(tree, is_weight))
        given = {jtu.keystr(path): leaf for path, leaf in with_paths}
        if given.keys() != set(self.paths):
            raise ValueError(
                "The weights are not of this space. Leaves too many: "
                f"{[path for path in given if path not in self.paths]}; missing: "
                f"{[path for path in self.paths if path not in given]}."
            )
        return list(given.values()), treedef

    def _check_structure(self, treedef: Any) -> None:
        if treedef != self.treedef:
            raise ValueError(
                "The weights have the leaves of this space in another structure.\n"
                f"Space: {self.treedef}\nGiven: {treedef}"
            )

    def _blocks(self) -> dict[str, list[str]]:
        nested = dict(self.nested)
        return {group: ancestors(group, nested) for group in self.groups}

    def _check_element(self, element: GroupElement) -> None:
        for group, shape in self.element_shapes().items():
            if group not in element:
                raise ValueError(
                    f"The group element lacks a permutation for {group!r}; it has "
                    f"{sorted(element)}."
                )
            if element[group].shape != shape:
                raise ValueError(
                    f"The permutation for {group!r} has shape {element[group].shape}; "
                    f"expected {shape}."
                )


def is_weight(leaf: Any) -> bool:
    """Whether a leaf is an array of real floating-point numbers, or stands for one.

    NumPy arrays count, as they do for `equinox.is_inexact_array`.
    """
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
