import errno
import functools
import sys
from collections.abc import Callable

import jax


class UserError(Exception):
    """Something that the user can put right; its text is one line that says how."""


def exit_on_user_error(main: Callable[..., int]) -> Callable[..., int]:
    """Makes the main function of a command end with one line instead of a traceback.

    Args:
        main: Returns the exit code.

    Returns:
        The same function, which answers 2 for a `UserError`, a failing disk or a full
        memory, and 130 when the user insists on stopping at once.
    """

    @functools.wraps(main)
    def guarded(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            message = str(error)
        except OSError as error:
            message = _describe(error)
        except jax.errors.JaxRuntimeError as error:
            message = _explain(error)
            if message is None:
                raise
        except KeyboardInterrupt:
            print(
                "Stopped at once. A run goes on from its last checkpoint by --resume.",
                file=sys.stderr,
            )
            return 130
        print(f"error: {message}", file=sys.stderr)
        return 2

    return guarded


def _describe(error: OSError) -> str:
    what = f"Cannot read or write {error.filename or 'a file'}: {error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return what + " Make room there; a run that has begun goes on by --resume."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return what + " Choose a place that you can write to."
    return what


def _explain(error: Exception) -> str | None:
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return (
        "The memory does not suffice. Lower --num-envs, --archive, or --chunk, which "
        "bounds how many policies are simulated at once."
    )
