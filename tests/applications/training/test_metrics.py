"""The rows of a run, as JSON and as TensorBoard reads them, and its manifest."""

import json
import os
import struct
import sys
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

from applications.settings import UserError
from applications.training import (
    Manifest,
    MetricsLog,
    plot_returns,
    read_rows,
    Run,
    TensorBoard,
)
from applications.training.plots._learning_curve import _columns


def _row(iteration: int, value: float = 0.5) -> dict:
    return {"iteration": iteration, "env_steps": 10 * iteration, "value": value}


def _events(directory: Path) -> list:
    """Records of the event files: length, its checksum, the bytes, their checksum."""
    events = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(getattr(event_pb2, "Event")())  # noqa: B009
            events[-1].ParseFromString(content[12 : 12 + length])
            content = content[16 + length :]
    return events


def _write(directory: Path, iteration: int, *rows: dict, **mark) -> tuple[int, str]:
    """Writes rows after so many iterations; gives what a checkpoint keeps of them."""
    log = MetricsLog(directory, iteration, **mark)
    with log, TensorBoard(directory, 10 * iteration) as board:
        for row in rows:
            board.write(log.write(row))
        return log.sync()


def _mark(size: int, sha256: str) -> dict:
    return {"size": size, "sha256": sha256}


def test_rows_and_events(tmp_path):
    _write(tmp_path, 0, _row(1), _row(2, 0.25))
    assert read_rows(tmp_path / "metrics.jsonl") == [_row(1), _row(2, 0.25)]
    values = [
        (event.step, value.tag, value.simple_value)
        for event in _events(tmp_path)
        for value in event.summary.value
    ]
    assert values == [
        *((10, "iteration", 1), (10, "value", 0.5)),
        *((20, "iteration", 2), (20, "value", 0.25)),
    ]


def test_settings_are_hyperparameters(tmp_path):
    settings = {"lr": 0.5, "env": "lqr", "hidden": [8, 4], "goal": None, "clip": True}
    with TensorBoard(tmp_path, 0, settings=settings) as board:
        board.write(_row(1))
    values = [value for event in _events(tmp_path) for value in event.summary.value]
    experiment, session, *_ = values
    assert [value.tag for value in (experiment, session)] == [
        "_hparams_/experiment",
        "_hparams_/session_start_info",
    ]
    content = plugin_hparams_pb2.HParamsPluginData()  # pyright: ignore
    content.ParseFromString(session.metadata.plugin_data.content)
    read = content.session_start_info.hparams
    assert {name: read[name].WhichOneof("kind") for name in read} == {
        "lr": "number_value",
        "env": "string_value",
        "hidden": "string_value",
        "clip": "bool_value",
    }
    assert read["lr"].number_value == 0.5 and read["hidden"].string_value == "8 4"
    content.ParseFromString(experiment.metadata.plugin_data.content)
    (metric,) = content.experiment.metric_infos
    assert metric.name.tag == "return_policy"


def test_every_line_is_strict_json(tmp_path):
    _write(tmp_path, 0, _row(1, float("nan")), _row(2, float("-inf")))

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=refuse)["value"] is None
    values = [value for event in _events(tmp_path) for value in event.summary.value]
    assert {value.tag for value in values} == {"iteration"}


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    mark = _mark(*_write(tmp_path, 0, _row(1), _row(2)))
    _write(tmp_path, 2, _row(3), _row(4), **mark)
    with path.open("a") as file:
        file.write('{"iteration": 5, "val')
    assert len(read_rows(path)) == 4
    log = MetricsLog(tmp_path, 2, **mark)
    assert log.note is None and read_rows(path) == [_row(1), _row(2)]
    log.__exit__(None)
    _write(tmp_path, 2, _row(3, 9.0), **mark)
    assert read_rows(path) == [_row(1), _row(2), _row(3, 9.0)]
    assert sorted(path.name for path in tmp_path.glob("m*")) == ["metrics.jsonl"]
    # TensorBoard is told that the later processes start over after 20 steps.
    starts = [event.step for event in _events(tmp_path) if event.session_log.status]
    assert starts == [1, 21, 21]


def test_a_checkpoint_from_before_there_were_checksums(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(tmp_path, 0, *map(_row, (1, 2, 3)))
    with MetricsLog(tmp_path, 2) as log:
        assert log.note is None and read_rows(path) == [_row(1), _row(2)]
    assert sorted(path.name for path in tmp_path.glob("m*")) == ["metrics.jsonl"]


_LINES = [json.dumps(_row(i)).encode() + b"\n" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        # Undecodable, no rows, rows of no number, altered, fewer, in disorder, none.
        (b"\xff\n" + _LINES[1] + _LINES[2], [2, 3]),
        (_LINES[0] + b"[[2]]\n" + b'{"iteration": "3"}\n', [1]),
        (b"".join(_LINES).replace(b"0.5", b"NaN", 1), [2, 3]),
        (b"".join(_LINES).replace(b"0.5", b"0.7", 1), [1, 2, 3]),
        (_LINES[0] + _LINES[1], [1, 2]),
        (_LINES[0] + _LINES[2][:-1], [1]),
        (_LINES[1] + _LINES[0] + _LINES[2], [2, 3]),
        (b"", []),
    ],
)
def test_rows_that_someone_edited(tmp_path, content, kept):
    path = tmp_path / "metrics.jsonl"
    mark = _mark(*_write(tmp_path, 0, *map(_row, (1, 2, 3))))
    assert path.read_bytes() == b"".join(_LINES)
    path.write_bytes(content)
    log = MetricsLog(tmp_path, 3, **mark)
    assert log.note is not None and len(log.note.splitlines()) == 1
    assert f"{len(kept)} of 3 rows can be read and stay" in log.note
    with log:
        log.write(_row(4))
    assert [row["iteration"] for row in read_rows(path)] == [*kept, 4]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == content


