"""What README and docs say is so: examples run, tables name what there is."""

import contextlib
import dataclasses
import doctest
import importlib
import json
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import pytest
import tyro

from applications import compare, evaluate, export, sweep
from applications.policies import MLPPolicy
from applications.training import read_rows, Run, save_policy


ROOT = Path(__file__).parent.parent
EPVF = (ROOT / "docs" / "epvf.md").read_text()


def test_readme_example_runs(capsys):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.M
    )
    assert len(blocks) == 1
    exec(compile(blocks[0], "README.md", "exec"), {})
    assert "groups: g0 (8)" in capsys.readouterr().out


# README's example and these stand for the others, which compile for minutes. Guides
# that are notebooks too run as those, in test_examples.py.
_QUICK = ["tasks.md", "whole_episodes.md", "export.md"]
_SLOW = [
    "index.md",
    "symmetries.md",
    "prediction.md",
    "lora.md",
    "generators.md",
    "encoders/weights.md",
    "encoders/graphs.md",
    "encoders/probing.md",
]


@pytest.mark.parametrize(
    "page",
    [*_QUICK, *(pytest.param(page, marks=pytest.mark.nightly) for page in _SLOW)],
)
def test_guide_runs_and_prints_what_it_shows(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text()
    namespace = {"__name__": "guide"}
    # A guide is written for JAX as it comes.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for code, shown in guide_blocks(text):
            exec(compile(code, page, "exec"), namespace)
            assert capsys.readouterr().out.strip() == shown.strip()


def guide_blocks(text: str) -> list[tuple[str, str]]:
    """A page's blocks of Python, each with the block of text that follows it."""
    blocks = re.findall(r"^```(python|text)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _ in blocks][:1] == ["python"]
    pairs: list[tuple[str, str]] = []
    for kind, body in blocks:
        if kind == "python":
            pairs.append((body, ""))
        else:
            assert pairs[-1][1] == "", "two blocks of text in a row"
            pairs[-1] = (pairs[-1][0], body)
    return pairs


def test_the_benchmark_page_shows_the_results():
    from benchmarks.zoo import markdown

    page = (ROOT / "docs" / "benchmark.md").read_text()
    results = ROOT / "docs" / "results" / "offline_zoo.json"
    entries = json.loads(results.read_text())["table"]
    for task in {entry["task"] for entry in entries}:
        shown = markdown([entry for entry in entries if entry["task"] == task])
        assert f"<!-- {task} -->\n\n{shown}\n\n<!-- end -->" in page


def test_a_guide_that_prints_something_else_is_noticed(capsys):
    ((code, shown),) = guide_blocks("```python\nprint(1)\n```\n\n```text\n2\n```\n")
    exec(code, {})
    assert capsys.readouterr().out.strip() != shown.strip()


def _section(title: str) -> str:
    return EPVF.split(f"\n## {title}\n")[1].split("\n## ")[0]


def _table(title: str) -> dict[str, str]:
    """Second column of a section's table, by each name in the first one."""
    rows = {}
    for line in re.findall(r"^\| `.*", _section(title), re.M):
        first, second = (cell.strip() for cell in line.split("|")[1:3])
        names = re.findall(r"`([^`]+)`", first)
        values = second.split(", ") if len(names) > 1 else [second]
        rows |= dict(zip(names, values, strict=True))
    return rows


def _defaults(settings) -> dict:
    """Every flag's default, by the name of its field."""
    parts = (settings.task, settings.algorithm, settings.launch)
    return {
        field.name: getattr(part, field.name)
        for part in parts
        for field in dataclasses.fields(part)
    }


def _shown(value, none: str = "all") -> str:
    if value is None:
        return none
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value)


def test_every_flag_with_its_default():
    from applications.epvf.train import COMMAND_LINE

    table = _table("Flags")
    defaults = _defaults(COMMAND_LINE.parse([]))
    assert table.keys() == {"--" + name.replace("_", "-") for name in defaults}
    for name, default in defaults.items():
        given = table["--" + name.replace("_", "-")]
        if isinstance(default, bool):
            assert given == ("yes" if default else "no")
        elif isinstance(default, int | float):
            assert float(given) == default, name
        elif isinstance(default, tuple):
            assert tuple(map(int, given.split())) == default
        elif default is not None:
            assert given == default


# A baseline trains in one process, and refuses what is of several.
_SEVERAL = {"coordinator", "num_processes", "process_id", "heartbeat"}


# What the page calls it when nothing is given; "all" of most.
_NONE = {"entropy_cost": "learned", "action_levels": "none"}


def test_every_flag_of_the_baselines_with_its_default():
    from applications.baselines.train import COMMAND_LINE

    page = (ROOT / "docs" / "baselines.md").read_text()
    lines = re.findall(r"^\| `--([\w-]+)` \|(.*)\|$", page, re.M)
    table = {
        name.replace("-", "_"): [cell.strip() for cell in cells.split("|")]
        for name, cells in lines
    }
    choices = [_defaults(settings) for settings in COMMAND_LINE.choices.values()]
    names = {name for defaults in choices for name in defaults}
    assert table.keys() == (names - _SEVERAL) | {"algorithm"}
    for name, cells in table.items():
        if len(cells) == len(choices):
            none = _NONE.get(name, "all")
            expected = [_shown(x[name], none) if name in x else "" for x in choices]
            assert cells == expected, name


def test_what_others_have_tuned_can_be_said_and_is_in_the_docs():
    from applications.baselines.train import COMMAND_LINE
    from applications.baselines.tuned import TUNED

    page = (ROOT / "docs" / "baselines.md").read_text()
    found = page.split("<!-- tuned -->")[1].split("<!-- end -->")[0]
    lines = []
    for algorithm, tasks in TUNED.items():
        for task, flags in tasks.items():
            settings = COMMAND_LINE.parse(
                ["--algorithm", algorithm, "--env", task, *flags.split()]
            )
            assert settings.task.env == task
            shown = f"`{flags}`" if flags else "the defaults"
            lines.append(f"| `{algorithm}` | `{task}` | {shown} |")
    assert found.strip().splitlines()[2:] == lines


def test_every_flag_of_gogepo_with_its_default():
    from applications.epvf.train import COMMAND_LINE as EPVF
    from applications.gogepo.train import COMMAND_LINE

    page = (ROOT / "docs" / "gogepo.md").read_text()
    table = {}
    for names, cells in re.findall(r"^\| (`--.*?`) \|(.*)\|$", page, re.M):
        named = [name.replace("-", "_") for name in re.findall(r"--([\w-]+)", names)]
        table |= dict.fromkeys(named, [cell.strip() for cell in cells.split("|")])
    defaults, *others = (_defaults(x) for x in COMMAND_LINE.choices.values())
    own = {name for name in defaults if any(x[name] != defaults[name] for x in others)}
    shared = set(re.findall(r"`--([\w-]+)`", page.split("| Flag |")[0]))
    shared = {name.replace("-", "_") for name in shared}
    shared &= _defaults(EPVF.parse([])).keys()
    assert table.keys() | shared | _SEVERAL == defaults.keys() | {"preset"}
    for name in own:
        expected = [_shown(x[name], "a twentieth") for x in (defaults, *others)]
        assert table[name] == expected, name
    for name in table.keys() - own - {"low", "high", "preset"}:
        if "," not in table[name][0]:
            default = defaults[name]
            switch = "yes" if default else "no"
            shown = switch if isinstance(default, bool) else str(default)
            assert table[name][0] == shown, name


def test_every_metric_of_gogepo():
    from applications.envs import make
    from applications.gogepo import Config, GoGePo

    config = Config(num_envs=4, batch_size=2, climb=0.5)
    algorithm = GoGePo(make("cartpole"), config)
    state = eqx.filter_eval_shape(lambda: algorithm.init(key=jax.random.key(0)))
    _, metrics = eqx.filter_eval_shape(algorithm.step, state)
    page = (ROOT / "docs" / "gogepo.md").read_text()
    section = page.split("## Metrics")[1].split("## ")[0]
    of_the_loop = {"iteration", "steps_per_second", "compile_seconds", "seconds"}
    assert set(re.findall(r"`(\w+)`", section)) == metrics.keys() | of_the_loop


def test_every_metric():
    from applications.envs import make
    from applications.epvf.algorithm import EPVF as Algorithm
    from applications.epvf.config import Config

    algorithm = Algorithm(make("cartpole"), Config(num_envs=2))
    state = eqx.filter_eval_shape(lambda: algorithm.init(key=jax.random.key(0)))
    _, metrics = eqx.filter_eval_shape(algorithm.step, state)
    of_the_loop = {"iteration", "steps_per_second", "compile_seconds", "seconds"}
    section = _section("Metrics")
    named = re.findall(r"^\| (`.*?) \|", section, re.M)
    names = {name for cell in named for name in re.findall(r"`(\w+)`", cell)}
    assert names == metrics.keys() | of_the_loop


def commands(text: str) -> set[str]:
    """The files that a page's commands run: scripts and modules of this project."""
    scripts = re.findall(r"python ((?:benchmarks|applications)/[\w/]+\.py)", text)
    modules = re.findall(r"python -m ((?:benchmarks|applications|wsl)[\w.]*\w)", text)
    return {*scripts, *(module.replace(".", "/") for module in modules)}


def is_there(command: str) -> bool:
    path = ROOT / command
    files = [path, path.with_suffix(".py"), path / "__main__.py"]
    return any(file.is_file() for file in files)


def test_every_command_runs_a_file_that_is_there():
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    named = set.union(*(commands(page.read_text()) for page in pages))
    assert {"benchmarks/epvf_cartpole.py", "applications/epvf/train"} <= named
    assert [command for command in sorted(named) if not is_there(command)] == []


def test_a_command_without_its_file_is_noticed():
    (command,) = commands("$ .venv/bin/python -m applications.epvf.fly --high")
    assert command == "applications/epvf/fly" and not is_there(command)


def test_the_home_page_says_what_its_films_show():
    page = (ROOT / "docs" / "index.md").read_text()
    content = json.loads((ROOT / "docs" / "results" / "home_films.json").read_text())
    for task, film in content["films"].items():
        assert (ROOT / "docs" / "results" / f"film_{task}.webp").is_file()
        assert f"results/film_{task}.webp" in page and film["settings"]["hidden"] == []
        returns = re.search(rf"`{task}`\s+\((?:mean return )?([\d,]+)\)", page)
        assert returns is not None and returns[1] == f"{film['mean_return']:,.0f}"


RECIPES = (ROOT / "docs" / "recipes.md").read_text()
_COMMANDS = {
    "compare": compare.CompareArgs,
    "evaluate": evaluate.EvaluateArgs,
    "export": export.ExportArgs,
}


def recipe_commands(text: str) -> list[list[str]]:
    """What a page's commands give to `python -m`."""
    text = text.replace("\\\n", " ").replace("$where", "--run-dir runs/new")
    text = text.replace('"$SLURM_ARRAY_TASK_ID"', "0")
    return [
        shlex.split(line)
        for line in re.findall(r"python -m (applications\..*)$", text, re.M)
    ]


def parse_recipe(module: str, flags: list[str]) -> None:
    """Reads a command line as the command does; nothing is run."""
    name = module.removeprefix("applications.")
    if name == "sweep":
        asked, others = tyro.cli(sweep.SweepArgs, args=flags, return_unknown_args=True)
        train = importlib.import_module(sweep.TRAINERS[asked.algorithm].module)
        for own in sweep._combinations(asked.over).values():
            train.COMMAND_LINE.parse([*others, *own])
    elif name in _COMMANDS:
        tyro.cli(_COMMANDS[name], args=flags)
    else:
        importlib.import_module(module).COMMAND_LINE.parse(flags)


def test_every_command_of_the_recipes_can_be_given():
    commands = recipe_commands(RECIPES)
    assert len(commands) == RECIPES.count("python -m applications")
    assert {"applications.sweep", "applications.compare"} < {x for x, *_ in commands}
    for module, *flags in commands:
        parse_recipe(module, flags)


@pytest.mark.parametrize(
    "command",
    [
        "applications.epvf.train --seeds 1 --wings 2",
        "applications.compare runs/a --wings 2",
        "applications.sweep --over wings=1,2",
    ],
)
def test_a_recipe_with_an_unknown_flag_is_noticed(command, capsys):
    ((module, *flags),) = recipe_commands(f"$ python -m {command}\n")
    with pytest.raises(SystemExit):
        parse_recipe(module, flags)
    assert "wings" in capsys.readouterr().err


class _Frame:
    """As much of pandas as a recipe takes."""

    def __init__(self, path: str, *, lines: bool):
        assert lines
        self.rows = read_rows(Path(path))

    def __getitem__(self, names: list[str]) -> "_Frame":
        assert all(set(names) <= row.keys() for row in self.rows)
        return self

    def tail(self, count: int) -> list[Any]:
        return self.rows[-count:]


def test_the_programs_of_the_recipes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train = importlib.import_module("applications.epvf.train")
    settings = train.COMMAND_LINE.parse([])
    run = Run.create(Path("runs/swimmer/seed0"), settings.manifest)
    rows = [{"iteration": i, "env_steps": 8 * i, "return_policy": 1.0} for i in (1, 2)]
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = settings.task.make(as_trained=False)
    save_policy(run, settings, MLPPolicy(task, (), key=jax.random.key(0)))

    tried = []

    def main(flags: list[str]) -> int:
        launch = train.COMMAND_LINE.parse(flags).launch
        tried.append(launch.run_dir)
        launch.run_dir.mkdir(parents=True)
        (launch.run_dir / "evaluation.json").write_text('{"mean": 7.0}')
        return 0

    monkeypatch.setattr(train, "main", main)
    trial = types.SimpleNamespace(number=4, suggest_float=lambda *a, log: a[1])
    optuna = types.SimpleNamespace(Trial=Any, TrialPruned=Exception)
    found = []
    optuna.create_study = lambda direction: types.SimpleNamespace(
        optimize=lambda objective, n_trials: found.append(objective(trial)),
        best_params=direction,
    )
    logged = []

    @contextlib.contextmanager
    def init(*, project, config, mode):
        assert config["env"] == "cartpole" and mode == "offline"
        yield types.SimpleNamespace(log=lambda row, step: logged.append(step))

    fakes = {
        "optuna": optuna,
        "wandb": types.SimpleNamespace(init=init),
        "pandas": types.SimpleNamespace(read_json=_Frame),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    blocks = re.findall(r"^```python\n(.*?)^```", RECIPES, re.DOTALL | re.M)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "recipes.md", "exec"), {})
    assert found == [7.0] and tried == [Path("runs/search/4")]
    assert logged == [8, 16]
    assert "maximize" in capsys.readouterr().out


