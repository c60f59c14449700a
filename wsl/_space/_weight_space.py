"""The weights of a model as a space on which permutation groups act."""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, overload, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from wsl._space import _action
from wsl._space._action import ancestors, GroupElement
from wsl._space._axes import find_slots
from wsl._space._leaf import is_weight, Leaf, read
from wsl._space._spec import AxisSpec, read_spec, Stacked
from wsl._space._stacks import count_stacked
from wsl._space._table import table


Weights = TypeVar("Weights")


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
    units inside each head. And it may be a sum, one index set after the other: units
    beside the inputs that were appended to them, queries beside keys and values, the
    layers of a stack. Such a leaf is looked at in `pieces`, whose axes are products.

    A space is immutable, hashable, equal to any other with the same leaves, axes, fixed
    and nested names, and holds no arrays: it can be closed over or kept in a static
    field.

    [`infer_weight_space`][wsl.infer_weight_space] derives one from a model;
    [`from_spec`][wsl.WeightSpace.from_spec] takes one that is written by hand.

    Attributes:
        treedef: Structure of the weights.
        leaves: The leaves, in the order of flattening.
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
    leaves: tuple[Leaf, ...]
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

        def with_slots(leaf: Leaf) -> Leaf:
            return dataclasses.replace(
                leaf,
                slots=find_slots(leaf.path, leaf.axes, self.fixed, nested),
                pieces=tuple(map(with_slots, leaf.pieces)),
            )

        object.__setattr__(self, "leaves", tuple(map(with_slots, self.leaves)))
        self.__dict__.pop("pieces", None)  # Cached, without slots.

    @classmethod
    def from_spec(
        cls,
        weights: PyTree,
        spec: Mapping[str, Sequence[AxisSpec] | Stacked] | None = None,
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
                parts a sequence of names and sizes, for instance `(3, "units")`; or
                for one that is put together from stretches a [`Sum`][wsl.Sum], for
                instance `Sum("units", 2)`, which may also be a part of a product. For a
                leaf that is a stack of layers a [`Stacked`][wsl.Stacked].
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
        leaves, treedef = read(weights)
        if spec is not None:
            leaves = read_spec(spec, leaves, sizes or {})
        return cls(treedef, leaves, frozenset(fixed), tuple((nested or {}).items()))

    def unfix(self, *names: str) -> "WeightSpace":
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

    @functools.cached_property
    def pieces(self) -> tuple[Leaf, ...]:
        """What the groups act on: the leaves, those with sums in pieces."""
        return tuple(p for leaf in self.leaves for p in leaf.pieces or (leaf,))

    @property
    def index_sets(self) -> dict[str, int]:
        """Size of each name's set of indices, in order of appearance."""
        return {
            factor.name: factor.size
            for piece in self.pieces
            for factor in piece.factors
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
        return sum(math.prod(leaf.shape) for leaf in self.leaves)

    @property
    def blocks(self) -> dict[str, tuple[str, ...]]:
        """For each group, the groups in whose blocks it is nested, outermost first."""
        nested = dict(self.nested)
        return {group: tuple(ancestors(group, nested)) for group in self.groups}

    # The group.

    def element_shapes(self) -> dict[str, tuple[int, ...]]:
        """For each group, the shape of its permutations: sizes of the blocks, then `n`.

        Returns:
            Shapes, by the group's name.
        """
        groups = self.groups
        return {
            group: tuple(groups[name] for name in (*blocks, group))
            for group, blocks in self.blocks.items()
        }

    def identity(self) -> GroupElement:
        """The element that moves nothing."""
        unmoved = _action.identity(self.element_shapes())
        return {group: jax.device_put(indices) for group, indices in unmoved.items()}

    def sample(self, *, key: PRNGKeyArray) -> GroupElement:
        """Draws an element uniformly.

        Args:
            key: Source of randomness.

        Returns:
            One permutation of `0..n-1` for each group, and for each block of a nested
            one.
        """
        return _sample(self, key)

    def compose(self, first: GroupElement, second: GroupElement) -> GroupElement:
        """The element that acts as `first`, then `second`."""
        return _compose(self, self._own(first), self._own(second))

    def inverse(self, element: GroupElement) -> GroupElement:
        """The element that undoes `element`."""
        return _inverse(self, self._own(element))

    def permute(self, weights: Weights, element: GroupElement) -> Weights:
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
        element = self._own(element)
        permuted = _permute(self, self.weight_leaves(weights), element)
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
        element = self._own(element)
        permuted = _permute(self, self.feature_leaves(features), element)
        return jax.tree.unflatten(self.treedef, permuted)

    def weight_leaves(self, weights: PyTree) -> list[Any]:
        """The leaves of weights, once they are seen to be of this space.

        Args:
            weights: Weights of this space, or the model itself.

        Returns:
            The leaves, in the order of the space's.

        Raises:
            ValueError: If a leaf is missing or has another shape.
        """
        arrays, treedef = self._matched(weights)
        self._check_no_stack(arrays, ())
        for leaf, array in zip(self.leaves, arrays, strict=True):
            if tuple(array.shape) != leaf.shape:
                raise ValueError(
                    f"Leaf {leaf.path!r} has shape {tuple(array.shape)}; this space "
                    f"has {leaf.shape} there. A batch of weights goes through "
                    "`jax.vmap`."
                )
        self._check_structure(treedef)
        return arrays

    def feature_leaves(
        self, features: PyTree, channels: Sequence[int] | None = None
    ) -> list[Array]:
        """The leaves of weight features, once they are seen to be of this space.

        Args:
            features: Leaves of this space, each with one more axis, last.
            channels: How many channels each leaf must have; None for any number.

        Returns:
            The leaves, in the order of the space's.

        Raises:
            ValueError: If a leaf is missing or has another shape.
        """
        arrays, treedef = self._matched(features)
        self._check_no_stack(arrays, (-1,))
        for i, (leaf, array) in enumerate(zip(self.leaves, arrays, strict=True)):
            found = tuple(array.shape)
            wanted = "channels" if channels is None else channels[i]
            if found[:-1] != leaf.shape or channels is not None and found[-1] != wanted:
                raise ValueError(
                    f"The features of leaf {leaf.path!r} have shape {found}; expected "
                    f"({', '.join(map(str, (*leaf.shape, wanted)))}). A batch goes "
                    "through `jax.vmap`."
                )
        self._check_structure(treedef)
        return arrays

    # Pieces.

    def cut(self, arrays: Sequence[Any]) -> list[Any]:
        """The arrays of the pieces, from those of the leaves.

        Args:
            arrays: One array for each leaf, which may have more axes, last.

        Returns:
            One array for each of [`pieces`][wsl.WeightSpace.pieces].
        """
        pairs = zip(self.leaves, arrays, strict=True)
        return [piece for leaf, array in pairs for piece in leaf.cut(array)]

    def join(self, pieces: Sequence[Any]) -> list[Any]:
        """Undoes [`cut`][wsl.WeightSpace.cut].

        Args:
            pieces: One array for each piece.

        Returns:
            One array for each leaf.
        """
        rest = iter(pieces)
        return [
            leaf.join([next(rest) for _ in leaf.pieces or (leaf,)])
            for leaf in self.leaves
        ]

    def cut_features(
        self, features: PyTree, channels: Sequence[int] | None = None
    ) -> list[Array]:
        """Weight features in pieces, once they are seen to be of this space.

        Args:
            features: Leaves of this space, each with one more axis, last.
            channels: How many channels each piece must have; None for any number.

        Returns:
            The features of each of [`pieces`][wsl.WeightSpace.pieces].

        Raises:
            ValueError: If a leaf is missing or has another shape.
        """
        if channels is not None:
            rest = iter(channels)
            # Pieces of one leaf have as many.
            channels = [
                [next(rest) for _ in leaf.pieces or (leaf,)][0] for leaf in self.leaves
            ]
        return self.cut(self.feature_leaves(features, channels))

    def join_features(self, pieces: Sequence[Any]) -> PyTree:
        """Undoes [`cut_features`][wsl.WeightSpace.cut_features].

        Args:
            pieces: The features of each piece.

        Returns:
            Weight features of the space.
        """
        return jax.tree.unflatten(self.treedef, self.join(pieces))

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
        return _flatten(self, self.weight_leaves(weights))

    @overload
    def unflatten(self, vector: Float[Array, " size"]) -> PyTree: ...

    @overload
    def unflatten(self, vector: Float[Array, " size"], like: Weights) -> Weights: ...

    def unflatten(self, vector: Float[Array, " size"], like: Any = None) -> Any:
        """Inverse of [`flatten`][wsl.WeightSpace.flatten].

        Args:
            vector: As many numbers as the space has.
            like: A model of the space. Given, the result is such a model, which can be
                called: what it holds beside its weights is taken from this one.

        Returns:
            The weights, each leaf in its own shape and dtype. Without `like` they are
            no more than arrays: a model's activation, for instance, is missing.

        Raises:
            ValueError: If the vector has another length.
        """
        if vector.shape != (self.size,):
            raise ValueError(
                f"Expected a vector of {self.size} weights; got shape {vector.shape}."
            )
        weights = jax.tree.unflatten(self.treedef, _unflatten(self, vector))
        return weights if like is None else eqx.combine(weights, like)

    # Showing itself.

    def table(self) -> str:
        """The leaves with their shapes and the group on each axis, as text.

        A sum of index sets is written `g0 + g1`. Where the names on one axis depend on
        the place on another, as in a stack of layers, every piece has a line.
        """
        return table(self)

    def __str__(self) -> str:
        return self.table()

    # Copies: Equinox's structures of trees hold an object that a copy is not equal to.

    def __copy__(self) -> "WeightSpace":
        return self

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "WeightSpace":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        tree = jax.tree.unflatten(self.treedef, range(len(self.leaves)))
        fields = dataclasses.fields(self)[1:]
        return _rebuild, (tree, *(getattr(self, field.name) for field in fields))

    # The hash of a structure goes through all of it.

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.treedef, self.leaves, self.fixed, self.nested))

    # Checks.

    def _matched(self, tree: PyTree) -> tuple[list[Any], Any]:
        """The arrays of a tree that has the paths of this space, and its structure."""
        with_paths, treedef = jtu.tree_flatten_with_path(eqx.filter(tree, is_weight))
        given = {jtu.keystr(path): array for path, array in with_paths}
        paths = [leaf.path for leaf in self.leaves]
        if given.keys() != set(paths):
            if isinstance(tree, list | tuple) and len(tree) and self._are_mine(tree):
                raise ValueError(
                    f"This is a {type(tree).__name__} of {len(tree)} networks of the "
                    "space; one is expected. Stack them, and go over the stack: "
                    "`equinox.filter_vmap(function)(wsl.stack(networks))`."
                )
            raise ValueError(
                "The weights are not of this space. Leaves too many: "
                f"{[path for path in given if path not in paths]}; missing: "
                f"{[path for path in paths if path not in given]}."
            )
        return list(given.values()), treedef

    def _are_mine(self, networks: Sequence[PyTree]) -> bool:
        """Whether each of several trees has the leaves of this space."""
        paths = {leaf.path for leaf in self.leaves}
        return all(
            {jtu.keystr(path) for path, _ in jtu.tree_leaves_with_path(one)} == paths
            for one in (eqx.filter(network, is_weight) for network in networks)
        )

    def _check_no_stack(self, arrays: Sequence[Any], more: tuple[int, ...]) -> None:
        """Says what to do with many networks where one is expected."""
        own = [(*leaf.shape, *more) for leaf in self.leaves]
        shapes = [(*x.shape[: x.ndim - len(more)], *more) for x in arrays]
        number = count_stacked(shapes, own)
        if number is not None and number > 1:
            raise ValueError(
                f"These are {number} networks of the space, stacked leaf by leaf; one "
                "is expected. Go over the stack by `jax.vmap` or, for whole models, "
                "`equinox.filter_vmap(function)(networks)`."
            )

    def _check_structure(self, treedef: Any) -> None:
        if treedef != self.treedef:
            raise ValueError(
                "The weights have the leaves of this space in another structure.\n"
                f"Space: {self.treedef}\nGiven: {treedef}"
            )

    def _own(self, element: Mapping[str, Any]) -> GroupElement:
        """The permutations of this space's groups in an element, checked."""
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
        return {group: element[group] for group in self.groups}


