"""Several seeds of one command, one run after the other."""

import contextlib
import json
import shlex
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from applications.settings import UserError
from applications.training.storage import Run


_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


def train_seeds(
    module: str, flags: Sequence[str], seeds: Sequence[int], directory: Path
) -> None:
    """Trains once for each seed, each run in a process and a directory of its own.

    A run that fails does not stop the others. A signal goes to the run of the moment,
    and no other one is begun after it.

    Args:
        module: The trainer, as `python -m` is given it.
        flags: Its command line, but for seed and directory.
        seeds: The seeds.
        directory: Where the runs go, under `seed0` and so on.

    Raises:
        UserError: If a seed is there twice, one of the directories exists, a run fails,
            or a signal has stopped them.
    """
    if len(set(seeds)) < len(seeds):
        told = " ".join(map(str, seeds))
        raise UserError(f"--seeds takes different numbers; got {told}.")
    places = {seed: directory / f"seed{seed}" for seed in seeds}
    there = [str(place) for place in places.values() if place.exists()]
    if there:
        raise UserError(
            f"--run-dir: {there[0]} exists. Name another directory, or go on with that "
            f"run: {sys.executable} -m {module} --resume {shlex.quote(there[0])}"
        )
    failed: list[int] = []
    returns: dict[int, float] = {}
    with _Runner() as runner:
        for i, (seed, place) in enumerate(places.items()):
            print(f"Seed {seed} ({i + 1} of {len(seeds)})", flush=True)
            own = [*flags, "--seed", str(seed), "--run-dir", str(place)]
            code = runner.run([sys.executable, "-m", module, *own])
            if runner.stopped:
                raise UserError(f"Stopped at seed {seed}. {_done(places, returns)}")
            value = _mean_return(place)
            if code or value is None:
                failed.append(seed)
                print(f"Seed {seed} failed (exit code {code}).", file=sys.stderr)
            else:
                returns[seed] = value
    print(_done(places, returns))
    if failed:
        told = " ".join(map(str, failed))
        raise UserError(f"{len(failed)} of {len(seeds)} seeds failed: {told}.")


def _mean_return(directory: Path) -> float | None:
    """What a run's evaluation says; None if it has none."""
    try:
        return float(json.loads(Run(directory).evaluation.read_text())["mean"])
    except (OSError, UserError, ValueError, KeyError, TypeError):
        return None


def _done(places: dict[int, Path], returns: dict[int, float]) -> str:
    """What the runs that are done came to, and how to draw them."""
    if not returns:
        return "No run is done."
    values = list(returns.values())
    runs = shlex.join(str(places[seed]) for seed in returns)
    each = ", ".join(f"{value:.1f}" for value in values)
    return (
        f"Mean of {len(values)} {'seed' if len(values) == 1 else 'seeds'}: "
        f"{statistics.fmean(values):.1f} ({each})\n"
        f"Draw them: python -m applications.compare {runs}"
    )


class _Runner:
    """Runs commands one by one, and passes signals on to the one of the moment.

    Attributes:
        stopped: Whether there was a signal.
    """

    def __init__(self):
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Runner":
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(_handled(self._pass_on))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def run(self, command: Sequence[str]) -> int:
        """Runs a command to its end; its exit code."""
        # In a session of its own: what a terminal sends reaches it through us alone.
        self._process = subprocess.Popen(command, start_new_session=True)
        return self._process.wait()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    """Handles the signals that end a run, where Python allows handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
