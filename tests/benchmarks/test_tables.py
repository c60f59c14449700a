"""Tables of pages are those that the scripts make of the results."""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest


_ROOT = Path(__file__).parents[2]
_SCRIPTS = _ROOT / "benchmarks"
_STUDIES = sorted(
    path.stem
    for path in _SCRIPTS.glob("*.py")
    if re.search(r"^from _study import study$", path.read_text(), re.M)
)


@pytest.fixture
def scripts(monkeypatch):
    """Scripts import each other as they do when they are run."""
    monkeypatch.syspath_prepend(str(_SCRIPTS))
    yield importlib.import_module
    for name in [name for name in sys.modules if (_SCRIPTS / f"{name}.py").is_file()]:
        sys.modules.pop(name)


def _shown(page: str, place: str) -> list[str] | None:
    text = (_ROOT / "docs" / page).read_text()
    _, there, rest = text.partition(f"<!-- {place} -->")
    return _plain(rest.partition("<!-- end -->")[0]) if there else None


def _plain(table: str) -> list[str]:
    """Lines, however wide their columns."""
    return [" ".join(line.split()) for line in table.strip().splitlines()]


@pytest.mark.parametrize("name", _STUDIES)
def test_a_studys_table(name, scripts, monkeypatch):
    script, study = scripts(name), scripts("_study").study
    asked: list[dict[str, Any]] = []

    def note(*given, **more):
        bound = inspect.signature(study).bind(*given, **more)
        bound.apply_defaults()
        asked.append(bound.arguments)

    monkeypatch.setattr(script, "study", note)
    script.main()
    (call,) = asked
    assert call["name"] == name
    results = _ROOT / "docs" / "results" / f"{name}.json"
    shown = _shown(call["page"], call["place"])
    if not results.is_file():
        # No numbers without their file.
        assert shown in (None, [], ["Not measured yet."])
        return
    table = call["lay_out"](json.loads(results.read_text())["table"])
    assert shown == _plain(table)


@pytest.mark.parametrize(
    ("name", "page", "place", "table"),
    [
        ("adapters", "lora.md", "adapters", "_table"),
        ("foreign_models", "foreign.md", "models", "_table"),
        ("foreign_models", "foreign.md", "linear maps", "_linear_table"),
        ("merging", "merging.md", "merging", "_table"),
    ],
)
def test_the_table_of_a_guide(name, page, place, table, monkeypatch):
    monkeypatch.syspath_prepend(str(_SCRIPTS))
    script = importlib.import_module(f"benchmarks.{name}")
    rows = json.loads((_ROOT / "docs" / "results" / f"{name}.json").read_text())
    assert _shown(page, place) == _plain(getattr(script, table)(rows["rows"]))


def test_there_are_studies():
    assert {"epvf_tasks", "gogepo_tasks"} <= set(_STUDIES)
