"""Settings of a run: of the task, of the algorithm, and of the launch."""

import dataclasses
import typing
from pathlib import Path
from typing import Any, Generic, TypeVar

from applications.envs import TaskSettings
from applications.settings import (
    AtLeast,
    check_settings,
    Count,
    OptionalCount,
    Seed,
    settings_from_json,
    settings_to_json,
    UserError,
)
from applications.training.storage import Manifest


Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class LaunchSettings:
    """Where a run goes, and with what other processes."""

    seed: Seed = 0
    """Seed of all randomness."""

    run_dir: Path | None = None
    """Directory for the run; it must not exist. Otherwise a new one in runs."""

    resume: Path | None = None
    """Directory of a run to continue. Its settings stay, but for its length."""

    checkpoint_every: Count = 10
    """Iterations from one checkpoint to the next."""

    coordinator: str | None = None
    """HOST:PORT at which several processes meet, on the machine of process 0."""

    num_processes: OptionalCount = None
    """How many processes train together. One, or what SLURM says, unless given: by 1
    each task of SLURM is a run of its own."""

    process_id: typing.Annotated[int | None, AtLeast(0)] = None
    """Which of them this one is, counted from 0."""

    heartbeat: typing.Annotated[int, AtLeast(5)] = 30
    """Seconds without a sign of life after which a process counts as lost."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)


# Of the machines that a run is on just now: not recorded.
_MACHINES = frozenset({"coordinator", "num_processes", "process_id", "heartbeat"})
# What does not change what is computed: where a run is, and how long it goes on.
_RESUMABLE = frozenset({"run_dir", "resume", "checkpoint_every", "iterations", "steps"})


@dataclasses.dataclass(frozen=True)
class RunSettings(Generic[Config]):
    """All settings of a run. No two parts have a field of the same name.

    Attributes:
        name: Name of the algorithm, as runs record it.
        task: The task.
        algorithm: The algorithm's own dataclass of settings.
        launch: Seed, directory, checkpoints and processes.
        preset: Name of the preset that the settings began as; None without presets.
    """

    name: str
    task: TaskSettings
    algorithm: Config
    launch: LaunchSettings = LaunchSettings()
    preset: str | None = None

    def __post_init__(self):
        """Checks the task's settings, and that the names of fields are unique.

        Raises:
            UserError: With the flag, its value and what it may be.
            ValueError: If two parts have a field of the same name.
        """
        check_settings(self.task)
        names = [field.name for part in self._parts for field in _fields(part)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Two parts of the settings have a field {twice[0]}.")

    def to_json(self) -> dict[str, Any]:
        """What a run records: all settings by name, but for those of machines."""
        found = {} if self.preset is None else {"preset": self.preset}
        for part in self._parts:
            found |= settings_to_json(part)
        return {name: found[name] for name in found if name not in _MACHINES}

    def updated_from_json(self, content: dict[str, Any]) -> "RunSettings[Config]":
        """Takes over recorded settings; those left out stay.

        Args:
            content: Settings by name, as `to_json` gives them.

        Returns:
            The settings.

        Raises:
            UserError: If there is a setting of an unknown name, or a bad value.
        """
        known = {"preset"} if self.preset is not None else set()
        known |= {field.name for part in self._parts for field in _fields(part)}
        unknown = sorted(content.keys() - known)
        if unknown:
            raise UserError(f"Unknown settings: {', '.join(unknown)}.")

        def updated(part: Any) -> Any:
            own = settings_to_json(part)
            return settings_from_json(
                type(part), own | {k: v for k, v in content.items() if k in own}
            )

        task, algorithm, launch = map(updated, self._parts)
        preset = content.get("preset", self.preset)
        return RunSettings(self.name, task, algorithm, launch, preset)

    @property
    def manifest(self) -> Manifest:
        """What a new run with these settings says of itself."""
        return Manifest(self.name, self.to_json())

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.task, self.algorithm, self.launch


def checkpoint_settings(recorded: dict[str, Any]) -> dict[str, Any]:
    """Selects, of recorded settings, those that a run's checkpoints must have too."""
    return {name: recorded[name] for name in recorded if name not in _RESUMABLE}


def asked_otherwise(
    settings: RunSettings[Any], recorded: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Compares settings with those of a run.

    Args:
        settings: The settings.
        recorded: What a run has, as its manifest says.

    Returns:
        By name, what is recorded and what is asked, where they differ: in what changes
        the results, the length of the run included. Physics that are to be chosen
        (`auto`) agree with any.
    """
    free = _RESUMABLE - {"iterations", "steps"}
    if settings.task.physics == "auto":
        free |= {"physics"}
    asked = settings.to_json()
    return {
        name: (recorded.get(name), asked.get(name))
        for name in sorted(asked.keys() | recorded.keys())
        if name not in free and recorded.get(name) != asked.get(name)
    }


def _fields(part: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(part)
