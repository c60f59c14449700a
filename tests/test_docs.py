"""What README and docs say is so: examples run, tables name what there is."""

import dataclasses
import json
import re
from pathlib import Path

import equinox as eqx
import jax
import pytest


ROOT = Path(__file__).parent.parent
EPVF = (ROOT / "docs" / "epvf.md").read_text()


def test_readme_example_runs(capsys):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.M
    )
    assert len(blocks) == 1
    exec(compile(blocks[0], "README.md", "exec"), {})
    assert "groups: g0 (8)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "page",
    [
        "symmetries.md",
        "prediction.md",
        "tasks.md",
        "generators.md",
        "encoders/weights.md",
        "encoders/graphs.md",
        "encoders/probing.md",
    ],
)
def test_guide_runs_and_prints_what_it_shows(page, capsys):
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


def test_every_flag_with_its_default():
    from applications.epvf.config import Config

    table = _table("Flags")
    fields = dataclasses.fields(Config)
    assert table.keys() == {"--" + f.name.replace("_", "-") for f in fields}
    for field in fields:
        given = table["--" + field.name.replace("_", "-")]
        default = field.default
        if isinstance(default, bool):
            assert given == ("yes" if default else "no")
        elif isinstance(default, int | float):
            assert float(given) == default, field.name
        elif isinstance(default, tuple):
            assert tuple(map(int, given.split())) == default
        elif default is not None:
            assert given == default


def test_every_flag_of_the_baselines_with_its_default():
    from applications.baselines.config import _DEFAULTS, Config

    page = (ROOT / "docs" / "baselines.md").read_text()
    lines = re.findall(r"^\| `--([\w-]+)` \|(.*)\|$", page, re.M)
    table = {name.replace("-", "_"): cells for name, cells in lines}
    # A baseline trains in one process, and refuses what is of several.
    several = {"coordinator", "num_processes", "process_id", "heartbeat"}
    fields = {field.name for field in dataclasses.fields(Config)}
    assert table.keys() == fields - several

    def shown(value):
        if value is None:
            return "all"
        if isinstance(value, tuple):
            return " ".join(map(str, value)) or "none"
        return str(value)

    for name in {name for own in _DEFAULTS.values() for name in own}:
        cells = [cell.strip() for cell in table[name].split("|")]
        expected = [
            shown(own[name]) if name in own else "" for own in _DEFAULTS.values()
        ]
        assert cells == expected, name


def test_every_flag_of_gogepo_with_its_default():
    from applications.epvf.config import Config as EPVF
    from applications.gogepo.config import _PRESETS, Config

    page = (ROOT / "docs" / "gogepo.md").read_text()
    table = {}
    for names, cells in re.findall(r"^\| (`--.*?`) \|(.*)\|$", page, re.M):
        named = [name.replace("-", "_") for name in re.findall(r"--([\w-]+)", names)]
        table |= dict.fromkeys(named, [cell.strip() for cell in cells.split("|")])
    own = next(iter(_PRESETS.values())).keys()
    shared = set(re.findall(r"`--([\w-]+)`", page.split("| Flag |")[0]))
    shared = {name.replace("-", "_") for name in shared} & {
        field.name for field in dataclasses.fields(EPVF)
    }
    several = {"coordinator", "num_processes", "process_id", "heartbeat"}
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    assert table.keys() | shared | several == fields.keys()
    for name in own:
        expected = [
            "a twentieth"
            if value is None
            else " ".join(map(str, value))
            if isinstance(value, tuple)
            else str(value)
            for value in (preset[name] for preset in _PRESETS.values())
        ]
        assert table[name] == expected, name
    for name in table.keys() - own - {"low", "high"}:
        if "," not in table[name][0]:
            default = fields[name]
            switch = "yes" if default else "no"
            shown = switch if isinstance(default, bool) else str(default)
            assert table[name][0] == shown, name


def test_every_metric_of_gogepo():
    from applications.envs import make
    from applications.gogepo import Config, GoGePo

    algorithm = GoGePo(make("cartpole"), Config(num_envs=2, batch_size=2))
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


@pytest.mark.parametrize("page", [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
def test_commands_of_benchmarks_exist(page):
    scripts = re.findall(r"python (benchmarks/\w+\.py)", page.read_text())
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
