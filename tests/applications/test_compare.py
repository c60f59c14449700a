"""Comparing runs: statistics by hand, groups by settings, and what is written."""

import json

import numpy as np
import pytest

from applications.compare import main
from applications.training import bootstrap_interval, interquartile_mean, Manifest, Run


def _run(directory, settings, returns, algorithm="epvf"):
    shared = {"env": "toy", "seed": 0, "lr": 1.0}
    run = Run.create(directory, Manifest(algorithm, shared | settings, {}))
    rows = [
        {"iteration": i + 1, "env_steps": 10 * (i + 1), "seconds": 0.5 * (i + 1)}
        | {"return_policy": value}
        for i, value in enumerate(returns)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run.directory / "metrics.jsonl").write_text(text)
    return run.directory


def test_interquartile_mean_by_hand():
    # Of eight the two lowest and the two highest are left out.
    values = np.array([0.0, -99.0, 1.0, 2.0, 3.0, 4.0, 99.0, 98.0])
    assert interquartile_mean(values) == 2.5
    # Of five one at each end, of three none.
    assert interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0, -7.0])) == 2.0
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0
    # Over runs, point by point.
    both = np.stack([values, 2 * values], axis=1)
    np.testing.assert_array_equal(interquartile_mean(both), [2.5, 5.0])


def test_interval_agrees_with_resampling_by_hand():
    values = np.random.default_rng(0).normal(size=20)
    low, high = bootstrap_interval(values)
    random = np.random.default_rng(1)
    means = [
        np.sort(random.choice(values, len(values)))[5:15].mean() for _ in range(5000)
    ]
    theirs = np.percentile(means, [2.5, 97.5])
    np.testing.assert_allclose([low, high], theirs, atol=0.06)
    # Control: more spread, a wider interval.
    wide = bootstrap_interval(3 * values)
    assert wide[1] - wide[0] > 2 * (high - low)
    # Runs that agree leave no doubt; nor does one alone, which there is no other of.
    assert bootstrap_interval(np.ones(5)) == (1.0, 1.0)
    assert bootstrap_interval(np.array([3.0])) == (3.0, 3.0)
    # Over runs, point by point.
    both = np.stack([values, 2 * values], axis=1)
    lows, highs = bootstrap_interval(both)
    np.testing.assert_allclose([lows[0], highs[0]], [low, high])
    np.testing.assert_allclose([lows[1], highs[1]], [2 * low, 2 * high])


