"""Commands in processes that are forked: imports are paid for once.

JAX starts no thread before its first computation, and this process computes nothing.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import jax


# Longer than anything here takes on a busy machine.
_PATIENCE = 600.0
HANGS = -99


def start(action: Callable[[], int], log: Path, *, devices: int = 1) -> int:
    """Starts an action in a process of its own.

    Args:
        action: What it does; it returns the exit code.
        log: Where its output goes.
        devices: How many devices JAX is to see.

    Returns:
        The number of the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    code: object = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        jax.config.update("jax_num_cpu_devices", devices)
        code = action()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def wait(process: int, seconds: float = _PATIENCE) -> int:
    """Waits for the end of a process, and ends it if that does not come.

    Args:
        process: Its number.
        seconds: How long to wait.

    Returns:
        Its exit code; the negative of a signal that ended it; `HANGS` without an end.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return HANGS
