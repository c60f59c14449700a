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
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from applications.settings import settings_from_json, UserError
from applications.training.storage._arrays import from_numpy, is_key, to_numpy
from applications.training.storage._blocks import (
    is_large,
    read_blocks,
    remove_blocks,
    write_blocks,
)
from applications.training.storage._files import set_aside, write_atomically


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
        metrics_size: Bytes of `metrics.jsonl` by then, if a checkpoint says so.
        metrics_sha256: Their checksum.
    """

    iteration: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    metrics_size: int | None = None
    metrics_sha256: str | None = None


class DamagedError(UserError):
    """A checkpoint whose checksum does not fit, or a block of which is not there."""


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
        UserError: If a number of the state is not finite: what has diverged is not
            kept.
        OSError: If it cannot be written; the checkpoints before it are untouched.
    """
    arrays = {path: to_numpy(leaf) for path, leaf in _named_leaves(state).items()}
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(array).all():
            raise UserError(diverged(f"The state's {name}", directory))
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


def diverged(what: str, directory: Path) -> str:
    """What to tell the user of training that has gone astray.

    Args:
        what: What is not finite any more.
        directory: Where the checkpoints of the run are.

    Returns:
        A line.
    """
    kept = checkpoints(directory)
    before = f"The last checkpoint is of iteration {kept[-1][0]}" if kept else None
    return (
        f"{what} is not finite any more: the learning rates are too high, the weights "
        f"are not clipped, or returns are beyond all bounds. "
        f"{before or 'There is no checkpoint from before'}."
    )


def read_checkpoint(path: Path, like: State, config: dict[str, Any]) -> State:
    """Reads one checkpoint.

    Args:
        path: The file.
        like: A state of the same form, or of shapes as `jax.eval_shape` gives them.
        config: The settings that it must have been made under.

    Returns:
        The state.

    Raises:
        DamagedError: If its checksum does not fit.
        UserError: If it was made under other settings, or is none of this program's.
    """
    return _read(path, like, config)[0]


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
        try:
            state, progress, made_with = _read(path, like, config)
        except DamagedError:
            damaged.append(path)
            continue
        if made_with != _software():
            notes.append(
                f"The run was made with {made_with}, this is {_software()}: it goes on,"
                " but not to the same bits."
            )
        break
    for path in damaged:
        set_aside(path)
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
) -> tuple[State, Progress, dict[str, str]]:
    """The state in a file, how far the run was, and with what software."""
    payload = _payload(path)
    # A checksum is no signature: what is inside may be anything.
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            _check_sizes(archive)
            metadata = json.loads(_text(archive, _METADATA))
            progress = settings_from_json(Progress, metadata["progress"])
            _check_config(path, metadata["config"], config)
            blocks = metadata.get(_BLOCKS, {})
            state = _restore(path, like, archive, blocks)
            return state, progress, metadata["made_with"]
    except UserError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} is no checkpoint of this program: {reason}") from error


def _payload(path: Path) -> bytes:
    """What a file holds after its header.

    Raises:
        DamagedError: If the checksum does not fit.
    """
    with open(path, "rb") as file:
        header = file.readline(len(_MAGIC) + 66)
        payload = file.read()
    digest = hashlib.sha256(payload).hexdigest().encode()
    if header != _MAGIC + b" " + digest + b"\n":
        raise DamagedError(f"{path} is damaged: its checksum does not fit.")
    return payload


def _named_blocks(path: Path) -> set[str]:
    """The blocks that a checkpoint needs; none if it cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(_payload(path))) as archive:
            blocks = json.loads(_text(archive, _METADATA)).get(_BLOCKS, {})
            return {name for written in blocks.values() for name in written["blocks"]}
    except Exception:
        return set()


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuses what is larger inside than outside."""
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError("it holds something twice.")
    for member in archive.infolist():
        stored = member.compress_type == zipfile.ZIP_STORED
        if not stored or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} is compressed.")


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _form(member)
        if shape != () or dtype.kind != "U":
            raise ValueError(f"{name} is no text.")
        member.seek(0)
        return str(np.lib.format.read_array(member, allow_pickle=False))


def _array(archive: zipfile.ZipFile, name: str, expected: Any) -> np.ndarray | str:
    """An array of an archive, or what is there instead of one of that form."""
    if f"{name}.npy" not in archive.namelist():
        return "nothing"
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _form(member)
        if (shape, dtype) != (expected.shape, expected.dtype):
            return f"{dtype}{shape}"
        member.seek(0)
        return np.lib.format.read_array(member, allow_pickle=False)


def _form(member: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, by its header."""
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read(member)
    return shape, dtype


def _check_config(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    # A setting that the checkpoint does not know is younger than it.
    for name in sorted(theirs):
        if theirs[name] != ours.get(name):
            raise UserError(
                f"{path} is a checkpoint of another config: it has "
                f"{name}={theirs[name]!r}, this run has {ours.get(name)!r}. Move it "
                "back to the run that it belongs to."
            )


def _restore(
    path: Path, like: State, archive: zipfile.ZipFile, blocks: dict[str, Any]
) -> State:
    misfit = f"{path} does not fit this version of the program"
    named = _named_leaves(like)
    there = {name.removesuffix(".npy") for name in archive.namelist()} | set(blocks)
    unknown = sorted(there - {_METADATA, *named})
    restored = {}
    for name, leaf in named.items():
        expected = jax.eval_shape(jr.key_data, leaf) if is_key(leaf) else leaf
        if name in blocks:
            array = read_blocks(path.parent / _BLOCKS, blocks[name], expected)
        else:
            array = _array(archive, name, expected)
        if array is None:
            raise DamagedError(f"{path} is damaged: a block of {name} is not there.")
        if isinstance(array, str):
            wanted = f"{expected.dtype}{expected.shape}"
            other_mode = ("64" in array) != ("64" in wanted)
            advice = " Is JAX_ENABLE_X64 as it was?" if other_mode else ""
            raise UserError(
                f"{misfit}: it holds {array} for {name}, expected {wanted}.{advice}"
            )
        restored[name] = from_numpy(array, leaf)
    if unknown:
        raise UserError(f"{misfit}: it also holds {unknown[0]}.")
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
