"""From a command line to settings and a run, new or continued."""

import dataclasses
import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from applications.settings import flag, UserError
from applications.training.cli._command_line import CommandLine, without
from applications.training.cli._modes import check_jax_modes
from applications.training.cli._seeds import train_seeds
from applications.training.cli._settings import (
    checkpoint_settings,
    LaunchSettings,
    RunSettings,
)
from applications.training.loop import Limit
from applications.training.processes import (
    broadcast,
    find_place,
    join,
    on_all,
    on_main,
)
from applications.training.storage import load_checkpoint, Progress, Run


Config = TypeVar("Config")
State = TypeVar("State")


def parse_settings(
    command_line: CommandLine[Config], arguments: Sequence[str] | None
) -> tuple[RunSettings[Config], Run | None]:
    """Reads a trainer's command line, and joins the other processes of the run.

    They all have its settings from the first one, which alone sees its directory. With
    `--seeds` there is a run for each, and the program ends after the last one.

    Args:
        command_line: What the trainer can be told.
        arguments: The command line; the program's own unless given.

    Returns:
        The settings, and the run to continue if `--resume` names one and this is the
        first process. Flags that are not given are then as they were.

    Raises:
        UserError: If the run is none or another algorithm's, flags differ from its
            settings, JAX is in a mode that training cannot have, or one of several
            seeds fails.
        SystemExit: After the last of several seeds.
        CollectiveStop: Instead of it, if there are several processes; also if their
            settings differ.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    settings = command_line.parse(arguments)
    check_jax_modes()
    own = settings.launch
    seeds, flags = command_line.seeds(arguments)
    if seeds:
        _check_alone(own, flags)
        directory = own.run_dir
        if directory is None:
            directory = Path("runs") / settings.name / _name(settings, "seeds")
        train_seeds(command_line.module, without(flags, "run-dir"), seeds, directory)
        raise SystemExit(0)
    if own.resume is not None and own.run_dir is not None:
        raise UserError("--run-dir names a new run and --resume an old one: drop one.")
    join(own.coordinator, own.num_processes, own.process_id, heartbeat=own.heartbeat)
    _check_alike(settings)
    run = None
    if own.resume is not None:
        directory = own.resume
        found = on_main(lambda: _continued(command_line, directory, arguments))
        if found is not None:
            settings, run = found
    settings = settings.updated_from_json(broadcast(settings.to_json()))
    launch = dataclasses.replace(
        settings.launch,
        coordinator=own.coordinator,
        num_processes=own.num_processes,
        process_id=own.process_id,
        heartbeat=own.heartbeat,
    )
    return dataclasses.replace(settings, launch=launch), run


def _check_alone(launch: LaunchSettings, flags: Sequence[str]) -> None:
    """Refuses what does not go with several seeds."""
    if launch.resume is not None:
        raise UserError("--seeds begins new runs, and --resume goes on with one.")
    if len(without(flags, "seed")) < len(flags):
        raise UserError("--seeds gives each run its --seed: drop one of the two.")
    place = find_place(
        launch.coordinator, launch.num_processes, launch.process_id, os.environ
    )
    if place is not None:
        raise UserError(
            "--seeds is for a process that trains alone. With several, give each run "
            "its own --seed; under SLURM, --num-processes 1 makes each task one."
        )


def _check_alike(settings: RunSettings[Any]) -> None:
    """Stops all processes if they were not told the same.

    Raises:
        CollectiveStop: If there are several, and their settings differ.
    """
    told = {"algorithm": settings.name, **settings.to_json()}
    first = broadcast(told)

    def check() -> None:
        for name in sorted(first.keys() | told.keys()):
            if first.get(name) != told.get(name):
                raise UserError(
                    f"A process was told {flag(name)} {told.get(name)}, and the first "
                    f"one {first.get(name)}: processes that train together have the "
                    "same settings. For runs of their own, give each --num-processes 1."
                )

    on_all(check)


def _continued(
    command_line: CommandLine[Config], directory: Path, arguments: Sequence[str]
) -> tuple[RunSettings[Config], Run]:
    """The settings of the run that is resumed, with what the command line changes."""
    run = Run(directory)
    saved = command_line.read(run)
    before: dict[str, Any] = checkpoint_settings(saved.to_json())
    chosen = command_line.chosen(arguments)
    if chosen is not None:
        # Another algorithm's flags would be read, and another preset's defaults.
        selector = str(command_line.selector)
        there = before.get(selector, saved.name)
        _check_same(selector, chosen, there, run)
    settings = command_line.parse(arguments, default=saved)
    for name, value in checkpoint_settings(settings.to_json()).items():
        _check_same(name, value, before[name], run)
    return settings, run


def _check_same(name: str, asked: Any, before: Any, run: Run) -> None:
    if asked != before:
        raise UserError(
            f"{flag(name)} {asked} differs from the run's {before}. Drop "
            f"{flag(name)} to go on with {run.directory}, or start a new run."
        )


def load_state(
    run: Run, state: State, settings: RunSettings[Any], limit: Limit
) -> tuple[State, Progress]:
    """Reads where a run that is resumed stands, and says so.

    Args:
        run: The run. Its `config.json` gets the new limit.
        state: A state of the same form.
        settings: The settings that it goes on with.
        limit: The one of them that says how long the run is.

    Returns:
        The state and how far the run is.

    Raises:
        UserError: If the checkpoint was made under other settings, or is beyond the
            limit.
    """
    state, progress, notes = load_checkpoint(
        run.checkpoints, state, checkpoint_settings(settings.to_json())
    )
    for note in notes:
        print(note, file=sys.stderr)
    done = {"iterations": progress.iteration, "steps": progress.env_steps}[limit]
    asked = getattr(settings.algorithm, limit)
    before = run.manifest.settings.get(limit, asked)
    if asked != before:
        # The last iteration may have gone beyond what was asked for then.
        if asked < done:
            raise UserError(
                f"{flag(limit)} {asked} is less than the {done} that {run.directory} "
                "has done. Raise it, or drop it."
            )
        print(
            f"{limit.capitalize()}: {before:,} before, {asked:,} now; schedules run "
            "over the new number."
        )
        run.update_settings(**{limit: asked})
    print(f"Continuing {run.directory} after iteration {progress.iteration}.")
    return state, progress


def new_directory(settings: RunSettings[Any], parent: Path) -> Path:
    """Names a directory for a run that was given none, by task, seed and time."""
    return parent / _name(settings, f"seed{settings.launch.seed}")


def _name(settings: RunSettings[Any], what: str) -> str:
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    env = settings.task.env.replace("/", "-").replace(":", "-")
    return f"{env}-{what}-{now}"
