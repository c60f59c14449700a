import functools
import os
import sys
import traceback
from collections.abc import Callable

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
        with surviving_output() as output:
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
            code = main(*args, **kwargs)
        except CollectiveStop as stop:
            code = 2
            if stop.message is not None:
                print(f"error: {stop.message}", file=sys.stderr)
        except KeyboardInterrupt:
            print(
                "Stopped at once. A run goes on from its last checkpoint by --resume.",
                file=sys.stderr,
            )
            return _end_alone(130)
        except Exception as error:
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
        shutdown()
        return code

    return guarded


def _end_alone(code: int) -> int:
    """Ends a process whose others do not know that it does."""
    if jax.distributed.is_initialized():
        # To say goodbye would be to wait for the others, who wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
