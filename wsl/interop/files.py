"""Weights by name, from and to files of safetensors or NumPy's npz."""

import importlib
import os
import secrets
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


def save(weights: Mapping[str, Any], path: str | Path) -> None:
    """Writes arrays to a file, under their names.

    Args:
        weights: The arrays by name: flat, as a state dict is. Tensors of PyTorch are
            arrays here too.
        path: A file ending in `.safetensors` or `.npz`; one that is there is
            overwritten, all at once.

    Raises:
        ValueError: If it ends otherwise, there is something else than arrays,
            safetensors is not installed, or NumPy's format lacks a dtype, as it does
            bfloat16.
    """
    path = Path(path)
    weights = {name: _from_torch(x) for name, x in weights.items()}
    wrong = [n for n, x in weights.items() if not isinstance(x, jax.Array | np.ndarray)]
    if wrong:
        raise ValueError(
            f"A file holds arrays by name; these are none: {wrong}. Flatten nested "
            "weights first, for instance to `jax.tree_util.keystr` of their paths."
        )
    arrays = {name: np.ascontiguousarray(x) for name, x in weights.items()}
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path} is no file of weights: `.safetensors` or `.npz`.")
    foreign = sorted({str(x.dtype) for x in arrays.values() if x.dtype.kind == "V"})
    if foreign and path.suffix == ".npz":
        raise ValueError(
            f"NumPy's format has no {', '.join(foreign)}: write `.safetensors`, or "
            "cast."
        )
    # Under another name first: the file is there whole or not at all.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if path.suffix == ".npz":
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        else:
            _safetensors().save_file(arrays, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise ValueError(
            "Files of safetensors need the package: `pip install safetensors`."
        ) from error


def _from_torch(value: Any) -> Any:
    """A tensor of PyTorch as an array of NumPy; anything else as it is."""
    if type(value).__module__.partition(".")[0] != "torch":
        return value
    value = value.detach().cpu()
    if str(value.dtype) == "torch.bfloat16":  # NumPy has none of its own
        return value.float().numpy().astype(jnp.bfloat16)
    return value.numpy()
