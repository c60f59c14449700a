"""The weights of a model as a space on which permutation groups act."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree


GroupElement: TypeAlias = dict[str, Int[Array, " n"]]
"""One permutation for each group of a space, by the group's name."""


@dataclasses.dataclass(frozen=True)
class WeightSpace:
    """The floating-point array leaves of a model, and who may permute their axes.

    For every axis of every leaf the space holds the name of the permutation group that
    acts on it, or None where nothing may move it. Axes that carry the same name move
    together, wherever they are: the rows of one layer's matrix, the same layer's bias
    and the columns of the next matrix share a name. A name may also stand twice on one
    leaf (recurrent weights).

    A space is immutable, hashable, equal to any other with the same leaves and axes,
    and holds no arrays: it can be closed over or kept in a static field.

    Build one with [`from_spec`][wsl.WeightSpace.from_spec].

    Attributes:
        treedef: Structure of the weights.
        paths: Path of each leaf, in the order of flattening, as written by
            `jax.tree_util.keystr`.
        shapes: Shape of each leaf.
        dtypes: Name of each leaf's dtype.
        axes: For each leaf, for each of its axes, the name of its group or None.
    """

    treedef: jtu.PyTreeDef  # pyright: ignore[reportInvalidTypeForm]
    paths: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    axes: tuple[tuple[str | None, ...], ...]

    @classmethod
    def from_spec(
        cls,
        weights: PyTree,
        spec: Mapping[str, Sequence[str | None]] | None = None,
    ) -> "WeightSpace":
        """Builds a space from a written specification.

        Args:
            weights: A model, or its array leaves, or a pytree of
                `jax.ShapeDtypeStruct` of the same form. Only shapes and dtypes are
                read.
            spec: For each leaf's path (as in `jax.tree_util.keystr`, for instance
                `".layers[0].weight"`) one group name or None for each of its axes.
                Without a spec no axis may move.

        Returns:
            The space. It is taken on trust that the model's function is unchanged by
            the groups named.

        Raises:
            ValueError: If the spec leaves out a leaf, names one that is not there, has
                the wrong number of axes, gives one group two sizes, or if a leaf is
                not of a floating dtype.

        Example:
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
        with_paths, treedef = jtu.tree_flatten_with_path(_arrays(weights))
        paths = tuple(jtu.keystr(path) for path, _ in with_paths)
        leaves = [leaf for _, leaf in with_paths]
        for path, leaf in zip(paths, leaves, strict=True):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    f"Leaf {path!r} has dtype {leaf.dtype}; weights are floating-point "
                    "arrays. Take the others out first, for instance with "
                    "`eqx.filter(model, eqx.is_inexact_array)`."
                )
        shapes = tuple(tuple(leaf.shape) for leaf in leaves)
        if spec is None:
            axes: tuple[tuple[str | None, ...], ...] = tuple(
                (None,) * len(shape) for shape in shapes
            )
        else:
            axes = _read_spec(spec, paths, shapes)
        dtypes = tuple(np.dtype(leaf.dtype).name for leaf in leaves)
        return cls(treedef, paths, shapes, dtypes, axes)

    @property
    def groups(self) -> dict[str, int]:
        """Size of each group's set of indices, by name, in order of appearance."""
        sizes: dict[str, int] = {}
        for shape, axes in zip(self.shapes, self.axes, strict=True):
            for length, group in zip(shape, axes, strict=True):
                if group is not None:
                    sizes[group] = length
        return sizes

    @property
    def size(self) -> int:
        """How many numbers the weights hold."""
        return sum(math.prod(shape) for shape in self.shapes)

    # The group.

    def identity(self) -> GroupElement:
        """The element that moves nothing."""
        return {group: jnp.arange(n) for group, n in self.groups.items()}

    def sample(self, *, key: PRNGKeyArray) -> GroupElement:
        """Draws an element uniformly.

        Args:
            key: Source of randomness.

        Returns:
            One permutation of `0..n-1` for each group.
        """
        groups = self.groups
        keys = jr.split(key, max(len(groups), 1))
        return {
            group: jr.permutation(subkey, n)
            for subkey, (group, n) in zip(keys, groups.items(), strict=False)
        }

    def compose(self, first: GroupElement, second: GroupElement) -> GroupElement:
        """The element that acts as `first`, then `second`."""
        self._check_element(first)
        self._check_element(second)
        return {group: first[group][second[group]] for group in self.groups}

    def inverse(self, element: GroupElement) -> GroupElement:
        """The element that undoes `element`."""
        self._check_element(element)
        return {group: jnp.argsort(element[group]) for group in self.groups}

    def permute(self, weights: PyTree, element: GroupElement) -> PyTree:
        """Acts on weights with a group element.

        Along every axis of group `g`, entry `i` of the result is entry `element[g][i]`
        of the weights.

        Args:
            weights: Weights of this space; a whole model is returned as a model.
            element: A permutation for each group.

        Returns:
            The permuted weights, of the same structure as given.

        Raises:
            ValueError: If the weights are not of this space or the element lacks a
                group.
        """
        self._check_element(element)
        permuted = []
        for leaf, axes in zip(self._leaves(weights), self.axes, strict=True):
            for axis, group in enumerate(axes):
                if group is not None:
                    leaf = jnp.take(leaf, element[group], axis=axis)
            permuted.append(leaf)
        return eqx.combine(jax.tree.unflatten(self.treedef, permuted), weights)

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
        header = ("leaf", "shape", "axes")
        rows = [
            (path, str(shape), ", ".join(group or "-" for group in axes))
            for path, shape, axes in zip(
                self.paths, self.shapes, self.axes, strict=True
            )
        ]
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(3)]
        lines = [
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in [header, *rows]
        ]
        sizes = ", ".join(f"{group} ({n})" for group, n in self.groups.items())
        return "\n".join([*lines, f"groups: {sizes or 'none'}"])

    def __str__(self) -> str:
        return self.table()

    # Checks.

    def _flat_dtype(self) -> np.dtype:
        dtypes = [np.dtype(dtype) for dtype in self.dtypes]
        # The casts are explicit, so strict promotion need not forbid them.
        with jax.numpy_dtype_promotion("standard"):
            return jnp.result_type(*dtypes) if dtypes else np.dtype(np.float32)

    def _leaves(self, weights: PyTree) -> list[Any]:
        with_paths, treedef = jtu.tree_flatten_with_path(_arrays(weights))
        given = {jtu.keystr(path): leaf for path, leaf in with_paths}
        if given.keys() != set(self.paths):
            raise ValueError(
                "The weights are not of this space. Leaves too many: "
                f"{[path for path in given if path not in self.paths]}; missing: "
                f"{[path for path in self.paths if path not in given]}."
            )
        for path, shape in zip(self.paths, self.shapes, strict=True):
            if tuple(given[path].shape) != shape:
                raise ValueError(
                    f"Leaf {path!r} has shape {tuple(given[path].shape)}; this space "
                    f"has {shape} there. A batch of weights goes through `jax.vmap`."
                )
        if treedef != self.treedef:
            raise ValueError(
                "The weights have the leaves of this space in another structure.\n"
                f"Space: {self.treedef}\nGiven: {treedef}"
            )
        return list(given.values())

    def _check_element(self, element: GroupElement) -> None:
        for group, n in self.groups.items():
            if group not in element:
                raise ValueError(
                    f"The group element lacks a permutation for {group!r}; it has "
                    f"{sorted(element)}."
                )
            if element[group].shape != (n,):
                raise ValueError(
                    f"The permutation for {group!r} has shape {element[group].shape}; "
                    f"expected ({n},)."
                )


