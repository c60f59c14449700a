import errno

import jax

from applications.settings import UserError


class CollectiveStop(Exception):
    """Every process of a run stops here, for a reason that one of them tells.

    Attributes:
        message: What this process says of it, if it is the one.
    """

    def __init__(self, message: str | None):
        """Keeps the message.

        Args:
            message: What this process says, or None where another one does.
        """
        super().__init__(message)
        self.message = message


def explain(error: Exception) -> str | None:
    """What to tell the user of an error, or None if it is a defect of the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return _describe(error)
    if isinstance(error, jax.errors.JaxRuntimeError):
        return _of_memory(error)
    return None


def _describe(error: OSError) -> str:
    what = f"Cannot read or write {error.filename or 'a file'}: {error.strerror}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return what + " Make room there; a run that has begun goes on by --resume."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return what + " Choose a place that you can write to."
    return what


def _of_memory(error: Exception) -> str | None:
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return (
        "The memory does not suffice. Lower --num-envs, --archive, or --chunk, which "
        "bounds how many policies are simulated at once."
    )
