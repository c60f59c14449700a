"""The order of the house: which module imports which, read from the source of all."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
# From the ground up. Rooms in one line do not know of each other.
ORDER = [
    {"wsl"},
    *({name} for name in ("settings", "envs", "policies", "rollout", "stores")),
    *({name} for name in ("values", "search")),
    {"epvf", "pvf", "evolution"},
    {"gogepo"},
    {"training"},
    {"commands"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
COMMANDS = {"train", "evaluate", "generate", "ablate", "_runs"}
# What only `training` and the commands may need.
OUTSIDE = {"tyro", "rich", "tensorboardX", "matplotlib"}


def arrows(root: Path) -> dict[str, set[str]]:
    """The modules that each module under a folder imports, wherever in its code.

    `from a import b` leads to `a.b` where that is a module, and to `a` otherwise.
    Imports for type checkers alone are left out.
    """
    paths = [
        path for top in ("wsl", "applications") for path in root.glob(f"{top}/**/*.py")
    ]
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts): path for path in paths
    }
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}

    def targets(node: ast.AST, package: list[str]) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            if isinstance(child, ast.ImportFrom):
                above = package[: len(package) - child.level + 1] if child.level else []
                base = ".".join([*above, *filter(None, [child.module])])
                for alias in child.names:
                    name = f"{base}.{alias.name}"
                    yield name if name in files else base
            yield from targets(child, package)

    return {
        name: set(
            targets(
                ast.parse(path.read_text()), list(path.relative_to(root).parts[:-1])
            )
        )
        for name, path in files.items()
    }


def room(module: str) -> str:
    """The room that a module is in, or the outside package that it belongs to."""
    top, *rest = module.split(".")
    if top != "applications":
        return top
    is_command = len(rest) > 1 and rest[1] in COMMANDS
    return rest[0] if rest and rest[0] in LEVEL and not is_command else "commands"


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports from a room that does not come before one's own."""
    return [
        f"{name} -> {target}"
        for name in sorted(graph)
        for target in sorted(graph[name])
        if room(target) in LEVEL and room(target) != room(name)
        if LEVEL[room(target)] >= LEVEL[room(name)]
    ]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def outsiders(graph: dict[str, set[str]]) -> list[str]:
    """Imports below `training` of what is only for people who run it."""
    return [
        f"{name} -> {target}"
        for name in sorted(graph)
        for target in sorted(graph[name])
        if LEVEL[room(name)] < LEVEL["training"] and room(target) in OUTSIDE
    ]


def test_rooms_import_only_from_those_before_them():
    assert upward(arrows(ROOT)) == []


def test_no_modules_import_each_other():
    assert cycle(arrows(ROOT)) == []


def test_nothing_below_training_needs_a_terminal_or_a_plot():
    graph = arrows(ROOT)
    assert "tyro" in {room(target) for targets in graph.values() for target in targets}
    assert outsiders(graph) == []


@pytest.mark.nightly
def test_an_algorithm_loads_none_of_it():
    program = "import sys, applications.epvf.algorithm; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "equinox" in loaded and not loaded & OUTSIDE


@pytest.mark.parametrize(
    "file, line, findings",
    [
        ("envs/x.py", "import json, wsl.nn\nfrom applications.settings import y", 0),
        (
            "envs/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import rich",
            0,
        ),
        ("epvf/train.py", "import rich, applications.training\nfrom . import a", 0),
        ("envs/x.py", "def f():\n from applications import policies", upward),
        ("gogepo/x.py", "import applications.epvf.a", 0),
        ("epvf/x.py", "import applications.pvf.a", upward),
        ("training/x.py", "from ..epvf.train import main", upward),
        ("../wsl/x.py", "import applications.settings", upward),
        ("epvf/b.py", "def f():\n from .a import a", cycle),
        ("epvf/a.py", "from applications.epvf import f", cycle),
        ("search/x.py", "from tensorboardX import y", outsiders),
        ("epvf/a.py", "def f():\n import matplotlib.pyplot", outsiders),
    ],
)
def test_what_is_out_of_order_is_noticed(tmp_path, file, line, findings):
    for name in ("settings", "policies", "epvf", "training"):
        (tmp_path / "applications" / name).mkdir(parents=True)
        (tmp_path / "applications" / name / "__init__.py").touch()
    (tmp_path / "applications/epvf/__init__.py").write_text("from .a import f")
    (tmp_path / "applications/epvf/a.py").write_text("from . import b\n")
    (tmp_path / "applications/epvf/b.py").touch()
    path = tmp_path / "applications" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    graph = arrows(tmp_path)
    found = [check for check in (upward, cycle, outsiders) if check(graph)]
    assert found == ([findings] if findings else [])
