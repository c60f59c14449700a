"""Many environments of Gymnasium, stepped in processes of their own."""

import os
import subprocess
import sys
import weakref
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt32

from applications.envs._cores import count_cores
from applications.envs.adapters._from_gymnasium import GymnasiumEnvironment
from applications.settings import UserError


_PATIENCE = 10.0  # s, for a worker that is to end
_WORKER = Path(__file__).with_name("_gymnasium_worker.py")


@final
class HostSimulations:
    """Environments in rows, one episode at a time in each.

    They are shared out over worker processes, which import no JAX and are no forks of
    this one. An episode depends on its seed and its actions alone, not on its row or
    the number of workers. The workers end with `close`, and with this process.

    Attributes:
        task: What is stepped.
        size: Number of rows.
        workers: Number of processes.
    """

    def __init__(
        self, task: GymnasiumEnvironment, size: int, workers: int | None = None
    ):
        """Starts the workers.

        Args:
            task: What to step.
            size: Number of rows.
            workers: Number of processes; one for each core, but no more than rows,
                unless given.

        Raises:
            ValueError: If there is no row or no worker.
        """
        workers = min(size, count_cores()) if workers is None else workers
        if size < 1 or workers < 1:
            raise ValueError(
                f"There must be at least 1 row and 1 worker; got {size} and {workers}."
            )
        self.task, self.size, self.workers = task, size, workers
        self._processes = [_start(task) for _ in range(workers)]
        self._end = weakref.finalize(self, _stop, self._processes)

    def reset(
        self, rows: Int[np.ndarray, " rows"], seeds: UInt32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, "rows observation"]:
        """Starts an episode in some rows.

        Args:
            rows: Which, each once.
            seeds: Seeds of the episodes.

        Returns:
            The first observations.

        Raises:
            UserError: If an environment raises an error, or a worker died.
        """
        observations = np.empty((len(rows), self.task.observation_size), np.float32)
        for at, answer in self._ask("reset", rows, seeds):
            observations[at] = answer
        return observations

    def step(
        self,
        rows: Int[np.ndarray, " rows"],
        actions: Float[np.ndarray, "rows action"] | Int[np.ndarray, " rows"],
    ) -> tuple[
        Float32[np.ndarray, "rows observation"],
        Float32[np.ndarray, " rows"],
        Bool[np.ndarray, " rows"],
        Bool[np.ndarray, " rows"],
    ]:
        """Advances some rows by one step.

        A row whose action is not finite is not stepped: it shows NaN, earns NaN and is
        terminated.

        Args:
            rows: Which, each once; an episode must be going on there.
            actions: Their actions; vectors are clipped to the box.

        Returns:
            Observations, rewards, whether the task ended there, and whether the time
            was up by Gymnasium's own limit. Numbers that are not finite are handed on.

        Raises:
            UserError: If an environment raises an error, or a worker died.
        """
        size = len(rows)
        observations = np.empty((size, self.task.observation_size), np.float32)
        rewards = np.empty(size, np.float32)
        terminated, truncated = np.empty(size, bool), np.empty(size, bool)
        for at, answer in self._ask("step", rows, actions):
            observations[at], rewards[at], terminated[at], truncated[at] = answer
        return observations, rewards, terminated, truncated

    def close(self) -> None:
        """Ends the workers. Nothing can be stepped afterwards."""
        self._end()

    def _ask(
        self, method: str, rows: np.ndarray, values: np.ndarray
    ) -> list[tuple[np.ndarray, Any]]:
        """Has the workers do their parts side by side.

        Returns:
            Places in `rows`, and what came of them.
        """
        if not self._end.alive:
            raise ValueError("These simulations are closed.")
        # In turn, so that the work stays even when only some rows go on.
        parts = [
            (worker, at)
            for worker in range(self.workers)
            if (at := np.flatnonzero(rows % self.workers == worker)).size
        ]
        try:
            for worker, at in parts:
                _, connection = self._processes[worker]
                connection.send((method, (rows[at], values[at])))
            answers = [
                (at, self._answer(method, self._processes[worker][1]))
                for worker, at in parts
            ]
        except (EOFError, OSError) as error:
            codes = [process.poll() for process, _ in self._processes]
            self.close()
            raise UserError(
                f"A worker process of gymnasium:{self.task.id} died "
                f"(exit codes {[code for code in codes if code is not None]})."
            ) from error
        except BaseException:
            # Answers are left over, which nobody would tell from later ones.
            self.close()
            raise
        return answers

    def _answer(self, method: str, connection: Connection) -> Any:
        fine, answer = connection.recv()
        if fine:
            return answer
        said, theirs = answer
        raise UserError(
            f"gymnasium:{self.task.id} failed in {method}: {said}"
        ) from RuntimeError(theirs)


def _pipe() -> tuple[Connection, Connection]:
    pair: Any = Pipe()  # of another class on Windows
    return pair


def _start(task: GymnasiumEnvironment) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = _pipe()
    with theirs:
        process = subprocess.Popen(
            # -P, for beside the file lie modules of the names of libraries.
            [sys.executable, "-P", str(_WORKER), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
        )
    ours.send((sys.path, task.id, task.make_options))
    return process, ours


def _stop(processes: list[tuple[subprocess.Popen[bytes], Connection]]) -> None:
    for _, connection in processes:
        connection.close()
    for process, _ in processes:
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
