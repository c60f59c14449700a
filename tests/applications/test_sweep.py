"""Sweeps: every run is made once, and never taken for one of other settings."""

import inspect
import json
import re

import pytest

from applications import sweep
from applications.epvf import ablate
from applications.epvf.train import COMMAND_LINE, main as train
from applications.settings import UserError
from applications.sweep import train_all, Training


_EPVF = "applications.epvf.train"
_SMALL = ("--num-envs", "4", "--hidden", "--horizon", "8", "--eval-episodes", "1")


def test_every_ablation_is_a_setting():
    for preset, ablations in ablate.ABLATIONS.items():
        default = COMMAND_LINE.parse(["--preset", preset])
        for name, flags in ablations.items():
            parsed = COMMAND_LINE.parse(["--preset", preset, *flags])
            assert (parsed == default) == (name == "as it is")


def test_help_names_every_trainer():
    told = inspect.getsource(sweep.SweepArgs)
    named = set(re.findall(r"[\w-]+", told))
    assert set(sweep.TRAINERS) <= named
    assert "brax-td3" not in named


@pytest.fixture
def in_process(monkeypatch):
    """Trains in this process, and gives the names of what was trained."""
    trained = []

    def work(training, environment=None, *, runner=None):
        trained.append(training.directory.name)
        begun = training.directory.exists()
        where = ["--resume" if begun else "--run-dir", str(training.directory)]
        assert train([*training.flags, *where]) == 0

    monkeypatch.setattr(Training, "train", work)
    return trained


@pytest.mark.nightly
def test_ablations_run_once_and_draw(tmp_path, capsys, in_process):
    asked = [
        *("--directory", str(tmp_path), "--seeds", "0", "--iterations", "2"),
        *("--only", "as it is", "no clip", "--last", "1", *_SMALL),
    ]
    assert ablate.main(asked) == 0
    assert in_process == ["as-it-is-seed0", "no-clip-seed0"]
    printed = capsys.readouterr().out
    assert "no-clip-seed0: --preset paper --env cartpole" in printed
    assert "return_policy" in printed
    there = tmp_path / "paper" / "cartpole"
    assert (there / "ablations.png").is_file()
    found = json.loads((there / "ablations.json").read_text())
    assert [group["runs"] for group in found["groups"]] == ["as it is", "no clip"]
    assert found["flags"] == [*_SMALL]
    config = json.loads((there / "no-clip-seed0" / "config.json").read_text())
    assert config["settings"]["clip"] == "none"
    # Again: nothing is left to be run.
    in_process.clear()
    assert ablate.main(asked) == 0
    assert in_process == []
    # Asked for otherwise, the old runs are not shown as if they were the new ones.
    capsys.readouterr()
    assert ablate.main([*asked, "--critic-lr", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "as-it-is-seed0 holds a run of other settings: critic_lr is 0.001" in error
    longer = ["500" if flag == "2" else flag for flag in asked]
    assert ablate.main(longer) == 2
    assert "iterations is 2, asked for is 500" in capsys.readouterr().err
    assert in_process == []
    # An evaluation that says nothing does not count: the run is evaluated again.
    evaluation = there / "no-clip-seed0" / "evaluation.json"
    whole = evaluation.read_bytes()
    evaluation.write_bytes(b"")
    assert ablate.main(asked) == 0
    assert in_process == ["no-clip-seed0"] and evaluation.read_bytes() == whole


def test_a_run_of_another_algorithm_is_refused(tmp_path, in_process):
    flags = (*_SMALL, "--iterations", "1")
    training = Training(_EPVF, flags, tmp_path / "run")
    train_all([training])
    assert training.is_done()
    other = Training("applications.gogepo.train", (), tmp_path / "run")
    with pytest.raises(UserError, match="holds a run of epvf, not of gogepo"):
        train_all([other])


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ((), {"runs": ()}),
        (
            ("clip=none,policy", "noise_scale=1"),
            {
                "clip none noise-scale 1": ("--clip", "none", "--noise-scale", "1"),
                "clip policy noise-scale 1": ("--clip", "policy", "--noise-scale", "1"),
            },
        ),
    ],
)
def test_all_combinations(over, expected):
    assert sweep._combinations(over) == expected


