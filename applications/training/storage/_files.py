import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that it is there whole or not at all.

    The bytes go to a temporary name in the same directory, are synced and renamed.

    Args:
        path: Where the file shall be. What is there is replaced in the same instant.
        write: Writes the content to an open binary file.

    Raises:
        OSError: If the disk is full or the directory cannot be written; `path` is as
            it was.
    """
    # A name that nobody else has or can guess, and "x": no link is followed.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # A full disk is reported by the write, which does not know the file's name.
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_directory(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that it is there whole or not at all.

    Args:
        path: Where the file shall be.
        content: What JSON can hold.

    Raises:
        OSError: As `write_atomically`.
    """
    text = json.dumps(content, indent=2).encode() + b"\n"
    write_atomically(path, lambda file: file.write(text))


def sync_directory(directory: Path) -> None:
    """Makes renames inside a directory last through a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
