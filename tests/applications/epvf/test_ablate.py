"""The ablations: every run is made once, and what comes of them is drawn."""

import json

import pytest

from applications.epvf import ablate


_SMALL = ("--num-envs", "4", "--hidden", "--horizon", "8", "--eval-episodes", "1")


def test_every_ablation_is_a_setting():
    from applications.epvf.config import Config
    from applications.training import parse_settings

    default, _ = parse_settings(Config, [], prog="x")
    for name, flags in ablate.ABLATIONS.items():
        changed, _ = parse_settings(Config, [*flags], prog="x")
        assert (changed == default) == (name == "as it is")


def test_runs_once_and_draws(tmp_path, capfd):
    asked = [
        *("--directory", str(tmp_path), "--seeds", "0", "--iterations", "2"),
        *("--only", "as it is", "no clip", "--last", "1", *_SMALL),
    ]
    assert ablate.main(asked) == 0
    printed = capfd.readouterr().out
    assert "no-clip-seed0: --env cartpole" in printed and "return_policy" in printed
    there = tmp_path / "cartpole"
    assert (there / "ablations.png").is_file()
    found = json.loads((there / "ablations.json").read_text())
    assert [group["runs"] for group in found["groups"]] == ["as it is", "no clip"]
    assert found["flags"] == [*_SMALL]
    config = json.loads((there / "no-clip-seed0" / "config.json").read_text())
    assert config["clip"] == "none" and config["horizon"] == 8
    # Again: nothing is left to be run.
    assert ablate.main(asked) == 0
    assert "seed0:" not in capfd.readouterr().out


def test_unknown_settings(capsys):
    assert ablate.main(["--only", "no clap"]) == 2
    assert "There is no setting ['no clap']; there are" in capsys.readouterr().err


def test_a_run_that_fails_ends_it(tmp_path, capfd):
    asked = ["--directory", str(tmp_path), "--env", "nowhere", "--seeds", "0"]
    assert ablate.main(asked) == 2
    assert "Unknown task 'nowhere'" in capfd.readouterr().err


@pytest.mark.parametrize("value", ["0", "-2"])
def test_numbers_are_checked(value, capsys):
    assert ablate.main(["--last", value]) == 2
    assert "--last must be at least 1" in capsys.readouterr().err