def _rebuild(tree: PyTree, *fields: Any) -> WeightSpace:
    return WeightSpace(jax.tree.structure(tree), *fields)


# What is computed, each one compilation for a space.

_of_space = functools.partial(jax.jit, static_argnums=0, inline=True)


@_of_space
def _sample(space: WeightSpace, key: PRNGKeyArray) -> GroupElement:
    identity = space.identity()
    keys = jr.split(key, max(len(identity), 1))
    return {
        group: jr.permutation(subkey, unmoved, axis=-1, independent=True)
        for subkey, (group, unmoved) in zip(keys, identity.items(), strict=False)
    }


@_of_space
def _compose(
    space: WeightSpace, first: GroupElement, second: GroupElement
) -> GroupElement:
    return _action.compose(first, second, space.blocks)


@_of_space
def _inverse(space: WeightSpace, element: GroupElement) -> GroupElement:
    return _action.inverse(element, space.blocks)


@_of_space
def _permute(
    space: WeightSpace, arrays: list[Array], element: GroupElement
) -> list[Array]:
    moved = _action.permute_leaves(space.pieces, space.cut(arrays), element)
    return space.join(moved)


@_of_space
def _flatten(space: WeightSpace, arrays: list[Array]) -> Float[Array, " size"]:
    dtypes = [np.dtype(leaf.dtype) for leaf in space.leaves]
    # The casts are explicit, so strict promotion need not forbid them.
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*dtypes) if dtypes else np.dtype(np.float32)
    parts = [array.astype(dtype).ravel() for array in arrays]
    return jnp.concatenate([jnp.zeros((0,), dtype), *parts])


@_of_space
def _unflatten(space: WeightSpace, vector: Float[Array, " size"]) -> list[Array]:
    stops = np.cumsum([math.prod(leaf.shape) for leaf in space.leaves])
    parts = jnp.split(vector, stops[:-1]) if space.leaves else []
    return [
        part.reshape(leaf.shape).astype(leaf.dtype)
        for leaf, part in zip(space.leaves, parts, strict=True)
    ]
