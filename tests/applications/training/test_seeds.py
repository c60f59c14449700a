"""Several seeds of one command: what is run, and what is said of it."""

import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest

from applications.epvf.train import COMMAND_LINE, main
from applications.training import Run
from applications.training.cli import _seeds
from applications.training.processes import _running


_SMALL = ["--num-envs", "4", "--horizon", "8", "--iterations", "1"]


@pytest.fixture
def started(monkeypatch):
    """In place of processes: what was started; seeds above 2 fail."""
    commands: list[list[str]] = []

    class Process:
        def __init__(self, command, *, start_new_session, **_):
            assert start_new_session
            commands.append(command)
            flags = command[3:]
            assert command[:3] == [sys.executable, "-m", "applications.epvf.train"]
            settings = COMMAND_LINE.parse(flags)
            self.seed = settings.launch.seed
            assert settings.launch.run_dir is not None
            run = Run.create(settings.launch.run_dir, settings.manifest)
            if self.seed <= 2:
                content = json.dumps({"mean": 10.0 * self.seed})
                run.evaluation.write_text(content)

        def wait(self) -> int:
            return 0 if self.seed <= 2 else 2

    # Git is asked by a process too, for the commit.
    monkeypatch.setattr(_running, "subprocess", types.SimpleNamespace(Popen=Process))
    return commands


def _main(*flags: str) -> int:
    """The exit code, as `python -m` gives it."""
    try:
        return main(flags)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_each_seed_has_a_run_of_its_own(tmp_path, started, capsys):
    place = tmp_path / "my runs"
    flags = ["--run-dir", str(place), "--env", "lqr", "--seeds", "1", "2", *_SMALL]
    assert _main(*flags) == 0
    assert [command[3:] for command in started] == [
        [
            *("--env", "lqr", *_SMALL),
            *("--seed", str(seed), "--run-dir", str(place / f"seed{seed}")),
        ]
        for seed in (1, 2)
    ]
    printed = capsys.readouterr().out
    assert "Mean of 2 seeds: 15.0 (10.0, 20.0)" in printed
    (command,) = [x for x in printed.splitlines() if x.startswith("Draw them: ")]
    assert command.endswith(f"compare '{place}/seed1' '{place}/seed2'")
    # A second time there is nothing to be overwritten.
    assert _main(*flags) == 2
    assert "seed1 exists" in capsys.readouterr().err and len(started) == 2


def test_a_seed_that_fails_does_not_stop_the_others(tmp_path, started, capsys):
    assert _main("--run-dir", str(tmp_path), "--seeds", "3", "2", "4", "0") == 2
    assert [command[4] for command in started] == ["3", "2", "4", "0"]
    out, error = capsys.readouterr()
    assert "Mean of 2 seeds: 10.0 (20.0, 0.0)" in out
    assert "seed2" in out.splitlines()[-1] and "seed3" not in out.splitlines()[-1]
    assert "2 of 4 seeds failed: 3 4." in error


def test_without_a_directory_there_is_a_new_one(tmp_path, started, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _main("--seeds", "0", "1") == 0
    (together,) = (tmp_path / "runs" / "epvf").iterdir()
    assert together.name.startswith("cartpole-seeds-")
    assert {path.name for path in together.iterdir()} == {"seed0", "seed1"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--seeds", "1", "1"], "different numbers; got 1 1"),
        (["--seeds", "1", "2", "--seed", "3"], "drop one of the two"),
        (["--seeds", "1", "--resume", "runs/x"], "goes on with one"),
        (
            [
                "--seeds",
                "1",
                "--coordinator=a:1",
                "--num-processes=2",
                "--process-id=0",
            ],
            "trains alone",
        ),
    ],
)
def test_what_does_not_go_with_seeds(flags, told, started, capsys):
    assert _main(*flags) == 2
    assert told in capsys.readouterr().err
    assert started == []


def test_a_signal_goes_to_the_run_and_no_other_begins(tmp_path, monkeypatch, capsys):
    # The "trainer" says that it is there, and takes the signal for a wish to stop.
    program = (
        "import pathlib, signal, sys, time\n"
        "stop = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: stop.append(1))\n"
        "pathlib.Path(sys.argv[-1]).mkdir(parents=True)\n"
        "while not stop: time.sleep(0.01)\n"
    )
    (tmp_path / "trainer.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sent = []

    class Process(subprocess.Popen):
        def wait(self, timeout=None):
            while not (tmp_path / "runs" / "seed5").exists():
                time.sleep(0.01)
            sent.append(self.pid)
            os.kill(os.getpid(), signal.SIGTERM)
            return super().wait(timeout)

    monkeypatch.setattr(_running, "subprocess", types.SimpleNamespace(Popen=Process))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="Stopped at seed 5. No run is done."):
        _seeds.train_seeds("trainer", [], [5, 6], tmp_path / "runs")
    assert len(sent) == 1 and not (tmp_path / "runs" / "seed6").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.nightly
def test_two_seeds_are_trained(tmp_path, capfd):
    flags = ["--env", "lqr", "--eval-episodes", "1", *_SMALL]
    assert _main("--run-dir", str(tmp_path), "--seeds", "0", "7", *flags) == 0
    for seed in (0, 7):
        run = Run(tmp_path / f"seed{seed}")
        assert run.manifest.settings["seed"] == seed
        assert "mean" in json.loads(run.evaluation.read_text())
    assert "Mean of 2 seeds: " in capfd.readouterr().out
