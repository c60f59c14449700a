"""Networks of one form as one: stacked leaf by leaf, and taken apart again."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Int


Network = TypeVar("Network")


def stack(networks: Sequence[Network]) -> Network:
    """Networks of one form as one, whose arrays have a leading axis over them.

    What is no array (activations, names, sizes) is the same in all of them, and stays
    as it is; `jax.tree.map(jnp.stack, ...)` stumbles over it. What takes one network
    goes over a stack by `equinox.filter_vmap`.

    Args:
        networks: Networks of one architecture, one or more.

    Returns:
        The stack, of the same type.

    Raises:
        ValueError: If there are none, or they differ in structure, in the shape or
            dtype of a leaf, or in a leaf that is no array.

    Examples:
        >>> import equinox as eqx, jax, wsl
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> networks = [eqx.nn.MLP(2, 1, 4, 1, key=key) for key in keys]
        >>> stacked = wsl.stack(networks)
        >>> stacked.layers[0].weight.shape
        (3, 4, 2)
        >>> eqx.filter_vmap(lambda network: network(jax.numpy.ones(2)))(stacked).shape
        (3, 1)
    """
    networks = list(networks)
    if not networks:
        raise ValueError("There is nothing to stack: give one network or more.")
    flat = [jtu.tree_flatten_with_path(network) for network in networks]
    columns = list(zip(*(leaves for leaves, _ in flat), strict=False))
    treedef = flat[0][1]
    for i, (leaves, other) in enumerate(flat):
        paths = [jtu.keystr(path) for path, _ in leaves]
        first = [jtu.keystr(path) for path, _ in flat[0][0]]
        if paths != first:
            differ = sorted(set(paths) ^ set(first))
            raise ValueError(
                f"Network {i} has other leaves than network 0: {differ}. A stack holds "
                "networks of one architecture."
            )
        if other != treedef:
            raise ValueError(
                f"Network {i} has the leaves of network 0 in another structure.\n"
                f"Network 0: {treedef}\nNetwork {i}: {other}"
            )
    return jax.tree.unflatten(treedef, [_stack_leaf(column) for column in columns])


def unstack(networks: Network) -> list[Network]:
    """The networks of a stack, one by one.

    Args:
        networks: Networks stacked leaf by leaf, as [`stack`][wsl.stack] or
            `equinox.filter_vmap` of an initialiser makes them.

    Returns:
        The networks, in order.

    Raises:
        ValueError: If it is no stack.
    """
    length = _length(networks)
    leaves, treedef = jax.tree.flatten(networks)
    # In NumPy: JAX would compile a slice for every shape.
    hosts = [np.asarray(x) if _is_array(x) else x for x in leaves]
    return [
        jax.tree.unflatten(
            treedef, [jnp.asarray(x[i]) if _is_array(x) else x for x in hosts]
        )
        for i in range(length)
    ]


def take(
    networks: Network, chosen: int | Sequence[int] | np.ndarray | Int[Array, "..."]
) -> Network:
    """Some networks of a stack, in the order given, or one of them.

    Args:
        networks: Networks stacked leaf by leaf.
        chosen: Which: one number for a network, several for a stack of them; or a
            boolean mask over all.

    Returns:
        The network, or the stack.

    Raises:
        ValueError: If it is no stack, or does not have what is chosen.
    """
    length = _length(networks)
    at = np.asarray(chosen)
    if at.dtype == bool and at.shape == (length,):
        at = np.flatnonzero(at)
    if at.size == 0:
        at = at.astype(int)
    if at.dtype.kind not in "iu" or np.any((at < -length) | (at >= length)):
        raise ValueError(
            f"The stack holds {length} networks; choose among 0 to {length - 1}. Got "
            f"{chosen}."
        )
    return jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x)[at]) if _is_array(x) else x, networks
    )


def count_stacked(shapes: Sequence[tuple[int, ...]], own: Sequence[tuple[int, ...]]):
    """How many networks of some shapes others hold, stacked; None if they do not."""
    ahead = {shape[:1] for shape in shapes}
    stacked = all(
        shape[1:] == mine and len(shape) == len(mine) + 1
        for shape, mine in zip(shapes, own, strict=True)
    )
    return ahead.pop()[0] if len(ahead) == 1 and stacked else None


def _stack_leaf(column: Sequence[tuple[Any, Any]]) -> Any:
    path, leaves = jtu.keystr(column[0][0]), [leaf for _, leaf in column]
    if not all(map(_is_array, leaves)):
        for i, leaf in enumerate(leaves):
            if leaf is not leaves[0] and not _same(leaf, leaves[0]):
                raise ValueError(
                    f"Leaf {path!r} is {leaves[0]!r} in network 0 and {leaf!r} in "
                    f"network {i}. What is no array must be the same in all of them."
                )
        return leaves[0]
    for i, leaf in enumerate(leaves):
        if leaf.shape != leaves[0].shape or leaf.dtype != leaves[0].dtype:
            raise ValueError(
                f"Leaf {path!r} has shape {leaves[0].shape} and dtype "
                f"{leaves[0].dtype} in network 0, but {leaf.shape} and {leaf.dtype} in "
                f"network {i}. A stack holds networks of one architecture."
            )
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return jnp.asarray(np.stack(leaves))
    return jnp.stack(leaves)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and not _is_array(a) and bool(a == b)


def _length(networks: Any) -> int:
    arrays = [
        (jtu.keystr(path), leaf)
        for path, leaf in jtu.tree_leaves_with_path(networks)
        if _is_array(leaf)
    ]
    if not arrays:
        raise ValueError("There are no arrays, so that this is no stack of networks.")
    if isinstance(networks, list | tuple):
        hint = " A list of networks becomes a stack by `wsl.stack`."
    else:
        hint = ""
    lengths = {path: leaf.shape[0] if leaf.ndim else None for path, leaf in arrays}
    first = next(iter(lengths.values()))
    other = next((path for path, n in lengths.items() if n is None or n != first), None)
    if first is None or other is not None:
        path = other or arrays[0][0]
        raise ValueError(
            "In a stack every array has a leading axis over the networks, of one "
            f"length. Leaf {arrays[0][0]!r} has shape {arrays[0][1].shape}, leaf "
            f"{path!r} {dict(arrays)[path].shape}.{hint}"
        )
    return int(first)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)