def test_groups_and_table(tmp_path, capsys):
    runs = [
        _run(tmp_path / "a", {"lr": 1.0}, [0, 2, 4]),
        _run(tmp_path / "b", {"lr": 1.0, "seed": 1}, [0, 4, 8]),
        _run(tmp_path / "c", {"lr": 2.0}, [1, None, 1]),
    ]
    out = tmp_path / "pictures" / "all.png"
    code = main([*map(str, runs), "--out", str(out), "--last", "2"])
    assert code == 0 and out.is_file()
    found = json.loads(out.with_suffix(".json").read_text())["groups"]
    assert [group["runs"] for group in found] == ["lr 1.0", "lr 2.0"]
    assert [group["seeds"] for group in found] == [2, 1]
    assert found[0]["final"] == [3.0, 6.0]
    assert found[0]["middle"] == 4.5
    assert found[0]["interval"] == [3.0, 6.0]
    assert found[1]["final"] == [1.0] and found[1]["env_steps"] == 30
    # One seed has no interval.
    assert found[1]["interval"] is None and "low" not in found[1]["curves"]["steps"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == "lr 1.0 2 4.5 3.0 to 6.0 30 2".split()
    assert lines[2].split() == "lr 2.0 1 1.0 - 30 2".split()


def test_mean_labels_and_what_is_drawn_again(tmp_path, capsys):
    returns = [[0, 1], [0, 2], [0, 3], [0, 90]]
    runs = [
        _run(tmp_path / str(i), {"seed": i}, values) for i, values in enumerate(returns)
    ]
    out = tmp_path / "a.png"
    flags = ["--out", str(out), "--last", "1", "--middle", "mean", "--labels", "mine"]
    assert main([*map(str, runs), *flags]) == 0
    kept = json.loads(out.with_suffix(".json").read_text())
    (group,) = kept["groups"]
    assert group["runs"] == "mine" and group["middle"] == 24
    assert kept["title"] == "toy"
    # By the interquartile mean, one of four counts for nothing.
    assert main([*map(str, runs), "--out", str(out), "--last", "1"]) == 0
    kept = json.loads(out.with_suffix(".json").read_text())
    assert kept["groups"][0]["middle"] == 2.5
    again = tmp_path / "b.svg"
    flags = ["--out", str(again), "--labels", "yours", "--panels", "steps"]
    assert main([str(out.with_suffix(".json")), *flags, "--title", "Toys"]) == 0
    assert b"<svg" in again.read_bytes()
    capsys.readouterr()
    assert main([*map(str, runs), "--labels", "a", "b"]) == 2
    assert "--labels must be 1 different names" in capsys.readouterr().err
    for text in ("\udcff", "$\\frac{$"):
        assert main([*map(str, runs), "--title", text]) == 2
        assert "cannot be drawn" in capsys.readouterr().err
    (tmp_path / "c.json").write_text("{}")
    assert main([str(tmp_path / "c.json")]) == 2
    assert "c.json is not from this command" in capsys.readouterr().err


def _groups(tmp_path, *runs):
    directories = [
        _run(tmp_path / str(i), settings, [i], algorithm)
        for i, (algorithm, settings) in enumerate(runs)
    ]
    out = tmp_path / "all.svg"
    assert main([*map(str, directories), "--out", str(out)]) == 0
    assert b"<svg" in out.read_bytes()
    found = json.loads(out.with_suffix(".json").read_text())["groups"]
    return [group["runs"] for group in found]


def test_names_of_runs_of_several_algorithms(tmp_path):
    names = _groups(
        tmp_path,
        ("epvf", {"critic_lr": 0.1}),
        # Other rates are no other task.
        ("ars", {"lr": 7.0, "top": 4}),
        ("ars", {"lr": 7.0, "top": 8}),
        ("gogepo", {"critic_lr": 0.2, "env": "other"}),
    )
    assert names == [
        "epvf, env toy",
        "ars, env toy, top 4",
        "ars, env toy, top 8",
        "gogepo, env other",
    ]


def test_names_of_presets(tmp_path):
    """What comes with a preset is not named again."""
    names = _groups(
        tmp_path,
        ("gogepo", {"preset": "vectorised", "lr": 1.0}),
        ("gogepo", {"preset": "sequential", "lr": 2.0, "width": 3}),
        ("gogepo", {"preset": "sequential", "lr": 2.0, "width": 4}),
    )
    assert names == [
        "preset vectorised",
        "preset sequential, width 3",
        "preset sequential, width 4",
    ]


def test_the_suffix_says_what_picture(tmp_path, capsys):
    run = _run(tmp_path / "a", {}, [1.0])
    for name, start in (("x.png", b"\x89PNG"), ("x.pdf", b"%PDF")):
        assert main([str(run), "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(start)
    capsys.readouterr()
    for name in ("x.jpg", "x"):
        assert main([str(run), "--out", str(tmp_path / name)]) == 2
        assert "must end in .png, .pdf, .svg" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("return_polcy", "has no return_polcy. Its columns: env_steps, seconds"),
        ("empty", "is never a number"),
    ],
)
def test_what_cannot_be_compared(tmp_path, capsys, metric, said):
    run = _run(tmp_path / "a", {}, [1.0])
    rows = json.loads((run / "metrics.jsonl").read_text()) | {"empty": None}
    (run / "metrics.jsonl").write_text(json.dumps(rows) + "\n")
    assert main([str(run), "--metric", metric]) == 2
    assert said in capsys.readouterr().err
    assert main([]) == 2
    assert "Give the directory" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    (run / "metrics.jsonl").write_text('{"iteration": 1, "return_policy": 1.0}\n')
    assert main([str(run)]) == 2
    assert "has no env_steps" in capsys.readouterr().err


def test_runs_and_places_that_cannot_be_used(tmp_path, capsys):
    run = _run(tmp_path / "run", {}, [1.0, 2.0])
    link = tmp_path / "link"
    link.symlink_to(run)
    assert main([str(run), str(link)]) == 2
    assert f"A run counts once; the same one is {run} and {link}." in _error(capsys)
    (tmp_path / "x.png").mkdir()
    assert main([str(run), "--out", str(tmp_path / "x.png")]) == 2
    assert "is a directory; name a file" in _error(capsys)
    # Whole numbers of JSON know no bounds; what is no number is left out.
    rows = '{"iteration": 3, "env_steps": 1, "seconds": 1, "return_policy": %s}\n'
    with (run / "metrics.jsonl").open("a") as file:
        file.write(rows % ("9" * 400))
    assert main([str(run), "--out", str(tmp_path / "y.png")]) == 0
    (run / "metrics.jsonl").write_bytes(b"\xff\n")
    assert main([str(run), "--out", str(tmp_path / "y.png")]) == 2
    assert "Line 1 of" in _error(capsys)


def _error(capsys) -> str:
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error