def test_a_sweep(tmp_path, in_process, capsys):
    asked = [*("--directory", str(tmp_path), "--over", "archive=1,2"), *_SMALL]
    assert sweep.main([*asked, "--seeds", "3", "--iterations", "1"]) == 0
    assert in_process == ["archive-1-seed3", "archive-2-seed3"]
    printed = capsys.readouterr().out
    assert "archive 1" in printed and "archive 2" in printed
    assert (tmp_path / "sweep.png").is_file()


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (ablate.main, "--only clap", "There is no setting ['clap']; there are"),
        (ablate.main, "--last 0", "--last must be at least 1"),
        (sweep.main, "--last -2", "--last must be at least 1"),
        (sweep.main, "--algorithm td3", "--algorithm must be one of epvf, gogepo, pvf"),
        (sweep.main, "--over clip", "--over takes name=value,value; got clip."),
    ],
)
def test_what_cannot_be_swept(main, flags, message, capsys):
    assert main(flags.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.nightly
def test_a_run_that_fails_ends_it(tmp_path, capfd, monkeypatch):
    asked = ["--directory", str(tmp_path), "--env", "nowhere", "--seeds", "0"]
    assert ablate.main(asked) == 2
    assert "Unknown task 'nowhere'" in capfd.readouterr().err
    # What only the run itself finds out.
    monkeypatch.setenv("JAX_PLATFORMS", "nowhere")
    asked[asked.index("nowhere")] = "cartpole"
    assert ablate.main(asked) == 2
    assert "ended with exit code" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds"], "--seeds takes different numbers, at least one; got none."),
        (["--seeds", "1", "1"], "--seeds takes different numbers, at least one; got 1"),
        (["--seeds", "-1"], "--seed must be from 0 to 2**32 - 1; got -1."),
        (["--critic-lr", "nan"], "--critic-lr must be positive and finite; got nan."),
        (["--env", "chess"], "Unknown task 'chess'."),
        (["--last", "0"], "--last must be at least 1; got 0."),
        (["--directory", "{file}"], "is no directory"),
    ],
)
def test_nothing_is_trained_before_all_is_checked(
    flags, message, tmp_path, capsys, in_process
):
    file = tmp_path / "file"
    file.write_text("")
    given = [flag.format(file=file) for flag in flags]
    place = ["--directory", str(tmp_path / "runs"), *given]
    assert ablate.main(["--only", "as it is", "no clip", *place]) == 2
    assert message in capsys.readouterr().err
    assert sweep.main(["--over", "archive=1,2", *place]) == 2
    assert message in capsys.readouterr().err
    assert in_process == [] and list(tmp_path.iterdir()) == [file]


def test_a_check_ends_a_sweep_after_the_first_run(tmp_path, in_process):
    def check(run):
        raise UserError(f"no such column in {run.directory.name}")

    trainings = [
        Training(_EPVF, (*_SMALL, "--iterations", "1"), tmp_path / name)
        for name in ("first", "second")
    ]
    with pytest.raises(UserError, match="no such column in first"):
        train_all(trainings, check=check)
    assert in_process == ["first"]


def test_a_signal_at_the_end_of_a_run_is_no_success(tmp_path, monkeypatch):
    trained = []

    def work(training, *, runner):
        trained.append(training.directory.name)
        runner.stopped = True

    monkeypatch.setattr(Training, "train", work)
    trainings = [Training(_EPVF, _SMALL, tmp_path / name) for name in ("a", "b")]
    # Nothing is looked up in the run that was not made.
    monkeypatch.setattr(sweep, "Run", lambda directory: directory)
    with pytest.raises(UserError, match="Stopped"):
        train_all(trainings)
    assert trained == ["a"]
