"""The command as a user meets it: what it leaves, and what it says to bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from applications import evaluate
from applications.pvf import Config, train
from applications.settings import UserError
from applications.training import Run


_ROOT = Path(__file__).parents[3]
_SMALL = [
    *("--env", "inverted_pendulum", "--horizon", "12", "--num-envs", "4"),
    *("--segment", "6", "--rounds", "2", "--replay", "72", "--critic-width", "8"),
    *("--batch-segments", "3", "--steps-per-update", "6", "--fresh-policies", "3"),
    *("--representation", "flat", "--fresh-every", "2"),
]
_KEYS = {
    *("iteration", "env_steps", "steps_per_second", "compile_seconds", "seconds"),
    *("return_perturbed_mean", "return_perturbed_max", "return_policy"),
    *("nan_episodes", "nan_steps", "critic_loss", "q_mean", "weight_norm"),
    *("action_term", "theta_term", "noise_scale"),
    *("value_correlation", "start_correlation"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Four iterations of 48 steps, the last two of them resumed."""
    directory = tmp_path_factory.mktemp("runs") / "resumed"
    assert train.main(["--run-dir", str(directory), "--steps", "96", *_SMALL]) == 0
    shutil.copytree(directory, directory.with_name("first half"))
    assert train.main(["--resume", str(directory), "--steps", "192"]) == 0
    return directory


def _rows(directory: Path) -> list[dict]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_run_directory(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "policy.eqx"} <= names
    config = json.loads((run / "config.json").read_text())
    assert config["algorithm"] == "pvf" and config["settings"]["steps"] == 192
    assert config["settings"]["lambda_"] == 0.95
    assert Run(run).manifest.settings["preset"] == "vectorised"
    rows = _rows(run)
    assert [row["env_steps"] for row in rows] == [48, 96, 144, 192]
    for row in rows:
        assert row.keys() == _KEYS
        assert row["nan_steps"] == 0 and row["critic_loss"] > 0
    # Values are judged in every second iteration.
    judged = [row["value_correlation"] is not None for row in rows]
    assert judged == [False, True, False, True]


def test_more_steps_on_resume_end_in_the_bits_of_one_run(
    run, tmp_path, assert_same_bits, capsys
):
    whole = tmp_path / "whole"
    assert train.main(["--run-dir", str(whole), "--steps", "192", *_SMALL]) == 0
    assert_same_bits(run, whole)
    assert (run / "policy.eqx").read_bytes() == (whole / "policy.eqx").read_bytes()
    clocks = {"steps_per_second", "compile_seconds", "seconds"}
    both = [
        [{k: v for k, v in row.items() if k not in clocks} for row in _rows(one)]
        for one in (run, whole)
    ]
    assert both[0] == both[1]
    with pytest.raises(AssertionError):
        assert_same_bits(run, run.with_name("first half"))
    # Other commands work on it.
    assert evaluate.main([str(run), "--episodes", "2"]) == 0
    assert "eturn" in capsys.readouterr().out


_FLAT = {"representation": "flat"}


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"critic": "psvf"}, "--representation flat"),
        ({"critic": "pssvf"}, "--representation flat"),
        ({"critic": "psvf", **_FLAT, "relabel": True}, "--critic pavf"),
        ({"critic": "psvf", **_FLAT, "theta_term": 0.0}, "--theta-term"),
        ({"relabel": True}, "--representation flat"),
        ({**_FLAT, "target_policy": True}, "--relabel"),
        ({"policy_gradient": "likelihood-ratio"}, "--policy-kind stochastic"),
        ({"noise_scale": 0.0, "action_noise": 0.0}, "--noise-scale"),
        ({"noise_scale": 0.0, **_FLAT}, "--representation none"),
        ({"batch_steps": 60}, "--segment"),
        ({"steps_per_update": 5000}, "--policy-delay"),
        ({"replay": 100}, "--replay"),
        ({"representation": "probes"}, "probing"),
        ({"policy_kind": "stochastic", "target_noise": 0.1}, "--target-noise"),
        ({"policy_kind": "stochastic", "policy": "a:b"}, "--policy"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together(settings, said):
    with pytest.raises(UserError) as error:
        Config(**settings)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--lambda 1.5", "--lambda must be at most 1"),
        ("--env cartpole", "--policy-kind stochastic"),
        ("--critic pssvf --representation flat --hidden 256 256", "lower it to"),
    ],
)
def test_errors_are_one_line(flags, said, tmp_path, capsys):
    directory = tmp_path / "run"
    assert train.main([*flags.split(), "--run-dir", str(directory)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
    assert not directory.exists()


def test_few_effective_samples_are_warned_of_once(capsys):
    format_row = train.row_format()
    row = {"return_policy": 1.0, "effective_sample_size": 0.2}
    assert "1.0" in format_row(row)
    assert capsys.readouterr().err == ""
    for _ in range(2):
        format_row(row | {"effective_sample_size": 0.04})
    assert capsys.readouterr().err.count("--noise-scale") == 1


@pytest.mark.nightly
@pytest.mark.parametrize("env", ["inverted_pendulum", "lqr"])
def test_killed_and_resumed(env, tmp_path, assert_same_bits):
    flags = [*_SMALL, "--env", env, "--checkpoint-every", "1", "--steps", "4800"]

    def start(*more: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "applications.pvf.train", *more]
        one = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
        return subprocess.Popen(command, cwd=_ROOT, env=one)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start("--run-dir", str(whole), *flags).wait(timeout=600) == 0
    process = start("--run-dir", str(broken), *flags)
    deadline = time.monotonic() + 600
    while not list(broken.glob("checkpoints/0000002*.ckpt")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start("--resume", str(broken)).wait(timeout=600) == 0
    assert_same_bits(broken, whole)


@pytest.mark.nightly
@pytest.mark.parametrize("critic", ["psvf", "pavf"])
def test_lqr_is_learned(critic, tmp_path):
    directory = tmp_path / "run"
    flags = [
        *("--env", "lqr", "--critic", critic, "--representation", "flat"),
        *("--theta-term", "1", "--num-envs", "64", "--noise-scale", "0.1"),
        *("--discount", "0.99", "--policy-lr", "3e-4", "--target-rate", "0.05"),
        *("--steps", "80000", "--rounds", "5", "--fresh-policies", "0"),
    ]
    assert train.main([*flags, "--run-dir", str(directory)]) == 0
    evaluation = json.loads((directory / "evaluation.json").read_text())
    # The best is -1.618, and to do nothing -50.
    assert evaluation["mean"] > -2.4
