import json
import math
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from applications.settings import UserError


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


def remove_leftovers(directory: Path, name: str) -> None:
    """Removes what writers left that were killed before they could rename.

    Nobody may be writing files of that name.

    Args:
        directory: Where they wrote.
        name: Name of the files, or a pattern of it.
    """
    for temporary in directory.glob(f".{name}.*tmp"):
        temporary.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames a file that is damaged, so that nobody takes it for a whole one.

    Args:
        path: The file.

    Returns:
        Where it is now, as `free_name` says.
    """
    aside = free_name(path)
    path.rename(aside)
    return aside


def free_name(path: Path) -> Path:
    """The first of `NAME.damaged`, `NAME.damaged-2`, ... where nothing is yet."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return aside


def check_output(path: Path, flag: str) -> None:
    """Checks that a file can be written, before the work whose result it is to hold.

    Args:
        path: The file. Directories above it that do not exist can be made.
        flag: The flag that names it.

    Raises:
        UserError: If it is a directory, or the place cannot be written to.
    """
    if path.is_dir():
        raise UserError(f"{flag} {path} is a directory; name a file.")
    check_directory(path.parent, flag)


def check_directory(path: Path, flag: str) -> None:
    """Checks that files can be written to a directory, or that it can be made.

    Args:
        path: The directory.
        flag: The flag that names it, or what is in it.

    Raises:
        UserError: If it is something else, or cannot be written to.
    """
    there = path
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{flag} leads to {path}, and {there} is no directory.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{flag} leads to {there}, which cannot be written to. Choose a place that "
            "you can write to."
        )


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that it is there whole or not at all.

    Args:
        path: Where the file shall be.
        content: What JSON can hold; numbers that are not finite are written as `null`.

    Raises:
        OSError: As `write_atomically`.
    """
    text = json.dumps(finite_or_none(content), indent=2, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def finite_or_none(content: Any) -> Any:
    """Puts None for every number that is not finite, since JSON has no others."""
    if isinstance(content, dict):
        return {name: finite_or_none(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite_or_none(value) for value in content]
    broken = isinstance(content, float) and not math.isfinite(content)
    return None if broken else content


def sync_directory(directory: Path) -> None:
    """Makes renames inside a directory last through a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
