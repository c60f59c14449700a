"""Spaces, weights and the action on them by its definition, for tests of all rooms."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from wsl import WeightSpace


# One function for all tests, so that layers of one form compile once, and as a whole.
call: Any = eqx.filter_jit(
    lambda function, *arguments, **options: function(*arguments, **options)
)


def array(numbers, dtype: Any = np.float32) -> jax.Array:
    """An array of JAX; `jnp.asarray` would compile a copy for each shape."""
    return jax.device_put(np.asarray(numbers, dtype))


def make_space(shapes, spec, **options) -> WeightSpace:
    """The space of a dictionary of arrays, by their names."""
    arrays = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    spec = {f"['{name}']": axes for name, axes in spec.items()}
    return WeightSpace.from_spec(arrays, spec, **options)


def chain_spec(count, prefix=".layers", *, use_bias=True):
    """The spec of a perceptron: rows, bias and next columns of a layer together."""
    names = [None, *(f"h{i}" for i in range(count - 1)), None]
    spec = {}
    for i in range(count):
        spec[f"{prefix}[{i}].weight"] = (names[i + 1], names[i])
        if use_bias:
            spec[f"{prefix}[{i}].bias"] = (names[i + 1],)
    return spec


def draw_weights(space: WeightSpace, seed):
    """Normal weights."""
    random = np.random.default_rng(seed)
    leaves = [
        array(random.standard_normal(leaf.shape), leaf.dtype) for leaf in space.leaves
    ]
    return jax.tree.unflatten(space.treedef, leaves)


def draw_network(network, seed=0):
    """A network with weights of order 1, of which only shapes need be known."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct | jax.Array):
            return leaf
        fan_in = int(np.prod(leaf.shape[1:])) if len(leaf.shape) > 1 else 4
        return array(random.standard_normal(leaf.shape) / np.sqrt(fan_in), leaf.dtype)

    return jax.tree.map(draw, network)


def draw_element(space: WeightSpace, seed):
    """An element of the group, of which nothing has to be compiled."""
    random = np.random.default_rng(seed)
    return {
        group: array(
            random.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1),
            np.int32,
        )
        for group, shape in space.element_shapes().items()
    }


def act(space: WeightSpace, leaves, element):
    """The action of an element on a list of leaves, in NumPy, by its definition."""
    moved = []
    leaves = [np.asarray(leaf) for leaf in leaves]
    element = {group: np.asarray(indices) for group, indices in element.items()}
    for leaf, described in zip(leaves, space.leaves, strict=True):
        result = np.array(leaf)
        for piece in described.pieces or (described,):
            # A piece is moved within itself.
            place = np.ix_(*piece.index) if described.pieces else ...
            result[place] = _act_on_piece(leaf[place], piece, element)
        moved.append(result)
    return moved


def _act_on_piece(leaf, described, element):
    sizes = [factor.size for factors in described.axes for factor in factors]
    grid = np.indices(sizes, sparse=True)
    source = list(grid)
    for slot in described.slots:
        index, above = [grid[slot.dimension]], slot.parent
        while above is not None:
            index.insert(0, grid[described.slots[above].dimension])
            above = described.slots[above].parent
        source[slot.dimension] = element[slot.group][tuple(index)]
    return leaf.reshape(sizes)[tuple(source)].reshape(leaf.shape)


def act_on_tree(space: WeightSpace, weights, element):
    """The same on weights of the space."""
    moved = act(space, jax.tree.leaves(weights), element)
    return jax.tree.unflatten(space.treedef, moved)


def act_on_network(space: WeightSpace, network, element):
    """The same on a whole network."""
    weights, rest = eqx.partition(network, eqx.is_array)
    moved = jax.tree.map(
        lambda x: array(x, x.dtype), act_on_tree(space, weights, element)
    )
    return eqx.combine(moved, rest)


def assert_same(a, b):
    """That two pytrees are equal to the bit, leaf by leaf."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