def named_paths(text: str) -> set[str]:
    """Files and folders of this project that a text names, between backticks."""
    named = re.findall(r"`([\w.-]*(?:/[\w.-]+)+/?|[\w-]+/)`", text)
    return {path for path in named if path != "dist/" and "..." not in path}


def is_in_the_house(path: str) -> bool:
    return any((place / path).exists() for place in (ROOT, ROOT / "applications"))


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"]
)
def test_every_path_in_it_is_there(page):
    named = named_paths((ROOT / page).read_text())
    assert [path for path in sorted(named) if not is_in_the_house(path)] == []


def test_a_path_that_is_not_there_is_noticed():
    assert named_paths("In `rollout/wings/_flap.py`, and `pip`.") == {
        "rollout/wings/_flap.py"
    }
    assert not is_in_the_house("rollout/wings/_flap.py")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_installation_page_names_every_extra_and_version():
    page = (ROOT / "docs" / "install.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .* \| (.*) \|$", page, re.M))
    extras = project()["optional-dependencies"]
    assert rows.keys() == extras.keys()
    for extra, wanted in extras.items():
        named = {re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in wanted}
        brought = set(re.findall(r"[\w-]+", rows[extra])) & (named | {extra})
        assert brought == named - {"weightspace"}, extra
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)$", _CONSTRAINTS, re.M))
    jax = re.findall(r"^jax==([\w.]+)", _CONSTRAINTS, re.M)
    wanted = ("equinox", "mujoco", "gymnasium", "numpy", "scipy", "torch", "torchax")
    assert all(f" {pins[name]}" in page for name in wanted)
    assert all(version in page for version in jax)


