"""``python -m applications.sweep``: runs over seeds and settings, each in a process.

A run that is finished is kept, and one that was broken off goes on; a directory that
holds a run of other settings is refused.
"""

import concurrent.futures
import dataclasses
import importlib
import itertools
import json
import shlex
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tyro

from applications.compare import compare
from applications.settings import check_settings, Count, Seed, UserError
from applications.training import (
    asked_otherwise,
    check_directory,
    CommandLine,
    CommandRunner,
    exit_on_user_error,
    read_curve,
    Run,
    RunSettings,
    TRAINERS,
)


_PROG = "python -m applications.sweep"
# The help of flags is read from the source, which Python 3.11 must not parse in two
# threads at once: https://github.com/python/cpython/issues/106905.
_PARSING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Training:
    """One run, in a directory of its own.

    Attributes:
        module: The trainer, such as `"applications.epvf.train"`.
        flags: Its command line, but for the directory.
        directory: Where the run goes.
    """

    module: str
    flags: tuple[str, ...]
    directory: Path

    @property
    def settings(self) -> RunSettings:
        """What the trainer makes of the flags.

        Raises:
            UserError: If they cannot be used.
        """
        command_line: CommandLine = importlib.import_module(self.module).COMMAND_LINE
        with _PARSING:
            return command_line.parse(self.flags)

    def is_done(self) -> bool:
        """Whether the run is there, trained and evaluated under the same settings.

        Raises:
            UserError: If the directory holds a run of other settings.
        """
        if not (self.directory / "config.json").is_file():
            return False
        run = Run(self.directory)
        asked = self.settings
        if run.manifest.algorithm != asked.name:
            raise UserError(
                f"{self.directory} holds a run of {run.manifest.algorithm}, not of "
                f"{asked.name}. Choose another directory, or remove that one."
            )
        differing = asked_otherwise(asked, run.manifest.settings)
        if differing:
            told = ", ".join(
                f"{name} is {there}, asked for is {wanted}"
                for name, (there, wanted) in differing.items()
            )
            raise UserError(
                f"{self.directory} holds a run of other settings: {told}. Choose "
                "another directory, or remove that one."
            )
        try:
            return "mean" in json.loads(run.evaluation.read_text())
        except (OSError, ValueError, TypeError):
            return False

    def train(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        runner: CommandRunner | None = None,
    ) -> None:
        """Begins the run or goes on with it, in a process of its own.

        Args:
            environment: Environment variables; this process's unless given.
            runner: Runs it, and passes signals on.

        Raises:
            UserError: If it fails, or is stopped before its end.
        """
        begun = (self.directory / "config.json").is_file()
        where = ["--resume" if begun else "--run-dir", str(self.directory)]
        runner = CommandRunner() if runner is None else runner
        command = [sys.executable, "-m", self.module, *self.flags, *where]
        code = runner.run(command, environment=environment, quiet=True)
        if code or not self.is_done():
            raise UserError(
                f"{self.directory} is not done: its process ended with exit code "
                f"{code}. Started again, this goes on where it stopped."
            )


