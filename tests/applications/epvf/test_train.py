"""The command as a user meets it: what it leaves, and what it says to bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from applications import evaluate
from applications.envs import names
from applications.epvf import train
from applications.settings import UserError
from applications.training import Run


_ROOT = Path(__file__).parents[3]
_SMALL = ("--num-envs", "8", "--iterations", "4", "--horizon", "30")
_KEYS = {
    "iteration",
    "env_steps",
    "return_perturbed_mean",
    "return_perturbed_max",
    "return_policy",
    "critic_loss",
    "critic_correlation",
    "value_policy",
    "weight_norm",
    "share_at_clip",
    "weight_step",
    "answer_spread",
    "noise_scale",
    "nan_episodes",
    "steps_per_second",
    "compile_seconds",
    "seconds",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "small"
    assert train.main(["--run-dir", str(directory), *_SMALL]) == 0
    return directory


def _contents(directory: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_run_directory(run):
    names = {path.name for path in run.iterdir()}
    events = {name for name in names if name.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert names - events == {
        *("config.json", "metrics.jsonl", "checkpoints", "policy.eqx"),
        *("return.png", "evaluation.json"),
    }
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000004.ckpt"]
    config = json.loads((run / "config.json").read_text())
    assert config["format"] == "wsl-run 1" and config["algorithm"] == "epvf"
    assert config["settings"]["env"] == "cartpole"
    assert config["settings"]["num_envs"] == 8
    assert (run / "return.png").read_bytes().startswith(b"\x89PNG")


def test_metrics(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    steps = 0
    for row in rows:
        assert row.keys() == _KEYS
        # Eight episodes of at least 8 steps (the least that cartpole takes to fall).
        assert 8 * 8 <= row["env_steps"] - steps <= 8 * 30
        steps = row["env_steps"]
        # A reward of 1 a step: the mean return is the mean length.
        assert row["return_perturbed_mean"] <= row["return_perturbed_max"] <= 30
        assert row["nan_episodes"] == 0
    assert rows[0]["compile_seconds"] > 0
    assert [row["compile_seconds"] for row in rows[1:]] == [0, 0, 0]
    first = rows[0]
    assert first["env_steps"] == round(8 * first["return_perturbed_mean"])


def test_evaluate_agrees_with_the_run(run, capsys):
    assert evaluate.main([str(run), "--episodes", "50"]) == 0
    of_directory = capsys.readouterr().out
    assert "Mean return of 50 episodes" in of_directory
    assert evaluate.main([str(run / "policy.eqx"), "--episodes", "50"]) == 0
    assert capsys.readouterr().out == of_directory


def test_a_finished_run_resumes_to_itself(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert train.main(["--resume", str(copy)]) == 0
    for name in ("policy.eqx", "metrics.jsonl", "evaluation.json"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_more_iterations_on_resume(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert train.main(["--resume", str(copy), "--iterations", "6"]) == 0
    assert "Iterations: 4 before, 6 now" in capsys.readouterr().out
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert Run(copy).manifest.settings["iterations"] == 6


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--num-envs", "0"), "--num-envs must be at least 1; got 0."),
        (("--iterations", "-3"), "--iterations must be at least 1; got -3."),
        (("--hidden", "8", "0"), "--hidden must be at least 1; got 0."),
        (("--policy-lr", "0"), "--policy-lr must be positive and finite; got 0.0."),
        (("--noise-scale", "nan"), "--noise-scale must be positive and finite"),
        (("--batch-size", "9999"), "--batch-size 9999 is more than"),
    ],
)
def test_bad_flags(flags, message):
    with pytest.raises(UserError) as caught:
        train.COMMAND_LINE.parse(flags)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--env", "cart-pole"), "Unknown task 'cart-pole'. Known tasks: ant, "),
        (("--seed", "4294967296"), "--seed must be from 0 to 2**32 - 1; got 42949"),
        (("--resume", "nowhere"), "nowhere is not a run: it has no config.json."),
    ],
)
def test_bad_input_leaves_nothing(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main([*flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flags", [("--num-envs", "many"), ("--policies", "x"), ("--nonsense",)]
)
def test_flags_that_do_not_parse(flags, capsys):
    with pytest.raises(SystemExit) as exit_:
        train.COMMAND_LINE.parse(flags)
    assert exit_.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_help_names_every_flag_and_task(capsys):
    with pytest.raises(SystemExit) as exit_:
        train.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for field in train.COMMAND_LINE.parse([]).to_json():
        assert "--" + field.replace("_", "-") in text
    for task in names():
        assert task in text


def _fails_and_changes_nothing(arguments, directory, capsys) -> str:
    before = _contents(directory)
    assert train.main(arguments) == 2
    assert _contents(directory) == before
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def test_run_directory_that_exists(run, capsys):
    error = _fails_and_changes_nothing(["--run-dir", str(run), *_SMALL], run, capsys)
    assert f"{run} exists." in error
    assert f"--resume {run}" in error


def test_fewer_iterations_than_done(run, capsys):
    error = _fails_and_changes_nothing(
        ["--resume", str(run), "--iterations", "3"], run, capsys
    )
    assert "--iterations 3 is less than the 4" in error


def test_resume_with_other_settings(run, capsys):
    error = _fails_and_changes_nothing(
        ["--resume", str(run), "--num-envs", "16"], run, capsys
    )
    assert "--num-envs 16 differs from the run's 8." in error


def test_resume_and_run_dir_together(run, capsys):
    arguments = ["--resume", str(run), "--run-dir", str(run / "x")]
    error = _fails_and_changes_nothing(arguments, run, capsys)
    assert "--run-dir names a new run and --resume an old one" in error


def test_checkpoint_of_another_config(run, tmp_path, capsys):
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    Run(mixed).update_settings(seed=1)
    longer = ["--resume", str(mixed), "--iterations", "9"]
    error = _fails_and_changes_nothing(longer, mixed, capsys)
    assert "00000004.ckpt is a checkpoint of another config: it has seed=0" in error


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_env": 8}, "Unknown settings: num_env."),
        ({"num_envs": "8"}, "--num-envs must be of type int; got '8'."),
        ({"hidden": 5}, "--hidden must be of type tuple[int, ...]; got 5."),
        ({"targets": "best"}, "--targets must be one of standard, rank; got 'best'"),
        ({"env": "cart"}, "Unknown task 'cart'. Known tasks: ant, "),
    ],
)
def test_config_that_is_not_one(changes, message, run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    Run(copy).update_settings(**changes)
    error = _fails_and_changes_nothing(["--resume", str(copy)], copy, capsys)
    assert message in error


def test_a_run_of_another_version_or_trainer(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    manifest = json.loads((copy / "config.json").read_text())
    for content, message in (
        (manifest["settings"], "config.json does not say 'wsl-run 1': another version"),
        (
            manifest | {"algorithm": "gogepo"},
            "is a run of gogepo, which this command does not train. Go on by: "
            f"python -m applications.gogepo.train --resume {copy}",
        ),
    ):
        (copy / "config.json").write_text(json.dumps(content))
        error = _fails_and_changes_nothing(["--resume", str(copy)], copy, capsys)
        assert message in error


def test_metrics_that_someone_edited(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    lines = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    edited = [lines[0], "not a row\n", *lines[2:]]
    (copy / "metrics.jsonl").write_text("".join(edited))
    assert train.main(["--resume", str(copy)]) == 0
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "3 of 4 rows can be read and stay" in error
    kept = [lines[0], *lines[2:]]
    assert (copy / "metrics.jsonl").read_text() == "".join(kept)
    assert (copy / "metrics.jsonl.damaged").read_text() == "".join(edited)


def test_a_directory_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    wanted = tmp_path / "file" / "run"
    assert train.main(["--run-dir", str(wanted), *_SMALL]) == 2
    assert f"Cannot read or write {wanted}: " in capsys.readouterr().err


_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.argv = sys.argv[1:]
runpy.run_module("applications.epvf.train", run_name="__main__")
"""


