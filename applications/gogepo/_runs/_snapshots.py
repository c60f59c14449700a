"""Snapshots: what a run has learned at several times, to be used and compared."""

import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import equinox as eqx

from applications.gogepo._runs._command_line import COMMAND_LINE
from applications.gogepo.algorithm import GoGePo, Model, State
from applications.gogepo.config import Config
from applications.settings import UserError
from applications.training import (
    checkpoint_settings,
    checkpoints,
    DamagedError,
    key_for,
    Progress,
    Purpose,
    read_checkpoint,
    Run,
    RunSettings,
    save_checkpoint,
    set_aside,
)


def keep_snapshot(run: Run, algorithm: GoGePo, state: State) -> None:
    """Writes what has been learned, if it is time to.

    Args:
        run: The run.
        algorithm: Its algorithm.
        state: Its state.

    Raises:
        OSError: If it cannot be written.
    """
    config = algorithm.config
    directory = run.snapshots
    directory.mkdir(exist_ok=True)
    iteration, iterations = int(state.iteration), config.iterations
    before = max((number for number, _ in checkpoints(directory)), default=0)
    every = -(-iterations // config.snapshots)
    if iteration // every > before // every or iteration >= iterations:
        progress = Progress(iteration)
        settings = checkpoint_settings(run.manifest.settings)
        model = algorithm.model(state)
        save_checkpoint(directory, model, progress, settings, keep=None)


class OpenRun(NamedTuple):
    """A run of GoGePo, to be used.

    Attributes:
        run: The run.
        settings: Its settings.
        search: Its algorithm.
        form: The form of its state.
    """

    run: Run
    settings: RunSettings[Config]
    search: GoGePo
    form: State

    @property
    def checkpoint_settings(self) -> dict[str, Any]:
        """The settings that its checkpoints and snapshots have."""
        return checkpoint_settings(self.settings.to_json())


def open_run(directory: Path) -> OpenRun:
    """Opens a run of GoGePo.

    Args:
        directory: Its directory.

    Returns:
        The run.

    Raises:
        UserError: If there is no run of GoGePo in the directory.
    """
    run = Run(directory)
    if run.manifest.algorithm != "gogepo":
        raise UserError(
            f"{directory} is a run of {run.manifest.algorithm}, not of gogepo. To see "
            f"its policy: python -m applications.evaluate {directory}"
        )
    settings = COMMAND_LINE.read(run)
    search = GoGePo(settings.task.make(as_trained=True), settings.algorithm)
    key = key_for(settings.launch.seed, Purpose.TRAIN)
    # Only traced: to compile it would take longer than to write a policy.
    form = eqx.filter_eval_shape(lambda key: search.init(key=key), key)
    return OpenRun(run, settings, search, form)


def snapshots(opened: OpenRun) -> dict[int, Model]:
    """Reads what a run had learned, by iteration, the first one first.

    Those that are damaged are set aside, and it is said.

    Args:
        opened: The run.

    Returns:
        The models.

    Raises:
        UserError: If there is none that is whole.
    """
    found = {number: _read(path, opened) for number, path in _files(opened.run)}
    models = {number: model for number, model in found.items() if model is not None}
    return models if models else _none(opened.run)


def last_snapshot(opened: OpenRun) -> Model:
    """Reads what a run has learned in the end, as `snapshots` does."""
    for _, path in reversed(_files(opened.run)):
        model = _read(path, opened)
        if model is not None:
            return model
    return _none(opened.run)


def _files(run: Run) -> list[tuple[int, Path]]:
    directory = run.snapshots
    return checkpoints(directory) if directory.is_dir() else []


def _none(run: Run) -> NoReturn:
    raise UserError(
        f"{run.directory} has no snapshots: the run has not come to its first one, or "
        "they are damaged. To write the next one, go on with it by --resume."
    )


def _read(path: Path, opened: OpenRun) -> Model | None:
    """The model in a file; None if that is damaged."""
    form = eqx.filter_eval_shape(opened.search.model, opened.form)
    try:
        return read_checkpoint(path, form, opened.checkpoint_settings)
    except DamagedError:
        aside = set_aside(path)
        print(f"Snapshot {path} is damaged; it is now {aside}.", file=sys.stderr)
        return None