def train_all(
    trainings: Sequence[Training],
    workers: int = 1,
    check: Callable[[Run], object] = lambda run: None,
) -> None:
    """Trains what is not done yet.

    A signal goes to the runs of the moment, and no other one is begun after it.

    Args:
        trainings: The runs.
        workers: How many at a time.
        check: Called with each run when it is done. What it raises ends all.

    Raises:
        UserError: If flags cannot be used, a directory holds a run of other settings,
            a run fails, or a signal has stopped them.
    """
    for training in trainings:
        # All of them before the first one has taken its hours.
        training.settings.task.make(as_trained=True)
        check_directory(training.directory, "--directory")
    pending = [training for training in trainings if not training.is_done()]

    over = threading.Event()

    def work(training: Training) -> None:
        if over.is_set() or runner.stopped:
            return
        flags = shlex.join(training.flags)
        print(f"{training.directory.name}: {flags}", flush=True)
        try:
            training.train(runner=runner)
            check(Run(training.directory))
        except BaseException:
            # The first that fails ends it.
            over.set()
            raise

    with (
        CommandRunner() as runner,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        futures = [pool.submit(work, training) for training in pending]
        for future in futures:
            future.result()
    if runner.stopped:
        raise UserError("Stopped. Started again, this goes on where it stopped.")


def sweep(
    module: str,
    groups: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    directory: Path,
    workers: int = 1,
    check: Callable[[Run], object] = lambda run: None,
) -> dict[str, list[Run]]:
    """Trains groups of runs that differ in their flags, each over seeds.

    Args:
        module: The trainer.
        groups: Flags by name of the group.
        seeds: Seeds of each group.
        directory: Where the runs go, named by group and seed.
        workers: How many are trained at a time.
        check: As of `train_all`.

    Returns:
        The runs of each group.

    Raises:
        UserError: If there are no seeds or the same ones, and as `train_all`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        told = " ".join(map(str, seeds)) or "none"
        raise UserError(f"--seeds takes different numbers, at least one; got {told}.")
    trainings = {
        name: [
            Training(
                module,
                (*flags, "--seed", str(seed)),
                directory / f"{name.replace(' ', '-')}-seed{seed}",
            )
            for seed in seeds
        ]
        for name, flags in groups.items()
    }
    train_all(list(itertools.chain(*trainings.values())), workers, check)
    return {
        name: [Run(training.directory) for training in group]
        for name, group in trainings.items()
    }


@dataclasses.dataclass(frozen=True)
class SweepArgs:
    """Trains an algorithm over seeds and settings, and draws what comes of it.

    Flags that are not listed go to every training run. Started again, it goes on where
    it stopped.
    """

    algorithm: str = "epvf"
    """What to train: epvf, gogepo, pvf, or a baseline: ars, openes, cma-es, sep-cma-es,
    snes, map-elites, brax-ars, ppo, sac, ddpg, sb3-ppo or sb3-sac."""

    over: tuple[str, ...] = ()
    """Settings to go over, as name=value,value; several make all combinations."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of each setting."""

    directory: Path = Path("runs/sweep")
    """Where the runs go, and the picture."""

    workers: Count = 1
    """Runs at a time."""

    metric: str = "return_policy"
    """Which column of the metrics to compare."""

    last: Count = 10
    """Rows at the end of a run over whose mean it is judged."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Sweeps as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked, flags = tyro.cli(
        SweepArgs, prog=_PROG, args=arguments, return_unknown_args=True
    )
    check_settings(dataclasses.replace(asked, seeds=()))
    trainer = TRAINERS.get(asked.algorithm)
    if trainer is None:
        raise UserError(
            f"--algorithm must be one of {', '.join(TRAINERS)}; got {asked.algorithm}."
        )
    groups = {
        name: (*trainer.flags, *flags, *own)
        for name, own in _combinations(asked.over).items()
    }
    runs = sweep(
        trainer.module,
        groups,
        asked.seeds,
        asked.directory,
        asked.workers,
        # A column that there is not is said after the first run, not after the last.
        lambda run: read_curve(run, asked.metric),
    )
    picture = asked.directory / "sweep.png"
    compare(runs, picture, metric=asked.metric, last=asked.last, flags=flags)
    return 0


def _combinations(over: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Flags of all combinations of settings, by a name for each."""
    choices = []
    for one in over:
        name, equals, values = one.partition("=")
        if not (name and equals and values):
            raise UserError(f"--over takes name=value,value; got {one}.")
        flag = "--" + name.lstrip("-").replace("_", "-")
        choices.append([(flag, value) for value in values.split(",")])
    found = {}
    for chosen in itertools.product(*choices):
        name = " ".join(f"{flag[2:]} {value}" for flag, value in chosen)
        found[name or "runs"] = tuple(itertools.chain(*chosen))
    return found


if __name__ == "__main__":
    sys.exit(main())
