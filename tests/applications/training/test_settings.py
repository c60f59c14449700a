"""Settings in parts, on one command line, and back from what a run recorded."""

import dataclasses
import importlib
import re
from typing import Annotated, Any, Literal

import pytest

from applications.envs import TaskSettings
from applications.settings import AtLeast, check_settings, Count, UserError
from applications.training import (
    asked_otherwise,
    checkpoint_settings,
    CommandLine,
    LaunchSettings,
    Manifest,
    parse_settings,
    Run,
    RunSettings,
    Trainer,
    TRAINERS,
)
from applications.training.cli._groups import GROUPS, in_order


@dataclasses.dataclass(frozen=True)
class _Toy:
    """Learns nothing."""

    iterations: Count = 10
    """How long."""

    rate: float = 0.5
    """How fast."""

    def __post_init__(self):
        check_settings(self)


@dataclasses.dataclass(frozen=True)
class _Other:
    """Learns nothing either."""

    iterations: Count = 20
    """How long."""

    top: Count = 3
    """Of how many."""


def _settings(own: Any, name: str = "toy", **more: Any) -> RunSettings[Any]:
    return RunSettings(name, TaskSettings(), own, **more)


_SLOW = LaunchSettings(checkpoint_every=1000)
_PRESETS = CommandLine(
    "toy",
    {
        "quick": _settings(_Toy(), preset="quick"),
        "slow": _settings(_Toy(99, 0.1), preset="slow", launch=_SLOW),
    },
    "preset",
)
_ALGORITHMS = CommandLine(
    "toys",
    {"toy": _settings(_Toy()), "other": _settings(_Other(), "other")},
    "algorithm",
)


def test_flags_of_all_parts():
    flags = "--env lqr --rate 0.25 --seed 5 --no-survival-bonus --checkpoint-every 3"
    settings = _PRESETS.parse(flags.split())
    assert settings.task == TaskSettings(env="lqr", survival_bonus=False)
    assert settings.algorithm == _Toy(rate=0.25)
    assert settings.launch == LaunchSettings(seed=5, checkpoint_every=3)
    assert settings.preset == "quick"


@pytest.mark.parametrize("flags", [["--preset", "slow"], ["--preset=slow"]])
def test_a_preset_is_where_flags_begin(flags):
    settings = _PRESETS.parse([*flags, "--rate", "2"])
    assert settings.algorithm == _Toy(99, 2.0)
    assert settings.launch.checkpoint_every == 1000 and settings.preset == "slow"


def test_each_algorithm_has_its_own_flags(capsys):
    assert _ALGORITHMS.parse(["--algorithm", "other", "--top", "4"]).algorithm.top == 4
    for flags in ([], ["--algorithm", "toy"]):
        with pytest.raises(SystemExit) as ended:
            _ALGORITHMS.parse([*flags, "--top", "4"])
        assert ended.value.code == 2 and "--top" in capsys.readouterr().err
    for name, shown, hidden in (
        ("toy", "--rate", "--top"),
        ("other", "--top", "--rate"),
    ):
        with pytest.raises(SystemExit):
            _ALGORITHMS.parse(["--algorithm", name, "--help"])
        text = capsys.readouterr().out
        assert shown in text and hidden not in text and "{toy,other}" in text


def _help(command_line: CommandLine, capsys, monkeypatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        command_line.parse(["--help"])
    return capsys.readouterr().out


def _flags(text: str) -> list[str]:
    """Flags with which lines of a help begin, in a frame or without."""
    return re.findall(r"^[^\w-]{0,3}(--[a-z][\w-]+)[ ,]", text, re.M)


def test_the_first_screen_of_the_help_has_what_matters(capsys, monkeypatch):
    command_line = importlib.import_module("applications.epvf.train").COMMAND_LINE
    screen = _help(command_line, capsys, monkeypatch).splitlines()[:32]
    found = _flags("\n".join(screen))
    assert found == [
        *("--preset", "--env", "--iterations", "--num-envs", "--representation"),
        *("--hidden", "--seed", "--seeds", "--run-dir", "--resume"),
    ]


def test_groups_have_every_flag_once(capsys, monkeypatch):
    named = set()
    for name in ("epvf", "gogepo", "pvf", "baselines"):
        module = importlib.import_module(f"applications.{name}.train")
        text = _help(module.COMMAND_LINE, capsys, monkeypatch)
        flags = _flags(text)
        assert len(flags) == len(set(flags))
        named |= {flag[2:].replace("-", "_") for flag in flags}
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped)) and set(grouped) <= named


def test_choices_have_a_fixed_order():
    kind = Annotated[Literal["a", "b"] | None, AtLeast(1)]
    assert in_order(kind) == Annotated[Literal["a", "b", None], AtLeast(1)]
    assert in_order(int | None) == int | None
    assert in_order(Literal["a", "b"]) == Literal["a", "b"]


