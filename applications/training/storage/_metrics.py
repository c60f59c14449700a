import json
import math
import os
from pathlib import Path
from typing import Any, final, TypeAlias

from applications.settings import UserError
from applications.training.storage._files import write_atomically


Row: TypeAlias = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a `metrics.jsonl`.

    Args:
        path: The file.

    Returns:
        One dictionary an iteration. A last line that was cut off is left out.

    Raises:
        UserError: If the file is not text, or a line is not the row of its iteration.
    """
    if not path.exists():
        return []
    try:
        *lines, _ = path.read_text().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not text: {error}. Put the file right, or start a new run."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        iteration = row.get("iteration") if isinstance(row, dict) else None
        if type(iteration) is not int or (
            rows and iteration != rows[-1]["iteration"] + 1
        ):
            raise UserError(
                f"Line {number} of {path} is not the row of the next iteration. Put "
                "the file right, or start a new run."
            )
        rows.append(row)
    return rows


@final
class MetricsLog:
    """Appends one row an iteration to `metrics.jsonl`.

    Numbers that are not finite are written as `null`, since JSON has no others. A row
    is written at once, on the calling thread, so that a full disk is an error here.
    """

    def __init__(self, directory: Path, iteration: int):
        """Opens the log of a run.

        Args:
            directory: The run's directory.
            iteration: How many iterations are done. Rows after that, left by a run
                that went on after its last checkpoint, are dropped.

        Raises:
            UserError: If rows are missing, or one is not of its iteration.
            OSError: If the file cannot be written.
        """
        path = directory / "metrics.jsonl"
        rows = [row for row in read_rows(path) if row["iteration"] <= iteration]
        there = rows[-1]["iteration"] if rows else 0
        if there != iteration or len(rows) < iteration:
            raise UserError(
                f"{path} has {len(rows)} rows, and the run's checkpoint is of "
                f"iteration {iteration}. Put the file right, or start a new run."
            )
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        write_atomically(path, lambda file: file.write(text))
        self.rows = rows
        self._file = open(path, "a")
        self._path = path

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
        except OSError:
            # After a failed write closing fails again, with nothing new to say.
            if kind is None:
                raise

    def write(self, row: Row) -> None:
        """Writes one row.

        Args:
            row: Numbers by name; one of them is the `iteration`.

        Raises:
            OSError: If it cannot be written.
        """
        row = {name: _finite_or_none(value) for name, value in row.items()}
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self.rows.append(row)

    def sync(self) -> None:
        """Makes the rows so far last through a power failure."""
        os.fsync(self._file.fileno())


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
