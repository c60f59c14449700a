"""The commands as a user meets them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from applications import evaluate as replay
from applications.gogepo import evaluate, generate, GoGePo, train
from applications.settings import UserError
from applications.training import Manifest, Run


_SMALL = (
    *("--num-envs", "8", "--iterations", "6", "--horizon", "30", "--snapshots", "2"),
    *("--climb", "0"),
    *("--hidden", "4", "--generator-width", "16", "--generator-updates", "2"),
    *("--critic-width", "16", "--critic-updates", "2", "--num-probes", "4"),
    *("--checkpoint-every", "1", "--batch-size", "8", "--archive", "4"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "small"
    assert train.main(["--run-dir", str(directory), *_SMALL]) == 0
    return directory


def test_run_directory(run):
    names = {path.name for path in run.iterdir() if "tfevents" not in path.name}
    assert names >= {
        *("config.json", "metrics.jsonl", "checkpoints", "snapshots", "policy.eqx"),
        *("return.png", "evaluation.json"),
    }
    kept = sorted(path.name for path in (run / "snapshots").iterdir())
    assert kept == ["00000003.ckpt", "00000006.ckpt"]
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert {"command_best", "command_error", "generator_loss"} <= rows[0].keys()


def test_resumed_run_has_the_same_bits(run, tmp_path, assert_same_bits):
    directory = tmp_path / "parted"
    shutil.copytree(run, directory)
    for path in (directory / "checkpoints").iterdir():
        if path.name > "00000004.ckpt":
            path.unlink()
    (directory / "evaluation.json").unlink()
    assert train.main(["--resume", str(directory)]) == 0
    assert_same_bits(directory, run)
    assert (directory / "policy.eqx").read_bytes() == (run / "policy.eqx").read_bytes()


def test_generated_policy_is_replayed(run, tmp_path, capsys):
    out = tmp_path / "policy.eqx"
    assert generate.main([str(run), "--command", "11", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert "The evaluator expects a return of" in captured.out
    assert replay.main([str(out), "--episodes", "3"]) == 0
    assert "Mean return of 3 episodes" in capsys.readouterr().out
    # Another command, another policy; the same one, the same.
    again, other = tmp_path / "again.eqx", tmp_path / "other.eqx"
    generate.main([str(run), "--command", "11", "--out", str(again)])
    generate.main([str(run), "--command", "9", "--out", str(other)])
    assert out.read_bytes() == again.read_bytes() != other.read_bytes()


def test_command_out_of_range(run, tmp_path, capsys):
    out = str(tmp_path / "policy.eqx")
    assert generate.main([str(run), "--command", "400", "--out", out]) == 0
    said = capsys.readouterr().err
    assert "400 is " in said and " beyond. Written for " in said
    nearest = (tmp_path / "policy.eqx").read_bytes()
    guess = ["--command", "400", "--extrapolate", "--out", out]
    assert generate.main([str(run), *guess]) == 0
    assert "What is written for 400 is a guess" in capsys.readouterr().err
    assert (tmp_path / "policy.eqx").read_bytes() != nearest
    assert generate.main([str(run), "--command", "10", "--out", out]) == 0
    assert capsys.readouterr().err == ""


def test_evaluation(run):
    assert evaluate.main([str(run), "--commands", "4", "--episodes", "2"]) == 0
    found = json.loads((run / "commands.json").read_text())
    assert [snapshot["iteration"] for snapshot in found["snapshots"]] == [3, 6]
    for name in ("commanded", "achieved", "predicted"):
        assert np.shape(found[name]) == (4, 1)
    commanded = np.array(found["commanded"])[:, 0]
    share = found["mean_error"] / (commanded[-1] - commanded[0])
    assert found["relative_error"] == pytest.approx(share)
    assert 0 <= found["archive_error"] < commanded[-1] - commanded[0]
    assert np.allclose(np.diff(commanded), np.diff(commanded)[0])
    for picture in ("commands.png", "policies.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_latents_make_several_policies_for_a_command(run, tmp_path):
    latent = tmp_path / "latent"
    flags = ["--generator", "latent", "--iterations", "2", "--snapshots", "1"]
    assert train.main(["--run-dir", str(latent), *_SMALL, *flags]) == 0
    shares = []
    for directory in (latent, run):
        assert (
            evaluate.main([str(directory), "--commands", "3", "--episodes", "1"]) == 0
        )
        found = json.loads((directory / "commands.json").read_text())
        shares.append(found.get("latent_share"))
    assert 0 < shares[0] < 1 and shares[1] is None
    for directory, several in ((latent, True), (run, False)):
        written = []
        for seed in ("1", "2"):
            out = ["--out", str(tmp_path / f"{seed}.eqx"), "--seed", seed]
            assert generate.main([str(directory), "--command", "20", *out]) == 0
            written.append((tmp_path / f"{seed}.eqx").read_bytes())
        assert (written[0] != written[1]) == several


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--eval-episodes 1", "--eval-episodes must be at least 2"),
        ("--low 10 --high 5", "--low 10.0 must be below --high 5.0"),
        ("--env lqr --command-kind speed", "speed is not for this task"),
        ("--representation interactive-probing --num-probes 30", "cannot be shared"),
        (
            "--preset sequential --probe-rounds 3 --representation interactive-probing",
            "--num-probes 200 cannot be shared",
        ),
    ],
)
def test_what_cannot_be_trained(flags, message):
    with pytest.raises(UserError, match=message):
        settings = train.COMMAND_LINE.parse(flags.split())
        GoGePo(settings.task.make(as_trained=True), settings.algorithm)


def test_presets():
    quick = train.COMMAND_LINE.parse([])
    slow = train.COMMAND_LINE.parse(["--preset", "sequential", "--hidden", "8"])
    assert (quick.algorithm.num_envs, quick.launch.checkpoint_every) == (64, 10)
    assert (slow.algorithm.num_envs, slow.launch.checkpoint_every) == (1, 1000)
    assert slow.algorithm.hidden == (8,) and slow.algorithm.drive == 20.0


def test_what_cannot_be_generated(run, tmp_path, capsys):
    assert generate.main([str(run), "--command", "1", "2"]) == 2
    assert "--command takes 1 number here (return); got 2." in capsys.readouterr().err
    assert generate.main([str(tmp_path), "--command", "1"]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert generate.main([str(run), "--command", "nan"]) == 2
    assert (
        "--command must be finite, also in single precision; got nan."
        in capsys.readouterr().err
    )
    assert evaluate.main([str(run), "--low", "nan"]) == 2
    assert "--low must be finite, also in single" in capsys.readouterr().err
    assert evaluate.main([str(run), "--low", "2", "--high", "1"]) == 2
    assert "--low 2.0 must be below --high 1.0." in capsys.readouterr().err
    assert generate.main([str(run), "--command", "1", "--out", str(tmp_path)]) == 2
    assert f"--out {tmp_path} is a directory" in capsys.readouterr().err
    other = Run.create(tmp_path / "epvf", Manifest("epvf", {})).directory
    for main, flags in ((evaluate.main, []), (generate.main, ["--command", "1"])):
        assert main([str(other), *flags]) == 2
        said = f"{other} is a run of epvf, not of gogepo."
        assert said in capsys.readouterr().err


def test_damaged_snapshots_are_set_aside(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    first, last = sorted((copy / "snapshots").iterdir())
    generated = [str(copy), "--command", "11", "--out", str(tmp_path / "x.eqx")]
    last.write_bytes(last.read_bytes()[:-1])
    assert generate.main(generated) == 0
    error = capsys.readouterr().err
    assert f"Snapshot {last} is damaged; it is now {last}.damaged." in error
    # Said once; nothing is lost of the file.
    assert generate.main(generated) == 0
    assert "Snapshot" not in capsys.readouterr().err
    assert last.with_name("00000006.ckpt.damaged").exists()
    first.write_bytes(b"")
    assert generate.main(generated) == 2
    assert "has no snapshots" in capsys.readouterr().err


@pytest.mark.nightly
def test_the_other_snapshots_are_evaluated(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    last = max((copy / "snapshots").iterdir())
    last.write_bytes(b"")
    (copy / "checkpoints" / "00000006.ckpt").write_bytes(b"")
    assert evaluate.main([str(copy), "--commands", "2", "--episodes", "1"]) == 0
    error = capsys.readouterr().err
    assert f"Snapshot {last} is damaged" in error
    assert "00000006.ckpt is damaged; taking the one of iteration 5." in error
    found = json.loads((copy / "commands.json").read_text())
    assert [snapshot["iteration"] for snapshot in found["snapshots"]] == [3]
    # Going on makes the last one again, with the same bits.
    assert train.main(["--resume", str(copy)]) == 0
    assert last.read_bytes() == (run / "snapshots" / last.name).read_bytes()
