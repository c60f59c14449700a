# pyright: reportAttributeAccessIssue=false
# Protobuf makes the names of its messages when it is imported.
import json
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from applications.settings import UserError
from applications.training._files import write_atomically


Row: TypeAlias = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Reads the rows of a `metrics.jsonl`.

    Args:
        path: The file.

    Returns:
        One dictionary an iteration. A last line that was cut off is left out.

    Raises:
        UserError: If a line is not the row of its iteration.
    """
    if not path.exists():
        return []
    *lines, _ = path.read_text().split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        iteration = row.get("iteration") if isinstance(row, dict) else None
        if iteration is None or (rows and iteration != rows[-1]["iteration"] + 1):
            raise UserError(
                f"Line {number} of {path} is not the row of the next iteration. Put "
                "the file right, or start a new run."
            )
        rows.append(row)
    return rows


class MetricsLog:
    """Appends one row an iteration to `metrics.jsonl` and to TensorBoard events.

    Numbers that are not finite are written as `null`, since JSON has no others.
    Everything is written at once, on the calling thread, so that a full disk is an
    error here and not in a thread that nobody watches.
    """

    def __init__(self, directory: Path, iteration: int):
        """Opens the log of a run.

        Args:
            directory: The run's directory.
            iteration: How many iterations are done. Rows after that, left by a run
                that went on after its last checkpoint, are dropped.

        Raises:
            OSError: If the files cannot be written.
        """
        path = directory / "metrics.jsonl"
        rows = [row for row in read_rows(path) if row["iteration"] <= iteration]
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        write_atomically(path, lambda file: file.write(text))
        self.rows = rows
        self._file = open(path, "a")
        self._path = path
        # The name has the time in seconds, which may be that of an earlier process.
        self._events = EventsWriter(str(directory / "events"), f".{time.time_ns()}")
        # Tells TensorBoard to forget what an earlier process logged after this point.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write_event(event_pb2.Event(session_log=start, step=iteration + 1))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del error, trace
        try:
            self._file.close()
            self._events.close()
        except OSError:
            # After a failed write closing fails again, with nothing new to say.
            if kind is None:
                raise

    def append(self, row: Row) -> None:
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
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if value is not None and name != "iteration"
        ]
        summary = summary_pb2.Summary(value=values)
        self._write_event(event_pb2.Event(summary=summary, step=row["iteration"]))

    def sync(self) -> None:
        """Makes the rows so far last through a power failure."""
        os.fsync(self._file.fileno())

    def _write_event(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)
        self._events.flush()


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
