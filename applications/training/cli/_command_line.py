"""One flat command line of the three parts of a run's settings."""

import argparse
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final, Generic, Literal, TypeVar

from applications.settings import UserError
from applications.training.cli._commands import resume_command
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
        unchecked = {name: _unchecked(part) for name, part in parts.items()}
        fields: list[Any] = [
            (name, type(part), dataclasses.field(default=part))
            for name, part in unchecked.items()
        ]
        if self.selector is not None:
            name = self._name_of(default)
            kind = typing.Annotated[
                Literal[tuple(self.choices)],
                tyro.conf.arg(help="Whose flags and defaults these are."),
            ]
            fields.insert(0, (self.selector, kind, dataclasses.field(default=name)))
        flat = dataclasses.make_dataclass("Settings", fields, frozen=True)
        parsed = tyro.cli(
            tyro.conf.OmitArgPrefixes[flat],
            prog=self.prog,
            description=(inspect.getdoc(type(default.algorithm)) or "").split("\n")[0],
            args=arguments,
        )
        task, algorithm, launch = (
            type(part)(**vars(getattr(parsed, name))) for name, part in parts.items()
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
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument(f"--{self.selector}", nargs="?", dest="chosen")
        return parser.parse_known_args(arguments)[0].chosen

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


def _unchecked(part: Any) -> Any:
    """The same settings in a class that checks nothing.

    In a class that does, tyro would end the program with a message of its own. Fields
    that are keywords of Python but for their end have flags without it.
    """
    # Slow to import.
    import tyro

    kind = type(part)
    hints = typing.get_type_hints(kind, include_extras=True)
    keywords = [x.name for x in dataclasses.fields(part) if x.name.endswith("_")]
    body: dict[str, Any] = {name: getattr(kind, name) for name in keywords}
    body |= {"__post_init__": lambda self: None, "__doc__": kind.__doc__}
    body["__annotations__"] = {
        name: typing.Annotated[hints[name], tyro.conf.arg(name=name.rstrip("_"))]
        for name in keywords
    }
    free: Any = dataclasses.dataclass(frozen=True)(type(kind.__name__, (kind,), body))
    return free(**vars(part))
