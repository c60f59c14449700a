"""Command line: `python -m benchmarks.zoo`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from applications.settings import Seed, UserError
from applications.training import check_output, exit_on_user_error, finite_or_none
from benchmarks.zoo._run import names_for, run
from benchmarks.zoo._settings import Settings
from benchmarks.zoo._table import table
from benchmarks.zoo._tasks import find, TaskName


@dataclasses.dataclass(frozen=True)
class Command:
    """Trains encoders on a zoo of networks and prints how well they read it.

    The zoo is made at the first call, in seconds to minutes, and kept on disk.
    """

    task: TaskName
    """What is asked of the encoders."""
    encoder: tuple[str, ...] = ()
    """Which encoders: all that the task allows if none is given."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of the training. The zoo is always the same."""
    settings: Settings = dataclasses.field(default_factory=Settings)
    """How to train."""
    json: Path | None = None
    """File for the rows, one JSON object a line; rows are added as they come."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    command = tyro.cli(
        Command,
        prog="python -m benchmarks.zoo",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    known = names_for(find(command.task))
    unknown = [name for name in command.encoder if name not in known]
    if unknown:
        raise UserError(
            f"There is no encoder {unknown[0]!r} for {command.task!r}; there are "
            f"{list(known)}."
        )
    if not command.seeds or not all(0 <= seed < 2**32 for seed in command.seeds):
        raise UserError("--seeds takes numbers from 0 to 2**32 - 1, at least one.")
    if command.json is not None:
        check_output(command.json, "--json")
        command.json.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    encoders = command.encoder or known
    for encoder in encoders:
        for seed in command.seeds:
            rows.append(run(command.task, encoder, seed, command.settings))
            if command.json is not None:
                with command.json.open("a") as file:
                    file.write(json.dumps(finite_or_none(rows[-1])) + "\n")
        print(table(rows[-len(command.seeds) :]), flush=True)
    if len(encoders) > 1:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
