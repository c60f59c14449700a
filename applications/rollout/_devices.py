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
from jaxtyping import Array


# The one axis of the mesh.
AXIS = "population"

Rows = TypeVar("Rows")
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


def on_all_devices(run: Callable[..., Tree], mesh: Mesh) -> Callable[..., Tree]:
    """Runs a function on every device, with the same arguments.

    Args:
        run: From arguments, the last of which is the name of the mesh's axis, to
            arrays. What it calls with `share_out` is shared out.
        mesh: The devices.

    Returns:
        From the arguments without the last to what `run` gives, the same on every
        device.
    """

    def on_mesh(*arguments: Any) -> Tree:
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        every = PartitionSpec()
        # Without check_vma: MJX's solvers loop over what varies among devices.
        return jax.shard_map(
            lambda arrays: run(*eqx.combine(arrays, rest), AXIS),
            mesh=mesh,
            in_specs=every,
            out_specs=every,
            check_vma=False,
        )(arrays)

    return on_mesh


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts the arrays of a pytree, which every process has, on all devices."""
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        if not eqx.is_array(leaf) or leaf.sharding == sharding:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jr.key_data(leaf))
            return jr.wrap_key_data(data, impl=jr.key_impl(leaf))
        copies = [jax.device_put(leaf, device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, copies)

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


def gather_parts(part: Tree, parts: int, size: int) -> Tree:
    """Joins what each process has, in the order of the processes.

    Args:
        part: Arrays with equally many rows in every part.
        parts: How many parts there are, each of one process.
        size: How many rows to keep.

    Returns:
        The rows of all parts, in each process.
    """
    joined = part
    if parts > 1:
        joined = multihost_utils.process_allgather(part, tiled=True)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[:size]), joined)
