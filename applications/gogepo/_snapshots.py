"""What a run has learned at several times, to be used and compared afterwards."""

from pathlib import Path

import equinox as eqx

from applications.gogepo.algorithm import GoGePo, Model, State
from applications.gogepo.config import Config
from applications.settings import settings_from_json, UserError
from applications.training import (
    checkpoints,
    fixed,
    key_for,
    make_task,
    Progress,
    Purpose,
    read_checkpoint,
    Run,
    save_checkpoint,
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
    directory = _directory(run)
    directory.mkdir(exist_ok=True)
    iteration, iterations = int(state.iteration), config.own["iterations"]
    before = max((number for number, _ in checkpoints(directory)), default=0)
    every = -(-iterations // config.snapshots)
    if iteration // every > before // every or iteration >= iterations:
        progress = Progress(iteration)
        save_checkpoint(
            directory, algorithm.model(state), progress, fixed(config), keep=None
        )


def open_run(directory: Path) -> tuple[Run, GoGePo, State]:
    """A run of GoGePo, to be used.

    Args:
        directory: Its directory.

    Returns:
        The run, its algorithm, and the form of its state.

    Raises:
        UserError: If there is no run of GoGePo in the directory.
    """
    run = Run(directory)
    if "command_kind" not in run.config:
        raise UserError(f"{directory} is a run of another algorithm.")
    config = settings_from_json(Config, run.config)
    algorithm = GoGePo(make_task(config, as_trained=True), config)
    key = key_for(config.seed, Purpose.TRAIN)
    # Only traced: to compile it would take longer than to write a policy.
    form = eqx.filter_eval_shape(lambda key: algorithm.init(key=key), key)
    return run, algorithm, form


def snapshots(run: Run, algorithm: GoGePo, form: State) -> dict[int, Model]:
    """What a run had learned, by iteration, the first one first.

    Args:
        run: The run.
        algorithm: Its algorithm.
        form: The form of its state.

    Returns:
        The models.

    Raises:
        UserError: If there is none, or one is damaged.
    """
    return {
        number: _read(path, algorithm, form) for number, path in _snapshot_files(run)
    }


def last_snapshot(run: Run, algorithm: GoGePo, form: State) -> Model:
    """What a run has learned in the end, as `snapshots` has it."""
    return _read(_snapshot_files(run)[-1][1], algorithm, form)


def _snapshot_files(run: Run) -> list[tuple[int, Path]]:
    directory = _directory(run)
    found = checkpoints(directory) if directory.is_dir() else []
    if not found:
        raise UserError(
            f"{run.directory} has no snapshots: the run has not come to its first one."
        )
    return found


def _read(path: Path, algorithm: GoGePo, form: State) -> Model:
    return read_checkpoint(
        path, eqx.filter_eval_shape(algorithm.model, form), fixed(algorithm.config)
    )


def _directory(run: Run) -> Path:
    return run.directory / "snapshots"
