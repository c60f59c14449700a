"""Zoos on disk."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from wsl.zoo._zoo import Zoo


# To be raised whenever files written before must not be read any more.
FORMAT = 1
# Seconds after which a file that is still being written is one of a killed process.
_LONGEST_WRITE = 3600.0


def cached(
    name: str,
    settings: dict[str, Any],
    templates: Callable[[], Sequence[PyTree]],
    make: Callable[[], Zoo],
    *,
    cache: bool,
) -> Zoo:
    """Reads a zoo from disk, or makes it and writes it there.

    Args:
        name: What the zoo is called.
        settings: All that it depends on, as JSON can hold it.
        templates: Gives a network of each group.
        make: Makes the zoo.
        cache: Whether to use the disk at all.

    Returns:
        The zoo. A file that is damaged, or not of these settings, is made anew.
    """
    if not cache:
        return make()
    described = json.dumps({"format": FORMAT, "name": name, **settings}, sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:16]
    file = f"{name}-{digest}.npz"
    skeletons = eqx.filter_eval_shape(lambda: tuple(templates()))
    # Whatever is wrong with it: a zip archive alone can fail in a dozen ways.
    with contextlib.suppress(Exception):
        return _read(cache_directory() / file, described, skeletons)
    zoo = make()
    try:
        _write(cache_directory() / file, described, zoo)
    # Of a user without a home a RuntimeError.
    except (OSError, RuntimeError) as error:
        warnings.warn(
            f"The zoo could not be written to {file} ({error}) and will be made again "
            "next time. Set WSL_CACHE to a directory that can be written to, or pass "
            "`cache=False`.",
            stacklevel=4,
        )
    return zoo


def cache_directory() -> Path:
    """Where zoos are kept: `WSL_CACHE`, or `wsl` in the user's cache directory."""
    if given := os.environ.get("WSL_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsl"


def _read(path: Path, described: str, skeletons: Sequence[PyTree]) -> Zoo:
    # Opened here: NumPy leaves a file that it cannot read open.
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    if str(arrays["settings"]) != described:
        raise ValueError("The file is of other settings.")
    groups = []
    for i, skeleton in enumerate(skeletons):
        leaves, treedef = jax.tree.flatten(skeleton)
        read = []
        for j, leaf in enumerate(leaves):
            if isinstance(leaf, jax.ShapeDtypeStruct):
                stored = arrays[f"network.{i}.{j}"]
                if stored.shape[1:] != leaf.shape or stored.dtype != leaf.dtype:
                    raise ValueError("The file holds other networks.")
                leaf = jnp.asarray(stored)
            read.append(leaf)
        groups.append(jax.tree.unflatten(treedef, read))
    return Zoo(
        tuple(groups), _named(arrays, "label"), arrays["parts"], _named(arrays, "data")
    )


def _named(arrays: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    prefix = f"{kind}."
    return {
        name.removeprefix(prefix): x
        for name, x in arrays.items()
        if name.startswith(prefix)
    }


def _write(path: Path, described: str, zoo: Zoo) -> None:
    arrays: dict[str, Any] = {"settings": np.asarray(described), "parts": zoo.parts}
    arrays |= {f"label.{name}": x for name, x in zoo.labels.items()}
    arrays |= {f"data.{name}": x for name, x in zoo.data.items()}
    for i, group in enumerate(zoo.groups):
        for j, leaf in enumerate(jax.tree.leaves(group)):
            if eqx.is_array(leaf):
                arrays[f"network.{i}.{j}"] = np.asarray(leaf)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under another name first: whoever reads finds a whole file or none.
    _remove_leftovers(path)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _remove_leftovers(path: Path) -> None:
    """Removes what processes left that were killed while they wrote the file."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        # Another process may be removing it too.
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LONGEST_WRITE:
                left.unlink()