# What a page's programs import, and any extra that brings it.
_EXTRA_OF = {
    "optax": {"zoo", "applications"},
    "sklearn": {"zoo"},
    "wsl.zoo": {"zoo"},
    "wsl.testing": {"testing"},
    "wsl.interop.torch": {"torch"},
    "applications": {"applications"},
    "onnxruntime": {"export"},
}


def missing_extras(text: str) -> set[str]:
    """What a page's programs import, and no extra that it names brings."""
    named = set(re.findall(r"extras? `(\w+)`|and `(\w+)`\s+\(\[Install", text))
    named = {one for pair in named for one in pair}
    imported = re.findall(r"^(?:import|from) ([\w.]+)", text, re.M)
    return {
        start
        for name in imported
        for start, extras in _EXTRA_OF.items()
        if f"{name}.".startswith(f"{start}.") and not named & extras
    }


@pytest.mark.parametrize(
    "page",
    [
        *("symmetries", "prediction", "merging", "foreign", "lora", "generators"),
        *("zoo", "own", "tasks", "whole_episodes", "export", "recipes", "index"),
        *("networks", "context"),
        *("encoders/weights", "encoders/graphs", "encoders/probing"),
    ],
)
def test_a_guide_names_the_extras_that_it_needs(page):
    assert missing_extras((ROOT / "docs" / f"{page}.md").read_text()) == set()


def test_an_extra_that_is_not_named_is_noticed():
    text = "It needs the extra `zoo`.\n\nfrom wsl.zoo import a\nimport wsl.testing\n"
    assert missing_extras(text) == {"wsl.testing"}


_CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def test_the_citation_is_of_this_version():
    page = (ROOT / "docs" / "citation.md").read_text()
    assert f"version = {{{project()['version']}}}" in page
    title = re.search(r'^title: "(.*)"$', (ROOT / "CITATION.cff").read_text(), re.M)
    assert title is not None and f"{{{title[1]}}}" in page


_WITH_EXAMPLES = [
    path for path in (ROOT / "wsl").rglob("*.py") if ">>> " in path.read_text()
]


@pytest.mark.parametrize("path", sorted(_WITH_EXAMPLES), ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    result = doctest.testmod(importlib.import_module(name))
    # Every example of the file is found, behind the decorators of the import hook.
    assert result.attempted == path.read_text().count(">>> ") and not result.failed
