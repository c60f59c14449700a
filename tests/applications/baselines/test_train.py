"""The command as a user meets it: what it leaves, and what it says to bad input."""

import json
import re
import shutil

import pytest


pytest.importorskip("evosax")

from applications import compare, evaluate
from applications.baselines import train
from applications.settings import UserError
from applications.training import Run


_KEYS = {
    "iteration",
    "env_steps",
    "return_policy",
    "steps_per_second",
    "compile_seconds",
    "seconds",
}
_OF_A_POPULATION = {
    "return_perturbed_mean",
    "return_perturbed_max",
    "nan_episodes",
    "weight_norm",
}
_SMALL = ("--env", "cartpole", "--num-envs", "8", "--horizon", "30", "--steps", "600")
_SMALL_ARS = (*_SMALL, "--top", "2")


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def files(directory):
    return {path.name for path in directory.iterdir() if "tfevents" not in path.name}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "ars"
    assert train.main(["--run-dir", str(directory), *_SMALL_ARS]) == 0
    return directory


def test_run_directory(run, capsys):
    assert files(run) == {
        *("config.json", "metrics.jsonl", "checkpoints", "policy.eqx"),
        *("return.png", "evaluation.json"),
    }
    manifest = Run(run).manifest
    assert manifest.algorithm == "ars"
    # What was not given has the algorithm's default; what it has no use for is absent.
    settings = manifest.settings
    assert settings["learning_rate"] == 0.015 and settings["hidden"] == []
    assert "discount" not in settings
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert len(evaluation["returns"]) == 100
    # The policy is one that EPVF's replay understands.
    assert evaluate.main([str(run), "--episodes", "5"]) == 0
    assert "Mean return of 5 episodes" in capsys.readouterr().out


def test_metrics(run):
    found = rows(run)
    assert all(row.keys() == _KEYS | _OF_A_POPULATION for row in found)
    steps = [0, *(row["env_steps"] for row in found)]
    # It stops after the first iteration that passes 600.
    assert steps[-2] < 600 <= steps[-1]
    for row, before in zip(found, steps, strict=False):
        # A reward of 1 a step: the mean return is the mean length.
        made = row["env_steps"] - before
        assert made == round(8 * row["return_perturbed_mean"])


def test_more_steps_on_resume_end_where_one_run_does(run, tmp_path):
    parted, whole = tmp_path / "parted", tmp_path / "whole"
    shutil.copytree(run, parted)
    assert train.main(["--resume", str(parted), "--steps", "1200"]) == 0
    more = (*_SMALL_ARS[:-3], "1200", "--top", "2")
    assert train.main(["--run-dir", str(whole), *more]) == 0
    assert Run(parted).manifest.settings["steps"] == 1200
    for name in ("policy.eqx", "evaluation.json"):
        assert (parted / name).read_bytes() == (whole / name).read_bytes()
    assert (parted / "policy.eqx").read_bytes() != (run / "policy.eqx").read_bytes()


@pytest.mark.nightly
@pytest.mark.parametrize("algorithm", ["cma-es", "sep-cma-es", "snes"])
def test_a_strategy_that_adapts_resumes_on_the_c_engine(algorithm, tmp_path):
    parted, whole = tmp_path / "parted", tmp_path / "whole"
    flags = f"--algorithm {algorithm} --env inverted_pendulum --physics mujoco"
    flags = f"{flags} --num-envs 4 --horizon 20 --normalise".split()
    assert train.main(["--run-dir", str(parted), *flags, "--steps", "100"]) == 0
    before = (parted / "policy.eqx").read_bytes()
    assert train.main(["--resume", str(parted), "--steps", "200"]) == 0
    assert train.main(["--run-dir", str(whole), *flags, "--steps", "200"]) == 0
    after = (parted / "policy.eqx").read_bytes()
    assert after == (whole / "policy.eqx").read_bytes() != before
    assert rows(whole)[0].keys() == _KEYS | _OF_A_POPULATION | {"noise_scale"}


@pytest.mark.nightly
def test_openes_on_the_c_engine_and_beside_ars(run, tmp_path, capsys):
    other = tmp_path / "openes"
    flags = "--algorithm openes --env inverted_pendulum --physics mujoco --hidden 4"
    flags += " --num-envs 4 --steps 100 --horizon 20 --normalise"
    assert train.main(["--run-dir", str(other), *flags.split()]) == 0
    assert files(other) == files(run)
    out = tmp_path / "both.png"
    assert compare.main([str(run), str(other), "--out", str(out)]) == 0
    assert "openes, env inverted_pendulum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num-envs 7", "--num-envs 7 is odd; directions are tried both ways."),
        ("--top 61", "--top 61 is more than the 60 directions"),
        ("--algorithm brax-ars --top 61", "--top 61 is more than the 60 directions"),
        ("--algorithm ppo --discount 1.5", "--discount must be at most 1; got 1.5."),
        ("--algorithm ppo --minibatches 7", "cannot be shared out among --minibatches"),
        ("--algorithm ppo --physics mujoco", "--physics mujoco is not for ppo"),
        ("--algorithm sac --steps 5", "--warm-up 8192 leaves nothing of --steps 5"),
        ("--algorithm sac --resume x", "A run of sac cannot be resumed"),
        ("--algorithm sb3-ppo --resume x", "A run of sb3-ppo cannot be resumed"),
        ("--algorithm sb3-ppo --batch-size 60", "--batch-size 60 does not divide the "),
        ("--algorithm sb3-ppo --batch-size 1", "--batch-size must be at least 2"),
        ("--algorithm sb3-sac --steps 5", "--warm-up 10000 leaves nothing of --steps"),
        ("--algorithm sb3-sac --buffer 1 --num-envs 2", "--buffer 1 does not hold one"),
        ("--algorithm cma-es --num-envs 3", "--num-envs must be at least 4"),
    ],
)
def test_settings_that_do_not_go_together(flags, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train.COMMAND_LINE.parse(flags.split())


@pytest.mark.parametrize(
    "flags",
    [
        *("--discount 0.9", "--algorithm openes --top 3"),
        *("--algorithm ddpg --normalise", "--algorithm cma-es --learning-rate 0.1"),
    ],
)
def test_flags_of_other_algorithms(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        train.COMMAND_LINE.parse(flags.split())
    assert ended.value.code == 2
    assert "Unrecognized options: --" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--env ants", "Unknown task 'ants'."),
        ("--resume nowhere", "nowhere is not a run"),
        ("--env swimmer --no-survival-bonus", "swimmer takes other options"),
    ],
)
def test_input_that_cannot_be_used(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train.main(flags.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_was_settled_stays_on_resume(run, capsys):
    assert train.main(["--resume", str(run), "--steps", "5"]) == 2
    assert "--steps 5 is less than the 6" in capsys.readouterr().err
    assert train.main(["--resume", str(run), "--top", "3"]) == 2
    assert "--top 3 differs from the run's 2" in capsys.readouterr().err
