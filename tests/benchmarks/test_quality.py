"""Cells, what is counted in them, and what the page says of it."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest


_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "docs" / "results" / "gogepo_quality.json"
_SCRIPTS = _ROOT / "benchmarks"
_ENDS = (-1.0, 1.0)


@pytest.fixture
def scripts(monkeypatch):
    """Scripts import each other as they do when they are run."""
    monkeypatch.syspath_prepend(str(_SCRIPTS))
    yield importlib.import_module
    for name in [name for name in sys.modules if (_SCRIPTS / f"{name}.py").is_file()]:
        sys.modules.pop(name)


def test_cells(scripts):
    values = [-3.0, -1.0, -0.51, -0.5, 0.0, 0.99, 1.0, 7.0]
    np.testing.assert_array_equal(
        scripts("_quality").cell_of(values, _ENDS, 4), [0, 0, 0, 1, 2, 3, 3, 3]
    )


def test_the_score_by_hand(scripts):
    quality = scripts("_quality")
    speeds = np.array([-0.9, -0.8, 0.1, 0.2, np.nan])
    returns = np.array([1.0, 3.0, -np.inf, 4.0, -np.inf])
    assert quality.best_of_cells(speeds, returns, _ENDS, 4) == {0: 1, 2: 3}
    found = quality.Found(None, np.array([0, 1, 2, 2, 2]), speeds, returns)
    score = quality.score(found, _ENDS, 4, -2.0)
    # What broke is in no cell, but was there for one.
    assert score == {
        "coverage": 0.5,
        "own": pytest.approx(2 / 5),
        "qd_score": 3.0 + 4.0 + 2 * 2.0,
        "best_return": 4.0,
    }
    # Control: of the worst in each cell the score would be less.
    worst = quality.Found(None, found.cells, speeds, -returns)
    assert quality.score(worst, _ENDS, 4, -2.0)["qd_score"] < score["qd_score"]


def _plain(table: str) -> list[str]:
    return [" ".join(line.split()) for line in table.strip().splitlines()]


def test_the_table_and_the_scores_are_those_of_the_results(scripts):
    page = (_ROOT / "docs" / "gogepo.md").read_text()
    shown = page.split("<!-- quality -->")[1].split("<!-- end -->")[0]
    content = json.loads(_RESULTS.read_text())
    script, quality = scripts("gogepo_quality"), scripts("_quality")
    assert _plain(shown) == _plain(script.markdown(content["rows"]))
    assert content["offsets"] == {name: x.offset for name, x in script.TASKS.items()}
    for row in content["rows"]:
        found = quality.Found(
            None, *(np.array(row[name]) for name in ("cells", "speeds", "returns"))
        )
        ends, offset = tuple(content["ends"][row["task"]]), content["offsets"]
        score = quality.score(found, ends, content["cells"], offset[row["task"]])
        assert score["coverage"] == row["coverage"]
        assert score["qd_score"] == pytest.approx(row["qd_score"], abs=0.5)
