"""Many training runs, each in a process of its own on one core, kept in `runs/`.

A run that is done is not made again, and one that was broken off goes on, so that a
benchmark of hours can be stopped and started; `applications.sweep` sees to both.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import queue
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from _common import curves, ROOT

from applications import sweep
from applications.training import read_rows, Run


Job = TypeVar("Job")
# Of a run: group, seed and command.
Identity: TypeAlias = tuple[tuple[str, ...], int, str]
# Of a curve: what a picture can show.
_POINTS = 100


@dataclasses.dataclass(frozen=True)
class Training:
    """One run.

    Attributes:
        group: What it is a seed of, such as `("swimmer", "epvf")`.
        flags: The command line, without seed and directory.
        seed: The seed.
        module: The trainer.
    """

    group: tuple[str, ...]
    flags: str
    seed: int
    module: str = "applications.epvf.train"

    @property
    def command(self) -> str:
        """What a user would type."""
        return f"python -m {self.module} {self.flags} --seed {self.seed}"

    @property
    def identity(self) -> Identity:
        """What a record of it has too."""
        return self.group, self.seed, self.command

    @property
    def directory(self) -> Path:
        """Where it is kept; other flags, another place."""
        digest = hashlib.sha256(self.command.encode()).hexdigest()[:8]
        return ROOT / "runs" / "benchmarks" / "-".join((*self.group, digest))

    @property
    def job(self) -> sweep.Training:
        """The same, as a sweep has it."""
        flags = (*shlex.split(self.flags), "--seed", str(self.seed))
        return sweep.Training(self.module, flags, self.directory)


def train_all(trainings: Sequence[Training], cores: Sequence[int]) -> None:
    """Runs what is not done yet, one on each core at a time.

    Args:
        trainings: The runs.
        cores: Numbers of the cores.

    Raises:
        UserError: If a run fails, or was made under other settings.
    """
    # First seeds first, so that what is there early tells of all.
    pending = [run for run in trainings if not run.job.is_done()]
    pending.sort(key=lambda run: run.seed)
    on_cores(pending, lambda run: run.job.train(environment()), cores)


def on_cores(
    jobs: Sequence[Job], work: Callable[[Job], None], cores: Sequence[int]
) -> None:
    """Does jobs, each on one core, as many at a time as there are cores.

    Args:
        jobs: What is to be done, in this order.
        work: Does one; processes that it starts stay on its core.
        cores: Numbers of the cores.
    """
    pending: queue.Queue[Job] = queue.Queue()
    for job in jobs:
        pending.put(job)

    def keep_working(core: int) -> None:
        # Of this thread; its child processes inherit it.
        os.sched_setaffinity(0, {core})
        while True:
            try:
                job = pending.get_nowait()
            except queue.Empty:
                return
            print(f"core {core}, {pending.qsize()} left: {job}", flush=True)
            work(job)

    if not cores:
        return
    with concurrent.futures.ThreadPoolExecutor(len(cores)) as pool:
        # A job that fails ends it all.
        list(pool.map(keep_working, cores))


def result_of(training: Training, *metrics: str) -> dict[str, Any] | None:
    """What came of a run.

    Args:
        training: The run.
        metrics: Columns of its metrics to keep, those that it has, beside environment
            steps and seconds.

    Returns:
        Its command, evaluation, steps, seconds and curves; None if it is not done.
    """
    if not training.job.is_done():
        return None
    rows = read_rows(training.directory / "metrics.jsonl")
    evaluation = json.loads(Run(training.directory).evaluation.read_text())
    kept = [name for name in metrics if name in rows[-1]]
    shown = np.unique(np.linspace(0, len(rows) - 1, _POINTS).round().astype(int))
    return {
        "group": list(training.group),
        "seed": training.seed,
        "command": training.command,
        "mean_return": evaluation["mean"],
        "std_return": evaluation["std"],
        "steps": rows[-1]["env_steps"],
        "wall_seconds": round(rows[-1]["seconds"], 1),
        **curves([rows[i] for i in shown], "env_steps", "seconds", *kept),
    }


def environment() -> dict[str, str]:
    """Of a process that compiles anew, by one thread."""
    own = {"JAX_COMPILATION_CACHE_DIR": "", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT)}
