"""Experiments with values of policies: what they compute, and what their page shows."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest


_ROOT = Path(__file__).parents[2]
# By the name of a table in the page: the script that makes it.
_PLACES = {
    "lqr": "pvf_landscape",
    "zero-shot": "zero_shot",
    "crucial-states": "crucial_states",
    "fragments": "offline_fragments",
    "digits": "digits_value",
}


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    """Scripts import each other as they do when they are run."""
    monkeypatch.syspath_prepend(str(_ROOT / "benchmarks"))
    yield
    for name in ("pvf_landscape", "_teaching", "_common", *_PLACES.values()):
        sys.modules.pop(name, None)


def _shown(place: str) -> str | None:
    page = (_ROOT / "docs" / "experiments.md").read_text()
    _, there, rest = page.partition(f"<!-- {place} -->")
    return rest.partition("<!-- end -->")[0].strip() if there else None


@pytest.mark.parametrize(("place", "name"), _PLACES.items())
def test_the_page_shows_the_results(place, name):
    path = _ROOT / "docs" / "results" / f"{name}.json"
    # No table without its numbers, and no numbers without their table.
    assert path.is_file() == (_shown(place) is not None)
    if path.is_file():
        rows = json.loads(path.read_text())["rows"]
        assert _shown(place) == importlib.import_module(name)._table(rows)


def test_true_returns_of_lqr_by_hand():
    landscape = importlib.import_module("pvf_landscape")
    policies = np.array([[0, 0], [-0.618034, 0], [-1, 0], [1, 0], [-2, 0], [0, 1]])
    # Standing still costs 1 at each of 50 steps; at -1 all is over after one.
    expected = [-50, -1.618034, -2, -394, -250, -247]
    np.testing.assert_allclose(landscape.true_returns(policies), expected, rtol=1e-5)
    # What the page says of the whole picture.
    returns = landscape.true_returns(landscape.grid())
    told = f"Returns go from {returns.max():.1f} to {returns.min():.0f};"
    assert told in (_ROOT / "docs" / "experiments.md").read_text()
