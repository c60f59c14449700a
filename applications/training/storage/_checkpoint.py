"""Checkpoints: one file with everything, its own checksum, and nothing to unpickle.

A file is a line ``wsl-checkpoint 1 <sha256 of the rest>`` and then a NumPy ``.npz``
archive with one array for each leaf of the state, named by its path, and the JSON text
``metadata``. Large arrays lie beside it, in blocks that the metadata names.
"""

import dataclasses
import hashlib
import io
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from applications.settings import UserError
from applications.training.storage._arrays import from_numpy, is_key, to_numpy
from applications.training.storage._blocks import (
    is_large,
    read_blocks,
    remove_blocks,
    write_blocks,
)
from applications.training.storage._files import write_atomically


_MAGIC = b"wsl-checkpoint 1"
_NAME = re.compile(r"(\d+)\.ckpt")
_METADATA = "metadata"
_BLOCKS = "blocks"

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        iteration: Iterations done.
        env_steps: Control steps simulated to train.
        seconds: Wall-clock seconds spent, compilation included.
    """

    iteration: int = 0
    env_steps: int = 0
    seconds: float = 0.0


def save_checkpoint(
    directory: Path,
    state: PyTree,
    progress: Progress,
    config: dict[str, Any],
    *,
    keep: int | None = 3,
) -> Path:
    """Writes a checkpoint and removes the oldest ones.

    Args:
        directory: Where the checkpoints of the run are.
        state: Any pytree; its array leaves are kept, typed PRNG keys too.
        progress: How far the run is.
        config: The settings, as JSON; a checkpoint can only be loaded under the same.
        keep: How many checkpoints to leave; None leaves all.

    Returns:
        The file.

    Raises:
        OSError: If it cannot be written; the checkpoints before it are untouched.
    """
    arrays = {path: to_numpy(leaf) for path, leaf in _named_leaves(state).items()}
    blocks = {
        name: write_blocks(directory / _BLOCKS, arrays.pop(name))
        for name in [name for name, array in arrays.items() if is_large(array)]
    }
    metadata = {
        "config": config,
        "progress": dataclasses.asdict(progress),
        "made_with": _software(),
        _BLOCKS: blocks,
    }
    buffer = io.BytesIO()
    arrays[_METADATA] = np.asarray(json.dumps(metadata))
    np.savez(buffer, allow_pickle=False, **arrays)
    payload = buffer.getbuffer()
    header = _MAGIC + b" " + hashlib.sha256(payload).hexdigest().encode() + b"\n"

    def write(file):
        file.write(header)
        file.write(payload)

    path = directory / f"{progress.iteration:08d}.ckpt"
    write_atomically(path, write)
    # Later ones are leftovers of a damaged future; they must not push this one out.
    numbers = [old for old in checkpoints(directory) if old[0] <= progress.iteration]
    for _, old in numbers[:-keep] if keep is not None else []:
        old.unlink(missing_ok=True)
    if (directory / _BLOCKS).is_dir():
        left = [_named_blocks(other) for _, other in checkpoints(directory)]
        remove_blocks(directory / _BLOCKS, keep=set().union(*left))
    return path


def read_checkpoint(path: Path, like: State, config: dict[str, Any]) -> State:
    """Reads one checkpoint.

    Args:
        path: The file.
        like: A state of the same form, or of shapes as `jax.eval_shape` gives them.
        config: The settings that it must have been made under.

    Returns:
        The state.

    Raises:
        UserError: If it is damaged, or was made under other settings.
    """
    found = _read(path, like, config)
    if found is None:
        raise UserError(f"{path} is damaged: its checksum does not fit.")
    return found[0]


def load_checkpoint(
    directory: Path, like: State, config: dict[str, Any]
) -> tuple[State, Progress, list[str]]:
    """Reads the newest checkpoint that is whole.

    Args:
        directory: Where the checkpoints of the run are.
        like: A state of the same form, for instance a freshly initialised one.
        config: The settings that the checkpoint must have been made under.

    Returns:
        The state, how far the run was, and a sentence for each thing that the user
        should know. Damaged checkpoints are passed over and renamed. Without any whole
        one, `like` itself and no progress.

    Raises:
        UserError: If the checkpoint was made under other settings.
    """
    damaged = []
    notes = []
    state, progress = like, Progress()
    for _, path in reversed(checkpoints(directory)):
        found = _read(path, like, config)
        if found is None:
            damaged.append(path)
            continue
        state, metadata = found
        progress = Progress(**metadata["progress"])
        if metadata["made_with"] != _software():
            notes.append(
                f"The run was made with {metadata['made_with']}, this is {_software()}:"
                " it goes on, but not to the same bits."
            )
        break
    for unfinished in directory.glob(".*.ckpt*.tmp"):
        unfinished.unlink()
    for path in damaged:
        path.rename(path.with_name(path.name + ".damaged"))
        before = f"the one of iteration {progress.iteration}"
        instead = before if progress.iteration else "the start of the run"
        notes.append(f"Checkpoint {path} is damaged; taking {instead}.")
    return state, progress, notes


def checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Iterations and files of the checkpoints in a directory, the oldest first."""
    files = (path for path in directory.iterdir() if path.is_file())
    found = ((_NAME.fullmatch(path.name), path) for path in files)
    return sorted((int(match[1]), path) for match, path in found if match)


