"""Several seeds of one command, one run after the other."""

import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from applications.settings import UserError
from applications.training.processes import CommandRunner
from applications.training.storage import Run


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
    with CommandRunner() as runner:
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
