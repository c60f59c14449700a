import signal
import sys
import threading
from types import FrameType
from typing import final


@final
class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a request; the second one ends at once.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "Interrupt":
        numbers = (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread():
            numbers = ()
        self._before = {
            number: signal.signal(number, self._request) for number in numbers
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print(
            "Stopping after this iteration; once more to stop at once.",
            file=sys.stderr,
            flush=True,
        )
