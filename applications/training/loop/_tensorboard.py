# pyright: reportAttributeAccessIssue=false
# Protobuf makes the names of its messages when it is imported.
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from applications.training.storage import Row


@final
class TensorBoard:
    """A sink that writes rows as TensorBoard events, over environment steps.

    Settings are written once, as hyperparameters, so that TensorBoard's page of that
    name lists runs by them.

    Events are written on the calling thread, so that a full disk is an error here and
    not in a thread that nobody watches. They are not synced: a power failure may cost
    the last ones, of which `metrics.jsonl` has the numbers.
    """

    def __init__(
        self,
        directory: Path,
        env_steps: int,
        *,
        settings: Mapping[str, Any] | None = None,
        metrics: tuple[str, ...] = ("return_policy",),
    ):
        """Prepares the events.

        Args:
            directory: Where the event file goes.
            env_steps: How many environment steps are done; what an earlier process
                logged after that is dropped by TensorBoard.
            settings: Settings of the run by name, as JSON.
            metrics: Names of what runs are to be compared by, beside their settings.
        """
        self._directory = directory
        self._env_steps = env_steps
        self._settings = {} if settings is None else settings
        self._metrics = metrics

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
        self._write(event_pb2.Event(session_log=start, step=self._env_steps + 1))
        if self._settings:
            # Slow to import.
            from tensorboardX.summary import hparams

            shown = {name: _plain(value) for name, value in self._settings.items()}
            experiment, session, _ = hparams(shown, dict.fromkeys(self._metrics))
            for summary in (experiment, session):
                self._write(event_pb2.Event(summary=summary))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
        except OSError:
            # After a failed write closing fails again, with nothing new to say.
            if kind is None:
                raise

    def write(self, row: Row) -> None:
        """Writes one row at its `env_steps`; numbers that are None are left out."""
        from tensorboardX.proto import event_pb2, summary_pb2

        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if value is not None and name != "env_steps"
        ]
        summary = summary_pb2.Summary(value=values)
        self._write(event_pb2.Event(summary=summary, step=int(row["env_steps"])))

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


def _plain(value: Any) -> Any:
    """A setting as TensorBoard may show it: a number, a switch, or a text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