def test_full_disk(tmp_path):
    """A limit on the size of a file stands in for a disk that fills up."""
    run = tmp_path / "run"
    # The compiler's cache would run into the limit too.
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    flags = ["--run-dir", str(run), "--checkpoint-every", "2", *_SMALL]
    failed = subprocess.run(
        [sys.executable, "-c", _LIMITED, "train", *flags],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2, failed
    assert failed.stderr.startswith("error: Cannot read or write ")
    assert "00000002.ckpt: File too large." in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert not list((run / "checkpoints").iterdir())
    assert train.main(["--resume", str(run)]) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4


def test_weights_that_diverge_end_the_run(tmp_path, capsys):
    flags = [
        *("--preset", "paper", "--clip", "none"),
        *("--policy-lr", "1e38", "--policy-lr-schedule", "constant"),
    ]
    run = tmp_path / "run"
    assert train.main(["--run-dir", str(run), *_SMALL, *flags]) == 2
    error = capsys.readouterr().err
    assert "is not finite any more: the learning rates are too high" in error
    assert error.rstrip().endswith("There is no checkpoint from before.")
    assert not list((run / "checkpoints").iterdir())


@pytest.mark.nightly
def test_a_critic_that_diverges_ends_the_run(tmp_path, capsys):
    run = tmp_path / "run"
    flags = [*("--preset", "paper", "--env", "lqr"), *_SMALL, "--checkpoint-every", "1"]
    assert train.main(["--run-dir", str(run), *flags, "--critic-lr", "1e6"]) == 2
    error = capsys.readouterr().err
    assert "is not finite any more" in error and len(error.splitlines()) == 1
    for path in (run / "checkpoints").iterdir():
        with open(path, "rb") as file:
            file.readline()
            with np.load(file) as arrays:
                floats = [x for x in arrays.values() if x.dtype.kind == "f"]
                assert all(np.isfinite(x).all() for x in floats)


@pytest.mark.parametrize(
    "content, message",
    [(b"", "is not a policy file"), (b'{"format": "wsl-policy 1"', "is not a policy")],
)
def test_evaluate_bad_file(content, message, tmp_path, capsys):
    path = tmp_path / "policy.eqx"
    path.write_bytes(content)
    assert evaluate.main([str(path)]) == 2
    assert message in capsys.readouterr().err


def _train_on_mjx(run: Path, *flags: str) -> None:
    small = ("--num-envs", "4", "--iterations", "2", "--horizon", "6")
    assert train.main(["--run-dir", str(run), *flags, *small]) == 0
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["nan_episodes"] for line in lines] == [0, 0]


