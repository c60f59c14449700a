"""Pictures of the docs: what draws them again, and what a band is."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from applications.training import colour_of, picture_style


_ROOT = Path(__file__).parents[2]
# What needs more than its results: networks, readings, values everywhere.
_NOT_REDRAWN = {"pvf_landscape", "symmetries_guide", "zoos"}


@pytest.fixture
def style(monkeypatch):
    monkeypatch.syspath_prepend(str(_ROOT / "benchmarks"))
    yield importlib.import_module("_style")
    for name in ("_style", "_common", "home_curve", "redraw"):
        sys.modules.pop(name, None)


def test_every_picture_can_be_drawn_again(style):
    redraw = importlib.import_module("redraw")
    there = {path.stem for path in (_ROOT / "docs" / "results").glob("*.png")}
    assert there - _NOT_REDRAWN <= redraw.PICTURES.keys() | {"home_curve"}
    for name in redraw.PICTURES:
        assert (_ROOT / "docs" / "results" / f"{name}.json").is_file()


def test_a_band_by_hand(style):
    axes = Figure().subplots()
    places = [[0, 2, 4], [0, 1, 2], [0, 2, 4]]
    values = [[0.0, 2.0, 4.0], [3.0, None, 5.0], [6.0, 6.0, 6.0]]
    style.band(axes, places, values, color="tab:blue", label="three")
    (line,) = axes.lines
    # From 2 on there are two runs, whose mean is their median.
    np.testing.assert_allclose(np.array(line.get_xydata()), [[0, 3], [2, 5], [4, 5]])
    (area,) = axes.collections
    low, high = area.get_datalim(axes.transData).get_points()[:, 1]
    assert (low, high) == (0, 6)


def test_an_algorithm_has_one_colour():
    names = ("epvf", "gogepo", "ars", "openes", "ppo", "sac", "ddpg")
    assert len({colour_of(name) for name in names}) == len(names)
    assert colour_of("sb3-ppo") == colour_of("ppo")
    assert colour_of("flapping") not in map(colour_of, names)


def test_the_style_ends_with_its_context():
    before = Figure().subplots().spines["top"].get_visible()
    with picture_style():
        assert not Figure().subplots().spines["top"].get_visible()
    assert before and Figure().subplots().spines["top"].get_visible()