def test_rows_that_are_gone(tmp_path):
    mark = _mark(*_write(tmp_path, 0, _row(1), _row(2)))
    (tmp_path / "metrics.jsonl").unlink()
    log = MetricsLog(tmp_path, 2, **mark)
    assert log.note is not None
    assert "was missing: the rows of iterations 1 to 2 are lost" in log.note
    with log:
        log.write(_row(3))
    assert read_rows(tmp_path / "metrics.jsonl") == [_row(3)]


def test_what_is_said_once_is_put_right(tmp_path):
    mark = _mark(*_write(tmp_path, 0, _row(1), _row(2)))
    (tmp_path / "metrics.jsonl").write_bytes(_LINES[1])
    with MetricsLog(tmp_path, 2, **mark) as log:
        assert log.note is not None
        mark = _mark(*log.sync())
    with MetricsLog(tmp_path, 2, **mark) as log:
        assert log.note is None


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b"\xff\n", 1),
        (b"{}\n", 1),
        (b'{"iteration": "1"}\n', 1),
        (b'{"iteration": 1}\n[[2]]\n', 2),
        (b'{"iteration": 2}\n{"iteration": 2}\n', 2),
        (b'{"iteration": 1, "value": NaN}\n', 1),
    ],
)
def test_readers_refuse_what_is_no_row(tmp_path, content, number):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=f"Line {number} of"):
        read_rows(tmp_path / "metrics.jsonl")


def test_rows_are_not_kept_in_memory_nor_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    row = {"iteration": 0, "env_steps": 0} | {f"name{i}": float(i) for i in range(20)}
    with MetricsLog(tmp_path, 0) as log, TensorBoard(tmp_path, 0) as board:
        log.write(row)
        board.write(row)
        synced.clear()
        tracemalloc.start()
        for i in range(1, 501):
            row["iteration"] = row["env_steps"] = i
            board.write(log.write(row))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert synced == []
        log.sync()
    assert len(synced) == 1
    # A row of 20 numbers takes over a kilobyte as a dictionary.
    assert held < 50_000


def test_plot_of_rows_with_gaps(tmp_path):
    names = ("return_perturbed_max", "return_perturbed_mean", "return_policy")
    rows = [
        {"env_steps": 10 * i} | dict.fromkeys(names, None if i == 2 else float(i))
        for i in range(4)
    ]
    plot_returns(rows, tmp_path / "return.png", title="a run")
    assert (tmp_path / "return.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("values", [[None] * 3, [3e38, -3e38, 1e300], [10**400, 1, 2]])
def test_plot_of_what_cannot_be_drawn(tmp_path, values):
    rows = [{"env_steps": i, "return_policy": x} for i, x in enumerate(values)]
    plot_returns(rows, tmp_path / "return.png", title="a run")
    assert (tmp_path / "return.png").exists()


def test_plot_of_many_rows_and_of_none(tmp_path):
    steps, values, last = _columns(
        ({"iteration": i, "x": 2 * i} for i in range(100_001)), "iteration", "x"
    )
    assert len(steps) == len(values) <= 4000
    assert steps[-1] == 100_000 and values[-1] == 200_000 and last["x"] == 200_000
    assert np.ptp(np.diff(steps)) == 0
    plot_returns([], tmp_path / "return.png", title="a run")
    assert not (tmp_path / "return.png").exists()


def test_run_directory_appears_whole(tmp_path):
    manifest = Manifest("toy", {"seed": 1}, {"python": "3"})
    run = Run.create(tmp_path / "deep" / "run", manifest)
    assert run.manifest == manifest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]
    with pytest.raises(UserError, match="exists"):
        Run.create(tmp_path / "deep" / "run", Manifest("toy", {"seed": 2}))
    assert Run(tmp_path / "deep" / "run").manifest == manifest
    run.update_settings(seed=3)
    assert Run(run.directory).manifest == Manifest("toy", {"seed": 3}, {"python": "3"})


def test_run_directory_that_is_a_dangling_link(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="exists"):
        Run.create(tmp_path / "run", Manifest("toy", {}))


def test_manifest_names_the_software():
    software = Manifest("toy", {}).software
    assert software["jax"] == jax.__version__
    assert software["python"].split(".") == [str(n) for n in sys.version_info[:3]]
    assert {"jaxlib", "wsl", "mujoco"} <= software.keys()
    if "commit" in software:
        commit, *dirty = software["commit"].split(" ")
        assert len(commit) == 40 and dirty in ([], ["dirty"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        (10_000 * "[", "is not JSON"),
        ("[]", "does not say 'wsl-run 1'"),
        ('{"env": "cartpole", "seed": 0}', "does not say 'wsl-run 1'"),
        ('{"format": "wsl-run 2"}', "does not say 'wsl-run 1'"),
        ('{"format": "wsl-run 1", "algorithm": 3}', "it has no valid 'algorithm'"),
    ],
)
def test_manifest_that_is_none(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Run(tmp_path)