def _software() -> dict[str, str]:
    """What the bits of a result depend on, besides the settings."""
    return {
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "platform": jax.default_backend(),
    }


def _read(
    path: Path, like: State, config: dict[str, Any]
) -> tuple[State, dict[str, Any]] | None:
    """The state and the metadata in a file, or None where its checksum does not fit."""
    contents = _contents(path)
    if contents is None:
        return None
    metadata = json.loads(str(contents.pop(_METADATA)))
    for name, written in metadata.get(_BLOCKS, {}).items():
        array = read_blocks(path.parent / _BLOCKS, written)
        if array is None:
            return None
        contents[name] = array
    _check_config(path, metadata["config"], config)
    return _restore(path, like, contents), metadata


def _contents(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays in a file, or None where its checksum does not fit."""
    with open(path, "rb") as file:
        header = file.readline(len(_MAGIC) + 66)
        payload = file.read()
    digest = hashlib.sha256(payload).hexdigest().encode()
    if header != _MAGIC + b" " + digest + b"\n":
        return None
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return dict(archive)


def _named_blocks(path: Path) -> set[str]:
    """The blocks that a checkpoint needs; none if it is damaged."""
    contents = _contents(path)
    if contents is None:
        return set()
    blocks = json.loads(str(contents[_METADATA])).get(_BLOCKS, {})
    return {digest for written in blocks.values() for digest in written["blocks"]}


def _check_config(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    # A setting that the checkpoint does not know is younger than it.
    for name in sorted(theirs):
        if theirs[name] != ours.get(name):
            raise UserError(
                f"{path} is a checkpoint of another config: it has "
                f"{name}={theirs[name]!r}, this run has {ours.get(name)!r}. Move it "
                "back to the run that it belongs to."
            )


def _restore(path: Path, like: State, arrays: dict[str, np.ndarray]) -> State:
    named = _named_leaves(like)
    restored = {}
    for name, leaf in named.items():
        expected = jax.eval_shape(jr.key_data, leaf) if is_key(leaf) else leaf
        array = arrays.get(name)
        if (
            array is None
            or array.shape != expected.shape
            or array.dtype != expected.dtype
        ):
            given = "nothing" if array is None else f"{array.dtype}{array.shape}"
            raise UserError(
                f"{path} does not fit this version of the program: it holds {given} "
                f"for {name}, expected {expected.dtype}{expected.shape}."
            )
        restored[name] = from_numpy(array, leaf)
    arrays_of_like, rest = eqx.partition(like, _is_array)
    treedef = jax.tree.structure(arrays_of_like)
    return eqx.combine(
        jax.tree.unflatten(treedef, [restored[name] for name in named]), rest
    )


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _named_leaves(state: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(state, _is_array))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
