"""README, checks, docs and package metadata agree with each other and with the code."""

import ast
import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent

FIRST = (
    "python3 -m venv .venv && "
    ".venv/bin/pip install -q -c constraints.txt -e '.[applications]' && "
    ".venv/bin/python -m applications.epvf.train"
)
SECOND = (
    "python3 -m venv .venv-dev && "
    ".venv-dev/bin/pip install -q -c constraints.txt -e '.[dev]' && "
    ".venv-dev/bin/pytest"
)


def test_readme_has_the_two_commands():
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert blocks == [FIRST + "\n", SECOND + "\n"]


def test_checks_take_the_commands_from_the_readme(tmp_path):
    script = (ROOT / ".ci" / "run").read_text()
    assert FIRST not in script
    assert SECOND not in script
    program = re.search(r"awk '(.*?)' README\.md", script)
    assert program is not None
    readme = tmp_path / "README.md"
    readme.write_text("a\n```sh\none\n```\n```python\nno\n```\n```sh\ntwo\n```\nb\n")
    lines = subprocess.run(
        ["awk", program[1], readme], capture_output=True, text=True, check=True
    )
    assert lines.stdout == "one\ntwo\n"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_version():
    import wsl

    assert wsl.__version__ == project()["version"]


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_exact_versions():
    exact = re.compile(r'[\w.-]+==[\w.]+( ; python_version (<|>=) "3\.\d+")?')
    assert [pin for pin in pins() if not exact.fullmatch(pin)] == []


def test_constraints_name_every_dependency():
    extras = project()["optional-dependencies"].values()
    wanted = [*project()["dependencies"], *(d for extra in extras for d in extra)]
    names = {normal(re.split(r"[^\w.-]", d, maxsplit=1)[0]) for d in wanted} - {"wsl"}
    assert names - {normal(pin.split("==")[0]) for pin in pins()} == set()


def exports(source: str) -> set[str]:
    """Names that a package's `__init__` makes public, written `X as X`."""
    return {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }


def documented(pages: Iterable[str]) -> set[str]:
    """Names that pages show by a line `::: name`."""
    return {
        name
        for page in pages
        for name in re.findall(r"^::: +([\w.]+)\s*$", page, re.MULTILINE)
    }


def public_names() -> set[str]:
    """Every public name of the library, without its sub-packages."""
    names = set()
    for path in (ROOT / "wsl").rglob("__init__.py"):
        parts = path.parent.relative_to(ROOT).parts
        if any(part.startswith("_") for part in parts):
            continue
        for name in exports(path.read_text()):
            if not (path.parent / name).is_dir():
                names.add(".".join((*parts, name)))
    return names


def test_every_public_name_is_documented():
    pages = [page.read_text() for page in (ROOT / "docs" / "api").rglob("*.md")]
    assert "wsl.WeightSpace" in public_names()
    assert "wsl.encoders.Flat" in public_names()
    assert public_names() - documented(pages) == set()


def test_an_undocumented_name_is_noticed():
    source = "from a import B as B, C as C, D\nfrom a import e as _e\n"
    assert exports(source) == {"B", "C"}
    assert documented(["# Page\n\n::: a.B\n", "Not ::: a.C, nor\n"]) == {"a.B"}


@pytest.mark.parametrize("name", sorted(public_names()))
def test_public_names_can_be_imported(name):
    package, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(package), attribute)
