"""Many devices: the population is shared out, everything else is on all of them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree


# The one axis of the mesh.
AXIS = "population"

Rows = TypeVar("Rows")
State = TypeVar("State")
Tree = TypeVar("Tree")


def mesh_of(devices: Sequence[Any] | None = None) -> Mesh | None:
    """Puts devices in a row.

    Args:
        devices: The devices; all devices of all processes unless given.

    Returns:
        A mesh with one axis, or None where no devices are given and there is only one:
        computations then run where JAX puts them.
    """
    if devices is None:
        devices = jax.devices()
        if len(devices) == 1:
            return None
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def share_out(run: Callable[[Rows], Tree], rows: Rows, axis: str) -> Tree:
    """Runs on each device its own part of some rows, and tells all of them the results.

    Called inside `jax.shard_map`.

    Args:
        run: From some of the rows to arrays with as many rows.
        rows: A pytree of arrays, with the rows first; the same on every device.
        axis: Axis of the mesh.

    Returns:
        What `run` gives for all rows; the same on every device.
    """
    size = jax.tree.leaves(rows)[0].shape[0]
    # Equal parts: the last ones are filled up with the last row, and cut off again.
    part = -(-size // jax.lax.axis_size(axis))
    at = jax.lax.axis_index(axis) * part + jnp.arange(part)
    own = jax.tree.map(lambda leaf: leaf[jnp.minimum(at, size - 1)], rows)
    # No reduction: its order, and so its bits, would depend on the devices.
    gathered = jax.lax.all_gather(run(own), axis, tiled=True)
    return jax.tree.map(lambda leaf: leaf[:size], gathered)


def on_all_devices(
    step: Callable[..., tuple[State, PyTree[Array]]], state: State, mesh: Mesh
) -> tuple[State, PyTree[Array]]:
    """Calls a step on every device, with the same state.

    Args:
        step: From a state and the name of the mesh's axis to the next one and metrics.
            May carry arrays of its own, if it is a pytree.
        state: The state.
        mesh: The devices.

    Returns:
        The next state and the metrics, the same on every device.
    """
    arrays, rest = eqx.partition((step, state), eqx.is_array)

    def on_one(arrays: PyTree) -> PyTree:
        own_step, own_state = eqx.combine(arrays, rest)
        after, metrics = own_step(own_state, AXIS)
        return eqx.filter(after, eqx.is_array), metrics

    every = PartitionSpec()
    # Without check_vma: MJX's solvers loop over what varies among devices.
    after, metrics = jax.shard_map(
        on_one, mesh=mesh, in_specs=every, out_specs=every, check_vma=False
    )(arrays)
    return eqx.combine(after, rest[1]), metrics


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts the arrays of a pytree, which every process has, on all devices."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        if not eqx.is_array(leaf) or leaf.sharding == sharding:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jr.key_data(leaf))
            return jr.wrap_key_data(data, impl=jr.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda at: host[at])

    return jax.tree.map(put, tree)


def own_copy(tree: Tree) -> Tree:
    """What this process's first device holds of arrays that are on all devices."""

    def take(leaf: Any) -> Any:
        # Arrays of NumPy are this process's own.
        if not isinstance(leaf, Array):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jr.key_data(leaf).addressable_data(0)
            return jr.wrap_key_data(data, impl=jr.key_impl(leaf))
        return leaf.addressable_data(0)

    return jax.tree.map(take, tree)


def gather_parts(part: Tree, size: int) -> Tree:
    """Joins what each process has, in the order of the processes.

    Args:
        part: Arrays with equally many rows in every process.
        size: How many rows to keep.

    Returns:
        The rows of all processes, in each of them.
    """
    joined = multihost_utils.process_allgather(part, tiled=True)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[:size]), joined)