@pytest.mark.parametrize("flags", [["--preset", "both"], ["--preset"]])
def test_a_preset_that_there_is_not(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        _PRESETS.parse(flags)
    assert ended.value.code == 2 and "--preset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--horizon", "0"), "--horizon must be at least 1; got 0."),
        (("--seed", "-1"), "--seed must be from 0 to 2**32 - 1; got -1."),
        (("--heartbeat", "4"), "--heartbeat must be at least 5; got 4."),
    ],
)
def test_ranges(flags, message):
    with pytest.raises(UserError) as caught:
        _PRESETS.parse(flags)
    assert str(caught.value) == message


def test_names_are_unique():
    @dataclasses.dataclass(frozen=True)
    class Twice:
        seed: int = 0

    with pytest.raises(ValueError, match="a field seed"):
        _settings(Twice())


def test_every_trainer_has_settings_of_the_algorithm():
    for name, trainer in TRAINERS.items():
        assert isinstance(trainer, Trainer)
        command_line = importlib.import_module(trainer.module).COMMAND_LINE
        settings = command_line.parse(trainer.flags)
        assert settings.name == name
        recorded = settings.to_json()
        assert settings.updated_from_json(recorded) == settings
        assert not {"coordinator", "heartbeat"} & recorded.keys()
        # What a checkpoint must agree with: neither where nor how long.
        kept = checkpoint_settings(recorded)
        assert {"env", "seed"} <= kept.keys()
        assert not {"run_dir", "iterations", "steps"} & kept.keys()


def _run(directory, settings: RunSettings[Any], **changes: Any) -> Run:
    manifest = Manifest(settings.name, settings.to_json() | changes, {})
    return Run.create(directory, manifest)


def test_a_run_that_goes_on_has_its_settings(tmp_path):
    begun = _PRESETS.parse(["--preset", "slow", "--rate", "3", "--env", "lqr"])
    run = _run(tmp_path / "run", begun, physics="mujoco")
    flags = ["--resume", str(run.directory), "--iterations", "200"]
    settings, found = parse_settings(_PRESETS, flags)
    assert found is not None and found.directory == run.directory
    assert settings.algorithm == _Toy(200, 3.0) and settings.preset == "slow"
    assert settings.task == TaskSettings(env="lqr", physics="mujoco")
    for more, said in (
        (["--rate", "4"], "--rate 4.0 differs from the run's 3.0"),
        (["--env", "ant"], "--env ant differs from the run's lqr"),
        (["--preset", "quick"], "--preset quick differs from the run's slow"),
    ):
        with pytest.raises(UserError, match=said):
            parse_settings(_PRESETS, [*flags, *more])


def test_a_run_of_another_algorithm(tmp_path):
    run = _run(tmp_path / "run", _settings(_Other(), "other"))
    settings, _ = parse_settings(_ALGORITHMS, ["--resume", str(run.directory)])
    assert settings.name == "other" and settings.algorithm == _Other()
    flags = ["--resume", str(run.directory), "--algorithm", "toy"]
    with pytest.raises(UserError, match="--algorithm toy differs from the run's other"):
        parse_settings(_ALGORITHMS, flags)
    with pytest.raises(UserError, match="is a run of other, which this command does"):
        _PRESETS.read(run)
    gogepo = Run.create(tmp_path / "gogepo", Manifest("gogepo", {}, {}))
    said = f"Go on by: python -m applications.gogepo.train --resume {gogepo.directory}"
    with pytest.raises(UserError, match=said):
        _PRESETS.read(gogepo)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rat": 8}, "Unknown settings: rat."),
        ({"iterations": "8"}, "--iterations must be of type int; got '8'."),
        ({"iterations": True}, "--iterations must be of type int; got True."),
        ({"iterations": 0}, "--iterations must be at least 1; got 0."),
        ({"preset": "none"}, "Unknown preset none."),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, changes, message):
    run = _run(tmp_path / "run", _PRESETS.choices["quick"], **changes)
    with pytest.raises(UserError, match="config.json cannot be used: " + message):
        _PRESETS.read(run)


def test_a_run_from_before_a_setting_came(tmp_path):
    run = _run(tmp_path / "run", _PRESETS.choices["slow"])
    settings = dict(run.manifest.settings)
    del settings["rate"]
    younger = Run.create(tmp_path / "older", Manifest("toy", settings, {}))
    assert _PRESETS.read(younger) == _PRESETS.choices["slow"]


def test_what_is_asked_otherwise():
    settings = _PRESETS.choices["quick"]
    recorded = settings.to_json()
    assert asked_otherwise(settings, recorded | {"physics": "mjx"}) == {}
    assert asked_otherwise(settings, recorded | {"run_dir": "x"}) == {}
    changed = recorded | {"iterations": 3, "rate": 1.0}
    assert asked_otherwise(settings, changed) == {
        "iterations": (3, 10),
        "rate": (1.0, 0.5),
    }
