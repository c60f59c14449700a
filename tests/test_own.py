"""The page "Your own task, encoder, policy", done in a directory of its own."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest


_PAGE = (Path(__file__).parents[1] / "docs" / "own.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(
        rf"^```{language}(?: title=.*?)?\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE
    )


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A directory with the page's package in it, which only its own path knows."""
    *parts, _ = _blocks("python")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "parts.py").write_text("\n\n".join(parts))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.nightly
def test_the_page_runs(elsewhere, capsys):
    commands = [line[2:] for line in _blocks("console")[1].splitlines()]
    assert len(commands) == 5
    for command in commands:
        python, dash_m, module, *arguments = shlex.split(command)
        assert (python, dash_m) == ("python", "-m")
        assert importlib.import_module(module).main(arguments) == 0, command
    out = capsys.readouterr().out
    assert "Mean return of 100 episodes" in out
    config = json.loads((elsewhere / "runs/mine/config.json").read_text())
    settings = config["settings"]
    assert settings["env"] == "mine.parts:Point"
    assert settings["policy"] == "mine.parts:Gated"
    assert settings["representation"] == "mine.parts:Compass"
    rows = (elsewhere / "runs/mine/metrics.jsonl").read_text().splitlines()
    assert len(rows) == settings["iterations"] == 40
    # It learned: standing still gives -40, and the best policies about -10.
    evaluation = json.loads((elsewhere / "runs/mine/evaluation.json").read_text())
    assert evaluation["mean"] > -25
    labels = {
        group["runs"] for group in json.loads(Path("both.json").read_text())["groups"]
    }
    assert any("mine.parts:Gated" in label for label in labels)

    *_, reading = _blocks("python")
    found: dict = {}
    exec(reading, found)
    policy = found["policy"]
    assert type(policy).__name__ == "Gated"
    assert found["task"].horizon == 40
    assert np.isfinite(policy(np.zeros(4, np.float32))).all()


@pytest.mark.parametrize(
    "flag, name, message",
    [
        ("--env", "mine.parts:Nothing", "no Nothing"),
        ("--policy", "mine.absent:Gated", "no module"),
        ("--representation", "mine.parts:Point", "other parameters"),
    ],
)
def test_what_is_not_there_is_one_line(elsewhere, capsys, flag, name, message):
    train = importlib.import_module("applications.epvf.train")
    assert train.main([flag, name, "--iterations", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("runs").exists()