def _arrays(weights: PyTree) -> PyTree:
    return eqx.filter(
        weights,
        lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct),
    )


def _read_spec(
    spec: Mapping[str, Sequence[str | None]],
    paths: tuple[str, ...],
    shapes: tuple[tuple[int, ...], ...],
) -> tuple[tuple[str | None, ...], ...]:
    unknown = [path for path in spec if path not in paths]
    if unknown:
        raise ValueError(
            f"The spec names {unknown}, which the weights do not have. "
            f"Their leaves: {list(paths)}."
        )
    missing = [path for path in paths if path not in spec]
    if missing:
        raise ValueError(
            f"The spec leaves out {missing}. Give every leaf one entry for each axis, "
            "None where nothing may move it."
        )
    first_use: dict[str, tuple[str, int]] = {}
    for path, shape in zip(paths, shapes, strict=True):
        if isinstance(spec[path], str) or len(spec[path]) != len(shape):
            raise ValueError(
                f"The spec of leaf {path!r} is {spec[path]!r}, but the leaf has shape "
                f"{shape}: give a sequence of {len(shape)} entries."
            )
        for length, group in zip(shape, spec[path], strict=True):
            if group is None:
                continue
            other_path, other_length = first_use.setdefault(group, (path, length))
            if length != other_length:
                raise ValueError(
                    f"Group {group!r} has size {other_length} on leaf {other_path!r} "
                    f"but {length} on leaf {path!r}."
                )
    return tuple(tuple(spec[path]) for path in paths)
