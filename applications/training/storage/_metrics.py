import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final, TypeAlias

from applications.settings import UserError
from applications.training.storage._files import (
    finite_or_none,
    free_name,
    sync_directory,
    write_atomically,
)


Row: TypeAlias = dict[str, Any]

_BLOCK = 1 << 20


def iterate_rows(path: Path) -> Iterator[Row]:
    """Reads the rows of a `metrics.jsonl`, one at a time.

    Args:
        path: The file.

    Yields:
        One dictionary an iteration, the first one first. Iterations may be missing,
        where the file was damaged and put right. A last line that was cut off is left
        out.

    Raises:
        UserError: If the file is not text, or a line is not the row of an iteration
            later than the one before.
    """
    if not path.exists():
        return
    before = None
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            row = _row(line)
            if row is None or (before is not None and row["iteration"] <= before):
                raise UserError(
                    f"Line {number} of {path} is not the row of the next iteration. To "
                    "put the file right, go on with the run by --resume."
                )
            before = row["iteration"]
            yield row


def read_rows(path: Path) -> list[Row]:
    """Reads all rows of a `metrics.jsonl`, as `iterate_rows` does.

    Args:
        path: The file.

    Returns:
        The rows.

    Raises:
        UserError: As `iterate_rows`.
    """
    return list(iterate_rows(path))


@final
class MetricsLog:
    """Appends one row an iteration to `metrics.jsonl`.

    Numbers that are not finite are written as `null`, since JSON has no others. A row
    is written at once, on the calling thread, so that a full disk is an error here.
    None is kept in memory. A checkpoint keeps how long the file was and its checksum;
    when the run goes on, rows after that are dropped, and it is said if those before
    are not what they were.

    Attributes:
        note: What the user should know of the rows that were there, or None.
    """

    def __init__(
        self,
        directory: Path,
        iteration: int,
        *,
        size: int | None = None,
        sha256: str | None = None,
    ):
        """Opens the log of a run.

        Args:
            directory: The run's directory.
            iteration: How many iterations are done. Rows after that, left by a run
                that went on after its last checkpoint, are dropped.
            size: Bytes of the rows up to there, if the checkpoint says so.
            sha256: Their checksum.

        Raises:
            OSError: If the file cannot be written.
        """
        self._path = directory / "metrics.jsonl"
        self.note: str | None = None
        if iteration == 0:
            size, sha256 = 0, hashlib.sha256().hexdigest()
        if size is not None and self._begins_with(size, sha256):
            if self._path.exists():
                os.truncate(self._path, size)
        else:
            self.note = _put_right(self._path, iteration, known=size is not None)
            size = self._path.stat().st_size
        self._hash = _hash(self._path, size)
        self._size = size
        self._file = open(self._path, "ab")
        sync_directory(directory)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
        except OSError:
            # After a failed write closing fails again, with nothing new to say.
            if kind is None:
                raise

    def write(self, row: Row) -> Row:
        """Writes one row.

        Args:
            row: Numbers by name; one of them is the `iteration`.

        Returns:
            The row as it was written.

        Raises:
            OSError: If it cannot be written.
        """
        row = finite_or_none(row)
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._hash.update(line)
        self._size += len(line)
        return row

    def _begins_with(self, size: int, sha256: str | None) -> bool:
        there = self._path.stat().st_size if self._path.exists() else 0
        return there >= size and _hash(self._path, size).hexdigest() == sha256

    def sync(self) -> tuple[int, str]:
        """Makes the rows so far last through a power failure.

        Returns:
            Their bytes and checksum, for the checkpoint.
        """
        os.fsync(self._file.fileno())
        return self._size, self._hash.hexdigest()


def _put_right(path: Path, iteration: int, *, known: bool) -> str | None:
    """Leaves the rows that can be read, and keeps beside them what was there.

    Args:
        path: The file; it is there afterwards.
        iteration: The last iteration whose row is to be there.
        known: Whether the checkpoint says what the rows were, and they are others.

    Returns:
        What was done, or None if there was nothing to say.
    """
    if not path.exists():
        path.touch()
        return (
            f"{path} was missing: the rows of iterations 1 to {iteration} are lost. "
            f"The run goes on, and its next row is that of iteration {iteration + 1}."
        )

    def sound() -> Iterator[bytes]:
        before = 0
        with open(path, "rb") as file:
            for line in file:
                row = _row(line)
                if row is not None and before < row["iteration"] <= iteration:
                    before = row["iteration"]
                    yield line

    count = sum(1 for _ in sound())
    note = None
    if known or count < iteration:
        aside = free_name(path)
        shutil.copyfile(path, aside)
        note = (
            f"{path} is not as the checkpoint of iteration {iteration} left it: "
            f"{count} of {iteration} rows can be read and stay; what was there is kept "
            f"as {aside}."
        )
    write_atomically(path, lambda file: file.writelines(sound()))
    return note


def _row(line: bytes) -> Row | None:
    """The row that a line holds, or None if it holds none."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    has_number = isinstance(row, dict) and type(row.get("iteration")) is int
    return row if has_number else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON.")


def _hash(path: Path, size: int) -> Any:
    """Checksum of the first bytes of a file, to be continued."""
    checksum = hashlib.sha256()
    if size:
        with open(path, "rb") as file:
            while size and (block := file.read(min(size, _BLOCK))):
                checksum.update(block)
                size -= len(block)
    return checksum
