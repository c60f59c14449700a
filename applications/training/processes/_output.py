import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, final


@final
class Output:
    """A text stream that goes on without its reader: what cannot be written is dropped.

    Attributes:
        error: Why something was lost that somebody may miss, such as a full disk; None
            where nothing was, or the reader went away, as `head` does.
    """

    def __init__(self, stream: Any):
        """Takes the place of a stream.

        Args:
            stream: The stream.
        """
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Writes, or drops the text and everything that follows."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flushes, or drops what was not written yet and everything that follows."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        if error.errno != errno.EPIPE and self.error is None:
            self.error = error
        # What the stream still holds has to go somewhere, at the end too.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def surviving_output() -> Iterator[Output | None]:
    """Lets a program go on when nobody reads its output any more, or a disk is full.

    Yields:
        Standard output, to ask for its error at the end; None if it is closed.
    """
    _open_standard_streams()
    before = sys.stdout, sys.stderr
    out, err = (None if stream is None else Output(stream) for stream in before)
    # All that prints writes to these: also tyro, rich and warnings.
    sys.stdout, sys.stderr = out, err  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield out
    finally:
        for stream in (out, err):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _open_standard_streams() -> None:
    """Opens what was closed by whoever started us, as by `>&-`.

    Otherwise the next file would be opened in its place, and get what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free is taken.
            os.open(os.devnull, os.O_RDWR)
