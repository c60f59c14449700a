"""From a command line to settings and a run, new or continued."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from applications.runs._errors import UserError
from applications.runs._run import Run
from applications.runs._settings import (
    flag,
    RunSettings,
    settings_from_json,
    settings_to_json,
)


Settings = TypeVar("Settings", bound=RunSettings)

# What may differ between a checkpoint and the run that goes on from it.
_FREE = frozenset({"run_dir", "resume", "iterations", "steps", "checkpoint_every"})


def fixed(settings: RunSettings) -> dict[str, Any]:
    """The settings that a checkpoint and its run must agree on, as JSON."""
    return {k: v for k, v in settings_to_json(settings).items() if k not in _FREE}


def parse_settings(
    kind: type[Settings], arguments: Sequence[str] | None, *, prog: str
) -> tuple[Settings, Run | None]:
    """Reads a trainer's command line.

    Args:
        kind: Dataclass of the settings.
        arguments: The command line; the program's own unless given.
        prog: How the program is called.

    Returns:
        The settings, and the run to continue if `--resume` names one. Flags that are
        not given are then as they were.

    Raises:
        UserError: If the run is none, or flags differ from its settings.
    """
    settings = tyro.cli(kind, prog=prog, args=arguments)
    if settings.resume is None:
        return settings, None
    if settings.run_dir is not None:
        raise UserError("--run-dir names a new run and --resume an old one: drop one.")
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


def new_directory(parent: Path, settings: RunSettings) -> Path:
    """A directory for a run that was given none, named by task, seed and time."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return parent / f"{settings.env}-seed{settings.seed}-{now}"
