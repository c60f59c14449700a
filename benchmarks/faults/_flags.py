"""Flags with values that nobody can use, up to compilation."""

import dataclasses
import importlib
import json
import os
import random
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.random as jr
import tyro

from applications.settings import flag
from applications.sweep import Training
from applications.training import exit_on_user_error
from benchmarks.faults._cases import CASES
from benchmarks.faults._damage import call
from benchmarks.faults._forks import start, wait
from benchmarks.faults._tally import Tally


_VALUES = (
    *("nan", "inf", "-inf", "1e400", "-1e39", "1e-400", "-1", "0", "-0", "1.5", "3"),
    *("2147483648", "99999999999999999999", "9" * 400, "None", "none", "True", "", " "),
    *("x", "ü", "--", "-", "1 2", "1,2", "[1]", "{}", "/nope/x", "a:b", ":", "json:d"),
    *("gymnasium:", "playground:x", "\x01", "\udcff", "%s", "../..", "0x10", "1_0"),
)


def search_of(settings: Any) -> Any:
    """The algorithm that settings are for."""
    places = {
        "epvf": ("applications.epvf.algorithm", "EPVF"),
        "gogepo": ("applications.gogepo", "GoGePo"),
        "pvf": ("applications.pvf.train", "make_search"),
        "map-elites": ("applications.evolution.map_elites", "MAPElites"),
    }
    evolution = ("applications.evolution.algorithm", "Evolution")
    module, name = places.get(settings.name, evolution)
    return getattr(importlib.import_module(module), name)


@exit_on_user_error
def _up_to_compilation(command_line: Any, flags: list[str]) -> int:
    """All that a trainer does before it compiles, without taking the memory."""
    settings = command_line.parse(flags)
    task = settings.task.make(as_trained=True)
    if settings.name in ("epvf", "gogepo", "pvf", "ars", "openes", "cma-es", "snes"):
        search = search_of(settings)(task, settings.algorithm)
        eqx.filter_eval_shape(lambda key: search.init(key=key), jr.key(0))
    return 0


def wrong_flags(module: str, count: int, work: Path, seed: int) -> Tally:
    """Gives a command flags at random.

    Args:
        module: The command, as `python -m` has it.
        count: How many command lines.
        work: An empty directory.
        seed: Seed of the flags.

    Returns:
        The tally. Bad is a traceback, an exit code other than 0 and 2, and a refusal
        that says nothing, or more than tyro or one line do.
    """
    tally = Tally(f"flags of {module.removeprefix('applications.')}")
    found = work / "found.json"
    if module.endswith("train"):
        action = lambda: _trainers(module, count, seed, found)
    else:
        case = CASES["gogepo" if "gogepo" in module else "epvf"]
        reference, _ = case.reference(work)
        action = lambda: _commands(module, count, reference, work, seed, found)
    code = wait(start(action, work / "flags.log"), seconds=24 * 3600.0)
    if code:
        tally.bad.append(f"the process ended with {code}: {work / 'flags.log'}")
        return tally
    result = json.loads(found.read_text())
    tally.tried, tally.bad = count, result["bad"]
    tally.note = f"{result['accepted']} accepted"
    return tally


def _trainers(module: str, count: int, seed: int, found: Path) -> int:
    command_line = importlib.import_module(module).COMMAND_LINE
    names = sorted(command_line.choices)

    def line(moments: random.Random) -> list[str]:
        chosen = moments.choice(names)
        choose = [f"--{command_line.selector}", chosen] if command_line.selector else []
        settings = command_line.choices[chosen]
        fields = [
            flag(field.name)
            for part in (settings.task, settings.algorithm, settings.launch)
            for field in dataclasses.fields(part)
        ]
        return choose + _some(fields, moments)

    attempt = lambda flags: _up_to_compilation(command_line, flags)
    return _try(attempt, line, count, seed, found)


# What comes before the flags of the other commands; {run} is a finished run.
OTHERS = {
    "applications.evaluate": ["{run}", "--episodes", "1"],
    "applications.gogepo.evaluate": ["{run}", "--commands", "2", "--episodes", "1"],
    "applications.gogepo.generate": [
        "{run}",
        "--command",
        "3",
        "--out",
        "{work}/o.eqx",
    ],
    "applications.compare": ["{run}", "--out", "{work}/out.png"],
    "applications.export": ["{run}", "{work}/out.npz"],
    "applications.sweep": ["--directory", "{work}/sweep"],
    "applications.epvf.ablate": ["--directory", "{work}/ablate"],
    "benchmarks.zoo.__main__": ["--task", "digits-inr"],
}
# Flags that go on to what the command starts.
_HANDED_ON = {
    "applications.sweep": ["--critic-lr"],
    "applications.epvf.ablate": ["--critic-lr"],
}


def flags_of(module: str) -> list[str]:
    """The flags of a command: the fields of its arguments that are not positional."""
    imported = importlib.import_module(module)
    (arguments,) = (
        kind
        for name, kind in vars(imported).items()
        if name.endswith(("Args", "Command"))
        and getattr(kind, "__module__", "") == module
    )
    return [*_fields(arguments), *_HANDED_ON.get(module, [])]


def _fields(arguments: Any) -> list[str]:
    hints, found = typing.get_type_hints(arguments, include_extras=True), []
    for field in dataclasses.fields(arguments):
        if dataclasses.is_dataclass(hints[field.name]):
            found += _fields(hints[field.name])
        elif tyro.conf.Positional not in getattr(hints[field.name], "__metadata__", ()):
            found.append(flag(field.name))
    return found


def _commands(
    module: str, count: int, reference: Path, work: Path, seed: int, found: Path
) -> int:
    imported = importlib.import_module(module)
    flags = flags_of(module)
    given = [one.format(run=reference, work=work) for one in OTHERS[module]]
    # Some write where they are told to, whatever that is.
    os.chdir(work)
    # What is checked before the work is in question here, not the work.
    work_of = imported if module.startswith("benchmarks.") else Training
    name = "run" if work_of is imported else "train"
    with mock.patch.object(work_of, name, _reached):
        line = lambda moments: given + _some(flags, moments)
        return _try(imported.main, line, count, seed, found)


def _reached(*arguments: Any, **options: Any) -> Any:
    """Ends a command where its work begins."""
    del arguments, options
    raise SystemExit(0)


def _some(flags: list[str], moments: random.Random) -> list[str]:
    """One flag or two, with values."""
    chosen = []
    for _ in range(moments.randint(1, 2)):
        values = [
            moments.choice(_VALUES) for _ in range(moments.choice((0, 1, 1, 1, 2)))
        ]
        chosen += [moments.choice(flags), *values]
    return chosen


def _try(
    main: Callable[[list[str]], int],
    line: Callable[[random.Random], list[str]],
    count: int,
    seed: int,
    found: Path,
) -> int:
    moments, bad, accepted = random.Random(seed), [], 0
    for number in range(count):
        flags = line(moments)
        code, said, error = call(main, flags)
        accepted += code == 0
        if "Traceback" in error or code not in (0, 2) or (code == 2 and not error):
            bad.append(f"{flags}: exit {code}: {(error or said)[-300:]}")
        if number % 200 == 0:
            jax.clear_caches()
    found.write_text(json.dumps({"bad": bad, "accepted": accepted}))
    return 0
