"""Large arrays of checkpoints: cut into blocks that checkpoints have in common.

A block is a file named by the SHA-256 of its bytes. What has not changed since the last
checkpoint has the same name and is there already: a replay of a million steps costs a
checkpoint what was added to it, and a pass over its bytes.
"""

import hashlib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from applications.training.storage._files import write_atomically


# Arrays are cut up from so many bytes on, into blocks of so many.
LARGE, BLOCK = 1 << 22, 1 << 20
_DIGEST = re.compile("[0-9a-f]{64}")


def is_large(array: np.ndarray) -> bool:
    """Whether an array is to be cut up."""
    return array.nbytes >= LARGE


def write_blocks(directory: Path, array: np.ndarray) -> dict[str, Any]:
    """Writes the blocks of an array that are not there yet.

    Args:
        directory: Where the blocks are; it is made if need be.
        array: The array.

    Returns:
        What `read_blocks` needs, as JSON.

    Raises:
        OSError: If one cannot be written.
    """
    directory.mkdir(exist_ok=True)
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    digests = []
    for begin in range(0, len(flat), BLOCK):
        block = flat[begin : begin + BLOCK]
        digests.append(hashlib.sha256(block).hexdigest())
        path = directory / digests[-1]
        if not path.exists():
            write_atomically(path, lambda file, block=block: file.write(block))
    return {"dtype": array.dtype.str, "shape": list(array.shape), "blocks": digests}


def read_blocks(
    directory: Path, written: dict[str, Any], expected: Any
) -> np.ndarray | str | None:
    """Reads an array.

    Args:
        directory: Where its blocks are.
        written: From `write_blocks`, or whatever stands in its place.
        expected: An array, or its form, of the same shape and dtype.

    Returns:
        The array; what it is if it has another form; None if a block is missing or
        damaged.
    """
    shape, dtype = tuple(written["shape"]), np.dtype(written["dtype"])
    if (shape, dtype) != (expected.shape, expected.dtype):
        return f"{dtype}{shape}"
    whole = bytearray()
    for digest in written["blocks"]:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest} is no name of a block.")
        path = directory / digest
        block = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(block).hexdigest() != digest:
            return None
        whole += block
    if len(whole) != dtype.itemsize * math.prod(shape):
        return None
    return np.frombuffer(whole, dtype).reshape(shape)


def remove_blocks(directory: Path, *, keep: Iterable[str]) -> None:
    """Removes blocks that no checkpoint has any more.

    Args:
        directory: Where the blocks are.
        keep: Names of those to keep.
    """
    kept = set(keep)
    for path in directory.iterdir():
        if path.name not in kept:
            path.unlink(missing_ok=True)