@pytest.mark.nightly
def test_inverted_pendulum_with_probing(tmp_path):
    flags = ("--env", "inverted_pendulum", "--representation", "probing")
    _train_on_mjx(tmp_path / "run", *flags)


@pytest.mark.nightly
def test_ant_and_its_picture(tmp_path):
    run, picture = tmp_path / "run", tmp_path / "ant.webp"
    _train_on_mjx(run, "--env", "ant")
    # Draws where there is a way to draw, else says how to come to one.
    command = ["-m", "applications.evaluate", str(run), "--render", str(picture)]
    done = subprocess.run(
        [sys.executable, *command, "--episodes", "1"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    assert "Mean return of 1 episodes" in done.stdout
    if done.returncode == 0:
        assert picture.read_bytes()[8:12] == b"WEBP"
    else:
        assert done.returncode == 2
        assert "apt-get install libegl1" in done.stderr
        assert not picture.exists()


def test_evaluate_draws_and_says_what_it_cannot(run, tmp_path, capsys):
    picture = tmp_path / "x.webp"
    command = [str(run), "--episodes", "1", "--render"]
    assert evaluate.main([*command, str(picture)]) == 0
    assert picture.read_bytes()[8:12] == b"WEBP"
    capsys.readouterr()
    assert evaluate.main([*command, str(tmp_path / "x.avi")]) == 2
    said = capsys.readouterr()
    # Before any episode is run.
    assert "must end in .webp, .gif, .mp4" in said.err and "Mean return" not in said.out


def test_evaluate_bad_arguments(run, tmp_path, capsys):
    assert evaluate.main([str(run), "--episodes", "0"]) == 2
    assert "--episodes must be at least 1; got 0." in capsys.readouterr().err
    assert evaluate.main([str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert evaluate.main([str(tmp_path / "nothing.eqx")]) == 2
    assert "No such file" in capsys.readouterr().err
