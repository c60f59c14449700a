"""Command line: `python -m benchmarks.faults`."""

import dataclasses
import importlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro

from applications.settings import AtLeast, check_settings, Seed, UserError
from applications.training import exit_on_user_error
from benchmarks._common import fill, RESULTS
from benchmarks.faults._cases import CASES
from benchmarks.faults._damage import damaged_files, KINDS
from benchmarks.faults._flags import OTHERS, wrong_flags
from benchmarks.faults._kills import kills
from benchmarks.faults._long import long_run
from benchmarks.faults._operations import crash_states, failing_operations
from benchmarks.faults._poison import ALGORITHMS, poisoned
from benchmarks.faults._tally import read_tallies, table, Tally


Number = Annotated[int, AtLeast(0)]
_TRAINERS = ("epvf", "gogepo", "pvf", "baselines")


@dataclasses.dataclass(frozen=True)
class Command:
    """Tries faults by the hundred and prints what came of them.

    Counts are for each kind: of run, file or command. What went otherwise than
    promised is listed, and its files stay; the exit code is then 1.
    """

    kills: Number = 0
    """Kills at random moments, for each kind of run."""

    crashes: Number = 0
    """Crash states to go on from, for each kind of run in one process."""

    failures: Number = 0
    """Failing file operations, for each kind of run in one process."""

    damages: Number = 0
    """Damaged or crafted files of each kind."""

    flags: Number = 0
    """Command lines for each command."""

    poisons: Number = 0
    """Poisoned policies, for each algorithm and engine."""

    iterations: Number = 0
    """Iterations of the long run."""

    cases: tuple[str, ...] = tuple(CASES)
    """Kinds of runs: epvf, gogepo, ars, native, devices, processes."""

    seed: Seed = 0
    """Seed of all that is random."""

    json: Path | None = None
    """File for the table, and for earlier rows of it that stay."""

    page: bool = False
    """Put the table of docs/results/faults.json into docs/reliability.md, no more."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Tries what the command line says; gives the exit code."""
    asked = tyro.cli(Command, prog="python -m benchmarks.faults", args=arguments)
    check_settings(asked)
    unknown = sorted(set(asked.cases) - set(CASES))
    if unknown:
        raise UserError(f"There is no case {unknown[0]}; there are {list(CASES)}.")
    if asked.page:
        fill("reliability.md", "faults", table(read_tallies(RESULTS / "faults.json")))
        return 0
    work = Path(tempfile.mkdtemp(prefix="wsl-faults-"))
    # Children find here what the others have compiled.
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(work / "compiled")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # In this process, once for all children.
    for name in _TRAINERS:
        importlib.import_module(f"applications.{name}.train")
    # More of it would begin to compute.
    importlib.import_module("evosax")
    warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
    found = []
    for number, attempt in enumerate(_attempts(asked)):
        place = work / str(number)
        place.mkdir()
        found.append(attempt(place))
        print(found[-1], flush=True)
        if not found[-1].bad:
            shutil.rmtree(place)
        if asked.json is not None:
            _write(asked.json, found)
    print(f"\n{table(found)}")
    if any(tally.bad for tally in found):
        print(f"\nThe files are in {work}.")
        return 1
    shutil.rmtree(work)
    return 0


def _attempts(asked: Command) -> Iterator[Callable[[Path], Tally]]:
    """What is to be tried, each in a directory of its own."""
    seed = asked.seed
    for name in asked.cases:
        case = CASES[name]
        if asked.kills:
            yield lambda place, case=case: kills(case, asked.kills, place, seed)
        if asked.crashes and case.processes == 1:
            yield lambda place, case=case: crash_states(case, asked.crashes, place)
        if asked.failures and case.processes == 1:
            yield lambda place, case=case: failing_operations(
                case, asked.failures, place
            )
    for kind in KINDS if asked.damages else ():
        yield lambda place, kind=kind: damaged_files(kind, asked.damages, place, seed)
    commands = [*(f"applications.{name}.train" for name in _TRAINERS), *OTHERS]
    for name in commands if asked.flags else ():
        yield lambda place, name=name: wrong_flags(name, asked.flags, place, seed)
    for algorithm in ALGORITHMS if asked.poisons else ():
        for engine in ("JAX", "C"):
            yield lambda place, algorithm=algorithm, engine=engine: poisoned(
                algorithm, engine, asked.poisons, place, seed
            )
    if asked.iterations:
        yield lambda place: long_run(CASES["epvf"], asked.iterations, place)


def _write(path: Path, found: Sequence[Tally]) -> None:
    """Writes the rows, over those of the same name and beside the others."""
    rows = {tally.name: tally for tally in [*read_tallies(path), *found]}
    content = {"tallies": [dataclasses.asdict(tally) for tally in rows.values()]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
