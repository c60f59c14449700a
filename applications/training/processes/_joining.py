"""How processes find each other, and what they say when they lose one."""

import ctypes
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from applications.settings import UserError


# Exit code of a process that has lost another one.
LOST = 3
_SECONDS_TO_MEET = 300
# Numbers that JAX reads when SLURM says where processes meet.
_OF_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_NTASKS")
# Of a connection that breaks, in what XLA says of it.
_BROKEN = re.compile(r"Gloo|NCCL|coordination service|CoordinationService")
_ADDRESS = re.compile(r"\[([0-9a-fA-F.:%\w]+)\]:\d+")

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_last_words = b""
_advice = ""


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat: int,
) -> None:
    """Joins the other processes of the run, if flags or SLURM say that there are any.

    Nothing of JAX may have run before.

    Args:
        coordinator: HOST:PORT at which the processes meet.
        num_processes: How many there are.
        process_id: Which of them this one is.
        heartbeat: Seconds without a sign of life after which a process counts as lost.

    Raises:
        UserError: If the flags do not say enough, or nothing answers at the address.
    """
    place = find_place(coordinator, num_processes, process_id, os.environ)
    if place is None:
        return
    # It would take SIGTERM from us.
    jax.config.update("jax_enable_preemption_service", False)
    where = place.get("coordinator_address", "the first node of the step")
    _say_when_aborted(
        f"Not all {place['num_processes']} processes met at {where} within "
        f"{_SECONDS_TO_MEET} s. Start each of them with the same --coordinator and "
        "--num-processes and its own --process-id, counted from 0, where that address "
        "can be reached."
    )
    try:
        jax.distributed.initialize(
            **place,
            initialization_timeout=_SECONDS_TO_MEET,
            heartbeat_timeout_seconds=heartbeat,
        )
    except RuntimeError as error:
        raise UserError(
            f"Cannot meet the other processes at {where}: {error}"
        ) from error
    arm_peer_failure_message(heartbeat, "DIR")
    if jax.device_count() % jax.local_device_count():
        raise UserError(
            f"This process has {jax.local_device_count()} of {jax.device_count()} "
            "devices. Give every process equally many."
        )


def arm_peer_failure_message(heartbeat: int, directory: Path | str) -> None:
    """Sets the message with which this process ends when another one is lost.

    JAX ends it by `abort`, on a thread of its own and without a way to tell Python; a
    handler of that signal prints the message and gives the exit code.

    Args:
        heartbeat: Seconds without a sign of life after which a process counts as lost.
        directory: The run's directory.
    """
    global _advice
    _advice = (
        "Its own output may say why. This process ends too. Start all of them again "
        f"with --resume {directory} to go on from the last checkpoint."
    )
    if jax.process_count() > 1:
        _say_when_aborted(
            "Another process of this run has ended, or was not heard of for "
            f"{heartbeat} s. The lines above name it as a task; where they do "
            f"not, it is process 0. {_advice}"
        )


def describe_loss(error: Exception) -> str | None:
    """What to tell the user of an error, if it is that another process is lost."""
    text = str(error)
    if not jax.distributed.is_initialized() or not _BROKEN.search(text):
        return None
    address = _ADDRESS.search(text)
    where = f", at {address[1]}," if address else ""
    return f"Another process of this run{where} has ended. {_advice}"


def find_place(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str],
) -> dict[str, Any] | None:
    """Finds out where this process stands among others.

    Args:
        coordinator: HOST:PORT at which the processes meet.
        num_processes: How many there are; 1, by itself, for a process that is to be
            alone, whatever the environment says.
        process_id: Which of them this one is.
        environment: Environment variables, of which SLURM's are read without flags.

    Returns:
        Arguments of `jax.distributed.initialize`, or None if there are no others.

    Raises:
        UserError: If the flags do not say enough.
    """
    flags = {
        "--coordinator": coordinator,
        "--num-processes": num_processes,
        "--process-id": process_id,
    }
    if num_processes == 1 and coordinator is None and process_id is None:
        return None
    if coordinator is not None and num_processes is not None and process_id is not None:
        return _from_flags(coordinator, num_processes, process_id)
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) < len(flags):
        given = [name for name in flags if name not in missing]
        raise UserError(
            f"With {' and '.join(given)} comes {' and '.join(missing)}: a process must "
            "know where the others are, how many, and which one it is."
        )
    return _from_slurm(environment)


def _from_flags(coordinator: str, count: int, number: int) -> dict[str, Any] | None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"--coordinator must be HOST:PORT, of the machine of process 0; got "
            f"{coordinator}."
        )
    if number >= count:
        raise UserError(
            f"--process-id must be from 0 to {count - 1}, for --num-processes "
            f"{count}; got {number}."
        )
    if count == 1:
        return None
    return {
        "coordinator_address": coordinator,
        "num_processes": count,
        "process_id": number,
        "cluster_detection_method": "deactivate",
    }


def _from_slurm(environment: Mapping[str, str]) -> dict[str, Any] | None:
    # Of the step, not of the job: a batch script or an interactive shell is one task,
    # whatever the job was given.
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    count = int(tasks) if tasks.isdecimal() else 1
    if count == 1 or "SLURM_PROCID" not in environment:
        return None
    for name in _OF_SLURM:
        if not environment.get(name, "").isdecimal():
            raise UserError(
                f"{name} is {environment.get(name)!r}, though SLURM_STEP_NUM_TASKS "
                f"says that {count} processes train together. To train alone, add "
                "--num-processes 1."
            )
    number = int(environment["SLURM_PROCID"])
    if number >= count:
        raise UserError(
            f"SLURM_PROCID is {number}, of {count} processes by SLURM_STEP_NUM_TASKS. "
            "To train alone, add --num-processes 1."
        )
    place: dict[str, Any] = {
        "num_processes": count,
        "cluster_detection_method": "slurm",
    }
    # JAX would give each task the one GPU of its number on the node. That is wrong for
    # a task that is alone there, or sees only what is its own.
    alone = environment.get("SLURM_STEP_TASKS_PER_NODE", "").split("(")[0] == "1"
    if alone or "SLURM_GPUS_PER_TASK" in environment:
        visible = environment.get("CUDA_VISIBLE_DEVICES", "")
        if visible:
            place["local_device_ids"] = list(range(len(visible.split(","))))
    return place


def _say_when_aborted(message: str) -> None:
    global _last_words
    _last_words = f"\nerror: {message}\n".encode()
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, _Handler]
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, _abort)


@_Handler
def _abort(number: int) -> None:
    # On a thread of JAX, which has no way to tell Python that a process is lost.
    del number
    os.write(2, _last_words)
    os._exit(LOST)
