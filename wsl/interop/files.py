"""Weights by name, from and to files of safetensors or NumPy's npz."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def load(path: str | Path) -> dict[str, Array]:
    """Reads the arrays of a file.

    Args:
        path: A file ending in `.safetensors` or `.npz`.

    Returns:
        The arrays by their names, in the order of the file.

    Raises:
        ValueError: If it ends otherwise, or safetensors is not installed.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as held:
            return {name: jnp.asarray(held[name]) for name in held.files}
    if path.suffix == ".safetensors":
        return {n: jnp.asarray(x) for n, x in _safetensors().load_file(path).items()}
    raise ValueError(f"{path} is no file of weights: give `.safetensors` or `.npz`.")


def save(weights: Mapping[str, Array | np.ndarray], path: str | Path) -> None:
    """Writes arrays to a file, under their names.

    Args:
        weights: The arrays by name: flat, as a state dict is.
        path: A file ending in `.safetensors` or `.npz`; one that is there is
            overwritten.

    Raises:
        ValueError: If it ends otherwise, there is something else than arrays, or
            safetensors is not installed.
    """
    path = Path(path)
    wrong = [n for n, x in weights.items() if not isinstance(x, jax.Array | np.ndarray)]
    if wrong:
        raise ValueError(
            f"A file holds arrays by name; these are none: {wrong}. Flatten nested "
            "weights first, for instance to `jax.tree_util.keystr` of their paths."
        )
    arrays = {name: np.ascontiguousarray(x) for name, x in weights.items()}
    if path.suffix == ".npz":
        with path.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    elif path.suffix == ".safetensors":
        _safetensors().save_file(arrays, path)
    else:
        raise ValueError(f"{path} is no file of weights: `.safetensors` or `.npz`.")


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise ValueError(
            "Files of safetensors need the package: `pip install safetensors`."
        ) from error
