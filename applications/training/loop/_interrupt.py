import contextlib
import os
import signal
import threading
from types import FrameType
from typing import final


# Ctrl-C, and what ends a job; twice, they end it at once.
_ENDING = (signal.SIGINT, signal.SIGTERM)
# A terminal that closes, and what schedulers send some time before the end.
_WARNING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@final
class Interrupt:
    """Turns a signal into a request to stop; a second Ctrl-C or SIGTERM ends at once.

    SIGHUP, SIGUSR1 and SIGUSR2 are such requests too, where nobody has other plans with
    them, as `nohup` has. Outside of the main thread, where Python allows no handlers,
    it does nothing.

    Attributes:
        requested: Whether to stop.
    """

    def __init__(self):
        self.requested = False
        self._asked = False

    def __enter__(self) -> "Interrupt":
        self._before = {}
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (*_ENDING, *_WARNING):
            handler = signal.getsignal(number)
            if number in _ENDING or handler is signal.SIG_DFL:
                self._before[number] = handler
                signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._asked and number in _ENDING:
            raise KeyboardInterrupt
        self._asked = self._asked or number in _ENDING
        if not self.requested:
            self.requested = True
            # A stream of Python may be in the middle of a write.
            with contextlib.suppress(OSError):
                os.write(2, _ANSWER)


_ANSWER = b"Stopping after this iteration; once more to stop at once.\n"
