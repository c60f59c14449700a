# pyright: reportAttributeAccessIssue=false
# Protobuf makes the names of its messages when it is imported.
import socket
import struct
import time
from pathlib import Path
from typing import Any, final

from applications.training.storage import Row


@final
class TensorBoard:
    """A sink that writes rows as TensorBoard events.

    Events are written on the calling thread, so that a full disk is an error here and
    not in a thread that nobody watches. They are not synced: a power failure may cost
    the last ones, of which `metrics.jsonl` has the numbers.
    """

    def __init__(self, directory: Path, iteration: int):
        """Prepares the events.

        Args:
            directory: Where the event file goes.
            iteration: How many iterations are done; what an earlier process logged
                after that is dropped by TensorBoard.
        """
        self._directory = directory
        self._iteration = iteration

    def __enter__(self) -> "TensorBoard":
        # Slow to import.
        from tensorboardX.proto import event_pb2

        # The second name has the time in seconds, which may be an earlier process's.
        began = time.time_ns()
        name = f"{began // 10**9}.{socket.gethostname()}.{began}"
        self._path = self._directory / f"events.out.tfevents.{name}"
        self._file = open(self._path, "xb")
        self._write(event_pb2.Event(file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(session_log=start, step=self._iteration + 1))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
        except OSError:
            # After a failed write closing fails again, with nothing new to say.
            if kind is None:
                raise

    def write(self, row: Row) -> None:
        """Writes one row; numbers that are None are left out."""
        from tensorboardX.proto import event_pb2, summary_pb2

        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if value is not None and name != "iteration"
        ]
        summary = summary_pb2.Summary(value=values)
        self._write(event_pb2.Event(summary=summary, step=row["iteration"]))

    def _write(self, event: Any) -> None:
        # Slow to import.
        from tensorboardX.record_writer import masked_crc32c

        event.wall_time = time.time()
        content = event.SerializeToString()
        size = struct.pack("<Q", len(content))
        parts = (
            *(size, struct.pack("<I", masked_crc32c(size))),
            *(content, struct.pack("<I", masked_crc32c(content))),
        )
        try:
            self._file.write(b"".join(parts))
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
