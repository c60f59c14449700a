"""One flat command line of the three parts of a run's settings."""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final, Generic, Literal, TypeVar

from applications.settings import UserError
from applications.training.cli._commands import resume_command
from applications.training.cli._groups import Flag, make_groups
from applications.training.cli._settings import RunSettings
from applications.training.storage import Run


Config = TypeVar("Config")


@final
@dataclasses.dataclass(frozen=True)
class CommandLine(Generic[Config]):
    """What a training command can be told.

    Attributes:
        prog: How the command is called.
        choices: Settings to begin with, by name; the first ones are the default.
        selector: The flag that chooses among them: `"preset"`, recorded beside the
            settings, or `"algorithm"`, where names are those of algorithms. None if
            there is only one choice.
        check: Raises a `UserError` for settings that do not go together.
    """

    prog: str
    choices: Mapping[str, RunSettings[Config]]
    selector: Literal["preset", "algorithm"] | None = None
    check: Callable[[RunSettings[Config]], None] = lambda settings: None

    def parse(
        self,
        arguments: Sequence[str] | None = None,
        *,
        default: RunSettings[Config] | None = None,
    ) -> RunSettings[Config]:
        """Reads settings; wrong flags and `--help` end the program, as in tyro.

        Args:
            arguments: The command line; the program's own unless given.
            default: Settings where no flag is given; those that the selector chooses
                unless given.

        Returns:
            The settings.

        Raises:
            UserError: If a value is out of its range, or settings do not go together.
        """
        # Slow to import.
        import tyro

        arguments = sys.argv[1:] if arguments is None else arguments
        chosen = self.chosen(arguments)
        if default is None:
            # A name that there is not is refused below.
            first = next(iter(self.choices))
            default = self.choices.get(first if chosen is None else chosen)
            default = self.choices[first] if default is None else default
        parts = {
            "task": default.task,
            # Names the group of flags in the help.
            default.name.replace("-", "_"): default.algorithm,
            "launch": default.launch,
        }
        first = [SEEDS]
        if self.selector is not None:
            kind = Literal[tuple(self.choices)]
            told = "Whose flags and defaults these are."
            first.insert(0, Flag(self.selector, kind, self._name_of(default), told))
        groups = make_groups(parts, first)
        fields: list[Any] = [
            (name, type(group), dataclasses.field(default=group))
            for name, group in groups.items()
        ]
        flat = dataclasses.make_dataclass("Settings", fields, frozen=True)
        parsed = tyro.cli(
            tyro.conf.OmitArgPrefixes[flat],
            prog=self.prog,
            description=(inspect.getdoc(type(default.algorithm)) or "").split("\n")[0],
            args=arguments,
        )
        given: dict[str, Any] = {}
        for name in groups:
            given |= vars(getattr(parsed, name))
        task, algorithm, launch = (
            type(part)(**{x.name: given[x.name] for x in dataclasses.fields(part)})
            for part in parts.values()
        )
        settings = RunSettings(default.name, task, algorithm, launch, default.preset)
        self.check(settings)
        return settings

    def chosen(self, arguments: Sequence[str]) -> str | None:
        """Reads the selector alone.

        Args:
            arguments: The command line.

        Returns:
            The name given, None without one.
        """
        if self.selector is None:
            return None
        return _read(arguments, self.selector, nargs="?")[0]

    def seeds(self, arguments: Sequence[str]) -> tuple[tuple[int, ...], list[str]]:
        """Reads `--seeds` alone.

        Args:
            arguments: The command line, which `parse` has accepted.

        Returns:
            The seeds, none without that flag, and the command line without it.
        """
        found, others = _read(arguments, SEEDS.name, nargs="*")
        return tuple(map(int, found or ())), others

    @property
    def module(self) -> str:
        """What `python -m` is given."""
        return self.prog.split()[-1]

    def read(self, run: Run) -> RunSettings[Config]:
        """Reads the settings of a run.

        Args:
            run: The run.

        Returns:
            Its settings; those that it does not record are as by default.

        Raises:
            UserError: If it is a run of another algorithm, or its settings cannot be
                used.
        """
        algorithm, recorded = run.manifest.algorithm, run.manifest.settings
        fitting = [x for x in self.choices.values() if x.name == algorithm]
        if not fitting:
            raise UserError(
                f"{run.directory} is a run of {algorithm}, which this command does not "
                f"train. Go on by: {resume_command(algorithm, run.directory)}"
            )
        default = fitting[0]
        try:
            if self.selector == "preset":
                preset = recorded.get("preset", default.preset)
                if preset not in self.choices:
                    raise UserError(f"Unknown preset {preset}.")
                default = self.choices[preset]
            return default.updated_from_json(recorded)
        except UserError as error:
            raise UserError(
                f"{run.directory}/config.json cannot be used: {error}"
            ) from error

    def _name_of(self, settings: RunSettings[Config]) -> str | None:
        return settings.preset if self.selector == "preset" else settings.name


# Not a setting of a run: each of the runs has its own seed.
SEEDS = Flag(
    "seeds",
    tuple[int, ...],
    (),
    "Train once for each of these seeds, one run after the other.",
)


def without(arguments: Sequence[str], name: str) -> list[str]:
    """A command line without one flag and its value.

    Args:
        arguments: The command line.
        name: The flag, without dashes in front.

    Returns:
        The rest.
    """
    return _read(arguments, name, nargs=1)[1]


def _read(
    arguments: Sequence[str], name: str, nargs: str | int
) -> tuple[Any, list[str]]:
    """What one flag is given, None without it, and all other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # tyro takes either spelling.
    spelled = {f"--{name}", f"--{name.replace('-', '_')}"}
    parser.add_argument(*sorted(spelled), nargs=nargs, dest="found")
    parsed, others = parser.parse_known_args(arguments)
    return parsed.found, others
