"""Several processes that train one run together, through `jax.distributed`.

All of them do the same; the first one also reads, writes and prints. Without others,
every function here does nothing that costs time.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array, PyTree

from applications.training.processes._errors import CollectiveStop, explain
from applications.training.storage import from_numpy, to_numpy


Result = TypeVar("Result")
State = TypeVar("State")


def is_main() -> bool:
    """Whether this process is the one that reads, writes and prints."""
    return jax.process_index() == 0


def shutdown() -> None:
    """Waits until every process has come here, and parts from them."""
    if jax.distributed.is_initialized():
        multihost_utils.sync_global_devices("shutdown")
        jax.distributed.shutdown()


def any_process(flag: bool) -> bool:
    """Whether it holds in at least one process."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def on_all(action: Callable[[], Result]) -> Result:
    """Does something in each process; if it fails in one, all stop together.

    Args:
        action: What to do; it may not wait for other processes.

    Returns:
        What it returns.

    Raises:
        CollectiveStop: If there are several processes and in one of them it raised an
            error that the user is to be told. The first such process tells it.
    """
    if jax.process_count() == 1:
        return action()
    result, message = None, None
    try:
        result = action()
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
    failed = multihost_utils.process_allgather(np.asarray(message is not None))
    if failed.any():
        raise CollectiveStop(
            message if np.argmax(failed) == jax.process_index() else None
        )
    # Without a message, there is a result.
    return result  # pyright: ignore[reportReturnType]


def on_main(action: Callable[[], Result]) -> Result | None:
    """Does something in the first process only; if it fails, all stop together.

    Args:
        action: As for `on_all`.

    Returns:
        What it returns; None in the other processes.

    Raises:
        CollectiveStop: As `on_all`.
    """
    return on_all(lambda: action() if is_main() else None)


def broadcast(value: Any) -> Any:
    """Gives all processes the value of the first one.

    Args:
        value: What JSON can hold. It is not looked at in other processes.

    Returns:
        The first process's value.
    """
    if jax.process_count() == 1:
        return value
    text = json.dumps(value).encode() if is_main() else b""
    size = multihost_utils.broadcast_one_to_all(np.asarray(len(text)))
    buffer = np.zeros(int(size), np.uint8)
    buffer[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(buffer).tobytes())


def broadcast_arrays(state: State) -> State:
    """Broadcasts, as `broadcast`, a pytree that has the same form in all processes."""
    if jax.process_count() == 1:
        return state
    arrays, rest = eqx.partition(state, eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    hosts = [to_numpy(leaf) for leaf in leaves]
    # As bytes, for a sum, which is how they are sent, would lose the sign of -0.
    sent = np.concatenate([host.reshape(-1).view(np.uint8) for host in hosts])
    received = multihost_utils.broadcast_one_to_all(sent)
    ends = np.cumsum([host.nbytes for host in hosts])[:-1]
    parts = np.split(np.asarray(received), ends)
    shared = [
        from_numpy(part.view(host.dtype).reshape(host.shape), leaf)
        for part, host, leaf in zip(parts, hosts, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(treedef, shared), rest)


def check_same(state: PyTree) -> None:
    """Stops all processes if their devices do not hold the same state any more.

    They all compute it, from the same numbers: it is never sent.

    Args:
        state: Arrays that each device, or the first one of each process, holds.

    Raises:
        CollectiveStop: If two devices differ in a bit.
    """
    if jax.device_count() == 1:
        return
    leaves = [leaf for leaf in jax.tree.leaves(state) if isinstance(leaf, Array)]
    on_devices = zip(
        *([shard.data for shard in _data(leaf).addressable_shards] for leaf in leaves),
        strict=True,
    )
    own = np.stack([np.asarray(_fingerprint(held)) for held in on_devices])
    everyones = multihost_utils.process_allgather(own).reshape(-1)
    if np.all(everyones == everyones[0]):
        return
    message = (
        "The devices do not hold the same state any more, though they compute the same "
        "thing: they are of different kinds, have different software, or a sum on them "
        "has no fixed order (XLA_FLAGS=--xla_gpu_deterministic_ops=true gives it one). "
        "Go on from the last checkpoint by --resume."
    )
    raise CollectiveStop(message if is_main() else None)


def _data(leaf: Array) -> Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


@jax.jit
def _fingerprint(leaves: tuple[Array, ...]) -> Array:
    """A number that any change of a single element changes."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in leaves:
        bits = leaf.reshape(-1)
        if bits.dtype != jnp.bool_:
            kind = jnp.dtype(f"uint{8 * bits.dtype.itemsize}")
            bits = jax.lax.bitcast_convert_type(bits, kind)
        odd = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
        total = 31 * total + jnp.sum(bits.astype(jnp.uint32) * odd, dtype=jnp.uint32)
    return total
