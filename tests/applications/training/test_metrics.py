"""The rows of a run, as JSON and as TensorBoard reads them, and its manifest."""

import json
import struct
import sys
from pathlib import Path

import jax
import pytest
from tensorboardX.proto import event_pb2

from applications.settings import UserError
from applications.training import (
    Manifest,
    MetricsLog,
    plot_returns,
    read_rows,
    Run,
    TensorBoard,
    write_json,
)


def _row(iteration: int, value: float = 0.5) -> dict:
    return {"iteration": iteration, "value": value}


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


def _write(directory: Path, iteration: int, *rows: dict) -> list[dict]:
    """Writes rows after so many iterations; gives what there was before."""
    log = MetricsLog(directory, iteration)
    before = list(log.rows)
    with log, TensorBoard(directory, iteration) as board:
        for row in rows:
            log.write(row)
            board.write(log.rows[-1])
    return before


def test_rows_and_events(tmp_path):
    _write(tmp_path, 0, _row(1), _row(2, 0.25))
    assert read_rows(tmp_path / "metrics.jsonl") == [_row(1), _row(2, 0.25)]
    values = [
        (event.step, value.tag, value.simple_value)
        for event in _events(tmp_path)
        for value in event.summary.value
    ]
    assert values == [(1, "value", 0.5), (2, "value", 0.25)]


def test_every_line_is_strict_json(tmp_path):
    _write(tmp_path, 0, _row(1, float("nan")), _row(2, float("-inf")))

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=refuse)["value"] is None
    assert not [value for event in _events(tmp_path) for value in event.summary.value]


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    _write(tmp_path, 0, *map(_row, (1, 2, 3, 4)))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 5, "val')
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 4
    assert _write(tmp_path, 2, _row(3, 9.0)) == [_row(1), _row(2)]
    assert read_rows(tmp_path / "metrics.jsonl") == [_row(1), _row(2), _row(3, 9.0)]
    # TensorBoard is told that the later process starts over at iteration 3.
    starts = [event.step for event in _events(tmp_path) if event.session_log.status]
    assert starts == [1, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\n", "is not text"),
        (b"{}\n", "Line 1 of"),
        (b'{"iteration": "1"}\n', "Line 1 of"),
        (b'{"iteration": 1}\n[[2]]\n', "Line 2 of"),
        # Each line may be right, and one be missing.
        (
            b'{"iteration": 1}\n',
            "has 1 rows, and the run's checkpoint is of",
        ),
        (
            b'{"iteration": 2}\n',
            "has 1 rows, and the run's checkpoint is of",
        ),
        (b"", "has 0 rows, and the run's checkpoint is of iteration 2"),
    ],
)
def test_rows_that_someone_edited(tmp_path, content, message):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        MetricsLog(tmp_path, 2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_plot_of_rows_with_gaps(tmp_path):
    names = ("return_perturbed_max", "return_perturbed_mean", "return_policy")
    rows = [
        {"env_steps": 10 * i} | dict.fromkeys(names, None if i == 2 else float(i))
        for i in range(4)
    ]
    plot_returns(rows, tmp_path / "return.png", title="a run")
    assert (tmp_path / "return.png").read_bytes().startswith(b"\x89PNG")


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


def test_a_link_in_place_of_a_temporary_file_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".file.tmp").symlink_to(victim)
    write_json(tmp_path / "file", 1)
    assert victim.read_text() == "precious"
    assert (tmp_path / "file").read_text() == "1\n"
