"""Commands in processes of their own, which get the signals that this one is sent."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, final


_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


@final
class CommandRunner:
    """Runs commands, and passes signals on to those that are running.

    It is a context: signals are passed on inside it, if it is entered in the main
    thread. Several threads may run commands at once.

    Attributes:
        stopped: Whether there was a signal.
    """

    def __init__(self):
        """Runs nothing yet."""
        self.stopped = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._relays = contextlib.ExitStack()
        self._in_sessions = False

    def __enter__(self) -> "CommandRunner":
        # Python allows handlers in the main thread alone.
        if threading.current_thread() is threading.main_thread():
            self._relays.enter_context(_handled(self._pass_on))
            self._in_sessions = True
        return self

    def __exit__(self, *exception: Any) -> None:
        self._in_sessions = False
        self._relays.close()

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> int:
        """Runs a command to its end.

        Args:
            command: The program and its arguments.
            environment: Environment variables; this process's unless given.
            quiet: Drop what it prints, but for errors.

        Returns:
            Its exit code.
        """
        # In a session of its own, what a terminal sends reaches it through us alone.
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL if quiet else None,
            start_new_session=self._in_sessions,
        )
        self._processes.add(process)
        try:
            return process.wait()
        finally:
            self._processes.discard(process)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stopped = True
        for process in tuple(self._processes):
            if process.poll() is None:
                process.send_signal(number)


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Handles the signals that end a run."""
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
