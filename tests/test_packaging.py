"""README, checks, docs and package metadata agree with each other and with the code."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path


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


def test_nothing_is_said_to_come_from_an_index():
    # There, wsl is the package of others.
    from_an_index = re.compile(r"pip install (\S+ )*[\"']?(wsl|weightspace)\b")
    assert from_an_index.search('Run `pip install -q "wsl[zoo]"`.')
    files = [
        path
        for top, kind in [("", "*.md"), ("docs", "**/*.md"), ("wsl", "**/*.py")]
        for path in (ROOT / top).glob(kind)
    ]
    files += (ROOT / "applications").rglob("*.py")
    assert len(files) > 200
    assert [path for path in files if from_an_index.search(path.read_text())] == []


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
    names = {normal(re.split(r"[^\w.-]", d, maxsplit=1)[0]) for d in wanted} - {
        "weightspace"
    }
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


def public_names(directory: Path) -> set[str]:
    """Every public name of a package and of those in it, which are names too."""
    names = set()
    for path in directory.rglob("__init__.py"):
        parts = path.parent.relative_to(ROOT).parts
        if any(part.startswith("_") for part in parts):
            continue
        for name in exports(path.read_text()):
            if not (path.parent / name).is_dir():
                names.add(".".join((*parts, name)))
    return names


def shown_names() -> set[str]:
    return documented(
        page.read_text() for page in (ROOT / "docs" / "api").rglob("*.md")
    )


def test_every_public_name_is_documented():
    public = public_names(ROOT / "wsl")
    assert {"wsl.WeightSpace", "wsl.encoders.Flat"} <= public
    # What a package has in common with the top level is shown there.
    below = {name for name in public if name.count(".") > 1}
    twice = {name for name in below if f"wsl.{name.split('.')[-1]}" in public}
    assert twice == {"wsl.matching.Match", "wsl.matching.match_weights"}
    assert public - twice - shown_names() == set()


def test_a_room_with_a_page_is_documented_in_full():
    shown = shown_names()
    rooms = {name.split(".")[1] for name in shown if name.startswith("applications.")}
    public = set().union(
        *(public_names(ROOT / "applications" / room) for room in rooms)
    )
    # The rooms inside of training have one door.
    inner = {
        name for name in public if re.match(r"applications\.training\.\w+\.", name)
    }
    assert public - inner - shown == set()


def test_an_undocumented_name_is_noticed():
    source = "from a import B as B, C as C, D\nfrom a import e as _e\n"
    assert exports(source) == {"B", "C"}
    assert documented(["# Page\n\n::: a.B\n", "Not ::: a.C, nor\n"]) == {"a.B"}
    assert "applications.envs.make" in public_names(ROOT / "applications" / "envs")
