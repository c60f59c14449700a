"""From a command line to settings and a run, new or continued."""

import dataclasses
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from applications.settings import flag, settings_from_json, settings_to_json, UserError
from applications.training._checkpoint import load_checkpoint, Progress
from applications.training._compilation import keep_compiled
from applications.training._joining import join
from applications.training._processes import on_main, share
from applications.training._run import Run
from applications.training._settings import RunSettings


Settings = TypeVar("Settings", bound=RunSettings)
State = TypeVar("State")

# What is no setting of a run, but of the machines that it is on just now.
_OF_MACHINES = frozenset({"coordinator", "num_processes", "process_id", "heartbeat"})

# What may differ between a checkpoint and the run that goes on from it.
_FREE = _OF_MACHINES | {"run_dir", "resume", "iterations", "steps", "checkpoint_every"}


def fixed(settings: RunSettings) -> dict[str, Any]:
    """The settings that a checkpoint and its run must agree on, as JSON."""
    return {k: v for k, v in settings_to_json(settings).items() if k not in _FREE}


def recorded(settings: RunSettings) -> dict[str, Any]:
    """The settings that a run's `config.json` has."""
    everything = settings_to_json(settings)
    return {k: v for k, v in everything.items() if k not in _OF_MACHINES}


def parse_settings(
    kind: type[Settings], arguments: Sequence[str] | None, *, prog: str
) -> tuple[Settings, Run | None]:
    """Reads a trainer's command line, and joins the other processes of the run.

    They all have its settings from the first one, which alone sees its directory.

    Args:
        kind: Dataclass of the settings.
        arguments: The command line; the program's own unless given.
        prog: How the program is called.

    Returns:
        The settings, and the run to continue if `--resume` names one and this is the
        first process. Flags that are not given are then as they were.

    Raises:
        UserError: If the run is none, or flags differ from its settings.
    """
    settings = tyro.cli(kind, prog=prog, args=arguments)
    if settings.resume is not None and settings.run_dir is not None:
        raise UserError("--run-dir names a new run and --resume an old one: drop one.")
    keep_compiled()
    join(settings)
    run = None
    if settings.resume is not None:
        found = on_main(lambda: _continued(settings, arguments, prog=prog))
        if found is not None:
            settings, run = found
    own = {name: getattr(settings, name) for name in _OF_MACHINES}
    settings = settings_from_json(kind, share(recorded(settings)))
    return dataclasses.replace(settings, **own), run


def _continued(
    settings: Settings, arguments: Sequence[str] | None, *, prog: str
) -> tuple[Settings, Run]:
    """The settings of the run that is resumed, with what the command line changes."""
    assert settings.resume is not None
    kind = type(settings)
    run = Run(settings.resume)
    try:
        saved = settings_from_json(kind, run.config)
    except UserError as error:
        raise UserError(
            f"{run.directory}/config.json cannot be used: {error}"
        ) from error
    settings = tyro.cli(kind, prog=prog, args=arguments, default=saved)
    before = fixed(saved)
    for name, value in fixed(settings).items():
        if value != before[name]:
            raise UserError(
                f"{flag(name)} {value} differs from the run's {before[name]}. Drop "
                f"{flag(name)} to go on with {run.directory}, or start a new run."
            )
    return settings, run


def load_state(
    run: Run, state: State, settings: RunSettings, limit: Literal["iterations", "steps"]
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
    state, progress, notes = load_checkpoint(run.checkpoints, state, fixed(settings))
    for note in notes:
        print(note, file=sys.stderr)
    done = {"iterations": progress.iteration, "steps": progress.env_steps}[limit]
    before = getattr(settings_from_json(type(settings), run.config), limit)
    asked = getattr(settings, limit)
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
        run.rewrite_config(run.config | {limit: asked})
    print(f"Continuing {run.directory} after iteration {progress.iteration}.")
    return state, progress


def new_directory(parent: Path, settings: RunSettings) -> Path:
    """A directory for a run that was given none, named by task, seed and time."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return parent / f"{settings.env}-seed{settings.seed}-{now}"
