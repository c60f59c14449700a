import _thread
import contextlib
import functools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax

from applications.training.processes._collective import shutdown
from applications.training.processes._errors import CollectiveStop, explain
from applications.training.processes._joining import describe_loss, LOST
from applications.training.processes._output import surviving_output


def exit_on_user_error(main: Callable[..., int]) -> Callable[..., int]:
    """Makes the main function of a command end with one line instead of a traceback.

    What nobody reads any more, as after `| head`, is not printed, and the work goes on.
    Of several processes that train together, one that fails by itself ends at once,
    and takes the others with it.

    Args:
        main: Returns the exit code.

    Returns:
        The same function, which answers 2 for a `UserError`, a failing disk or a full
        memory, and where output could not be written though somebody reads it; 3 if it
        has lost another process of the run; and 130 when the user insists on stopping
        at once.
    """

    @functools.wraps(main)
    def guarded(*args, **kwargs) -> int:
        with surviving_output() as output, _heard_interrupts():
            code = run(*args, **kwargs)
            if output is not None:
                output.flush()
                if output.error is not None:
                    reason = output.error.strerror
                    print(f"error: Not all could be printed: {reason}", file=sys.stderr)
                    code = code or 2
            return code

    def run(*args, **kwargs) -> int:
        try:
            try:
                code = main(*args, **kwargs)
            except CollectiveStop as stop:
                code = 2
                if stop.message is not None:
                    print(f"error: {stop.message}", file=sys.stderr)
            # Where the others may be lost too.
            shutdown()
            return code
        except KeyboardInterrupt:
            return _stopped()
        except Exception as error:
            if _of_interrupt(error):
                return _stopped()
            lost = describe_loss(error)
            if lost is not None:
                print(f"error: {lost}", file=sys.stderr)
                return _end_alone(LOST)
            message = explain(error)
            if message is not None:
                print(f"error: {message}", file=sys.stderr)
                return _end_alone(2)
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()
            return _end_alone(1)

    return guarded


def _stopped() -> int:
    print(
        "Stopped at once. A run goes on from its last checkpoint by --resume.",
        file=sys.stderr,
    )
    return _end_alone(130)


def _of_interrupt(error: BaseException) -> bool:
    """Whether an error came of Ctrl-C, which some libraries turn into another one."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, KeyboardInterrupt):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False


@contextlib.contextmanager
def _heard_interrupts() -> Iterator[None]:
    """Ctrl-C where nothing can be raised, as in a garbage collector's callback, counts.

    Python would print a traceback there, and go on.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Once more, where it can be raised.
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _end_alone(code: int) -> int:
    """Ends a process whose others do not know that it does."""
    if jax.distributed.is_initialized():
        # To say goodbye would be to wait for the others, who wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
