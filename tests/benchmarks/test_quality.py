"""Cells, and what is counted in them."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest


_ROOT = Path(__file__).parents[2]
_ENDS = (-1.0, 1.0)


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(str(_ROOT / "benchmarks"))
    yield importlib.import_module("_quality")
    sys.modules.pop("_quality", None)


def test_cells(quality):
    values = [-3.0, -1.0, -0.51, -0.5, 0.0, 0.99, 1.0, 7.0]
    np.testing.assert_array_equal(
        quality.cell_of(values, _ENDS, 4), [0, 0, 0, 1, 2, 3, 3, 3]
    )


def test_the_score_by_hand(quality):
    speeds = np.array([-0.9, -0.8, 0.1, 0.2, np.nan])
    returns = np.array([1.0, 3.0, -np.inf, 4.0, -np.inf])
    best = quality.best_of_cells(speeds, returns, _ENDS, 4)
    assert best == {0: 1, 2: 3}
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
