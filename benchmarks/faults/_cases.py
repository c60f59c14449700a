"""What is trained while faults happen, and when two runs count as the same."""

import dataclasses
import importlib
import json
import shutil
import socket
import time
from pathlib import Path

import numpy as np

from applications.settings import UserError
from applications.training import checkpoints, without_display
from benchmarks.faults._forks import start, wait


# What each reference took.
_SECONDS: dict[str, float] = {}
_CLOCKS = ("steps_per_second", "compile_seconds", "seconds")


@dataclasses.dataclass(frozen=True)
class Case:
    """A short run.

    Attributes:
        name: What it is called.
        module: The trainer.
        flags: Its flags, but for the directory.
        devices: Devices of each process.
        processes: How many processes train together.
    """

    name: str
    module: str
    flags: str
    devices: int = 1
    processes: int = 1

    def start(self, directory: Path) -> list[int]:
        """Begins the run in a directory, or goes on with it; gives its processes."""
        begun = (directory / "config.json").is_file()
        flags = ["--resume", str(directory)] if begun else self.flags.split()
        flags += [] if begun else ["--run-dir", str(directory)]
        places: list[list[str]] = [[]]
        if self.processes > 1:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                meet = f"127.0.0.1:{probe.getsockname()[1]}"
            together = ["--coordinator", meet, "--num-processes", str(self.processes)]
            together += ["--heartbeat", "5"]
            places = [
                [*together, "--process-id", str(number)]
                for number in range(self.processes)
            ]
        main = importlib.import_module(self.module).main

        def train(place: list[str]) -> int:
            without_display()
            return main([*flags, *place])

        return [
            start(
                lambda place=place: train(place),
                log_of(directory),
                devices=self.devices,
            )
            for place in places
        ]

    def finish(self, directory: Path) -> list[int]:
        """Trains to the end; gives the exit codes."""
        return [wait(process) for process in self.start(directory)]

    def reference(self, work: Path) -> tuple[Path, float]:
        """A run that nothing happens to, beside a directory, and its seconds."""
        directory = work.parent / f"{self.name}-reference"
        if not directory.exists():
            for _ in range(2):  # the first one compiles
                shutil.rmtree(directory, ignore_errors=True)
                began = time.monotonic()
                codes = self.finish(directory)
                if any(codes):
                    said = log_of(directory).read_text()
                    raise UserError(f"{self.name} ends with {codes}: {said}")
                _SECONDS[self.name] = time.monotonic() - began
        return directory, _SECONDS[self.name]


_EPVF = "--num-envs 8 --hidden 4 --eval-episodes 2 --checkpoint-every 2"
_SMALL = f"{_EPVF} --preset paper --critic-width 16 --horizon 30 --iterations 30"
CASES = {
    case.name: case
    for case in (
        Case("epvf", "applications.epvf.train", f"{_SMALL} --normalise"),
        Case(
            "gogepo",
            "applications.gogepo.train",
            "--num-envs 8 --hidden 4 --horizon 30 --iterations 20 --snapshots 4 "
            "--generator-width 16 --generator-updates 2 --critic-width 16 "
            "--critic-updates 2 --num-probes 4 --batch-size 8 --archive 4 "
            "--checkpoint-every 2",
        ),
        Case(
            "ars",
            "applications.baselines.train",
            "--algorithm ars --env lqr --num-envs 8 --top 2 --steps 12000 "
            "--eval-episodes 2 --checkpoint-every 2",
        ),
        Case(
            "native",
            "applications.epvf.train",
            f"{_SMALL} --env inverted_pendulum --physics mujoco",
        ),
        Case("devices", "applications.epvf.train", _SMALL, devices=2),
        Case("processes", "applications.epvf.train", _SMALL, processes=2),
    )
}


def log_of(directory: Path) -> Path:
    """Where the output of a run's processes goes."""
    return directory.with_name(f"{directory.name}.log")


def arrays_of(checkpoint: Path) -> dict[str, bytes]:
    """The arrays of a checkpoint, as bytes."""
    with open(checkpoint, "rb") as file:
        file.readline()
        with np.load(file, allow_pickle=False) as archive:
            names = [name for name in archive.files if name != "metadata"]
            return {name: archive[name].tobytes() for name in names}


def rows_of(directory: Path) -> list[dict]:
    """The rows of a run without its clocks."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k not in _CLOCKS} for row in rows]


def differences(ours: Path, theirs: Path) -> list[str]:
    """What differs between two finished runs that should be the same."""
    found = []
    for name in ("policy.eqx", "evaluation.json"):
        if (ours / name).read_bytes() != (theirs / name).read_bytes():
            found.append(name)
    if rows_of(ours) != rows_of(theirs):
        found.append("metrics.jsonl")
    newest = [checkpoints(run / "checkpoints")[-1][1] for run in (ours, theirs)]
    if arrays_of(newest[0]) != arrays_of(newest[1]):
        found.append("the last checkpoint")
    return found


def left(directory: Path) -> list[str]:
    """Temporary files in a run, which a finished one does not have."""
    return [str(path) for path in directory.rglob(".*tmp")]
