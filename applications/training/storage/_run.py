import contextlib
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from applications.settings import UserError
from applications.training.storage._files import (
    remove_leftovers,
    sync_directory,
    write_json,
)
from applications.training.storage._manifest import Manifest


_CONFIG, _CHECKPOINTS = "config.json", "checkpoints"
_METRICS, _POLICY, _PLOT = "metrics.jsonl", "policy.eqx", "return.png"
_EVALUATION = "evaluation.json"
# Of a directory that appears only when it is whole.
_CREATED = ".run-"
# A creation that takes longer was killed.
_LONGEST_CREATION = 3600.0


@final
class Run:
    """A run's directory.

    It holds `config.json`, `metrics.jsonl`, TensorBoard events, `checkpoints/`,
    `policy.eqx`, `return.png` and, once it is done, `evaluation.json`.

    Attributes:
        directory: The directory.
        manifest: What `config.json` says: algorithm, settings, software.
    """

    def __init__(self, directory: Path):
        """Opens an existing run.

        Args:
            directory: The run's directory.

        Raises:
            UserError: If it is not the directory of a run, or of another format.
        """
        self.directory = directory
        if not self._config_path.is_file():
            raise UserError(
                f"{directory} is not a run: it has no config.json. Give the directory "
                "that a training run printed."
            )
        try:
            content = json.loads(self._config_path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self._config_path} is not JSON: {error}.") from error
        self.manifest = Manifest.from_json(content, self._config_path)

    @classmethod
    def create(cls, directory: Path, manifest: Manifest) -> "Run":
        """Creates the directory of a new run.

        The directory appears with its `config.json` in it or not at all.

        Args:
            directory: A path where nothing exists.
            manifest: Algorithm and settings of the run.

        Returns:
            The run.

        Raises:
            UserError: If the path exists.
            OSError: If it cannot be written.
        """
        if directory.exists() or directory.is_symlink():
            message = f"{directory} exists. Choose another --run-dir"
            if (directory / _CONFIG).is_file():
                again = shlex.quote(str(directory))
                message += f", or go on with that run by --resume {again}"
            raise UserError(f"{message}.")
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            _remove_killed_creations(directory.parent)
            temporary = Path(tempfile.mkdtemp(prefix=_CREATED, dir=directory.parent))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(directory)) from error
        try:
            temporary.chmod(0o755)
            (temporary / _CHECKPOINTS).mkdir()
            write_json(temporary / _CONFIG, manifest.to_json())
            os.rename(temporary, directory)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise OSError(error.errno, error.strerror, str(directory)) from error
        sync_directory(directory.parent)
        return cls(directory)

    def update_settings(self, **changes: Any) -> None:
        """Changes settings in `config.json`, for a run that is continued for longer."""
        settings = self.manifest.settings | changes
        self.manifest = dataclasses.replace(self.manifest, settings=settings)
        write_json(self._config_path, self.manifest.to_json())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing to the run.

        What those left that were killed while writing is removed. The operating system
        frees the lock when the process ends, however it ends.

        Raises:
            UserError: If another process has it.
        """
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self.directory} is being trained by another process. Stop that "
                    "one first, or start a new run."
                ) from error
            for name in (_CONFIG, _METRICS, _POLICY, _PLOT, _EVALUATION):
                remove_leftovers(self.directory, name)
            for inner in (self.checkpoints, self.snapshots):
                remove_leftovers(inner, "*.ckpt")
            yield
        finally:
            os.close(descriptor)

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.directory / _CHECKPOINTS

    @property
    def snapshots(self) -> Path:
        """Directory of what was learned at several times, where that is kept."""
        return self.directory / "snapshots"

    @property
    def metrics(self) -> Path:
        """File of the rows."""
        return self.directory / _METRICS

    @property
    def policy(self) -> Path:
        """File of the policy."""
        return self.directory / _POLICY

    @property
    def evaluation(self) -> Path:
        """File of the evaluation at the end."""
        return self.directory / _EVALUATION

    @property
    def plot(self) -> Path:
        """File of the learning curve."""
        return self.directory / _PLOT

    @property
    def _config_path(self) -> Path:
        return self.directory / _CONFIG


def _remove_killed_creations(parent: Path) -> None:
    """Removes what is left of runs whose process was killed while it created them.

    Nothing else is removed: not a file that creating a run does not make.
    """
    for left in parent.glob(f"{_CREATED}????????"):
        # Another process may be removing it too, and others' are theirs.
        with contextlib.suppress(OSError):
            old = time.time() - left.lstat().st_mtime > _LONGEST_CREATION
            if not old or left.is_symlink():
                continue
            remove_leftovers(left, _CONFIG)
            if {path.name for path in left.iterdir()} <= {_CONFIG, _CHECKPOINTS}:
                if (left / _CHECKPOINTS).exists():
                    (left / _CHECKPOINTS).rmdir()
                (left / _CONFIG).unlink(missing_ok=True)
                left.rmdir()
