"""The rows of a run, as JSON and as TensorBoard reads them."""

import json
import struct
from pathlib import Path

import pytest
from tensorboardX.proto import event_pb2

from applications.settings import UserError
from applications.training import MetricsLog, plot_returns, read_rows, Run


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


def test_rows_and_events(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        log.append(_row(1))
        log.append(_row(2, 0.25))
    assert read_rows(tmp_path / "metrics.jsonl") == [_row(1), _row(2, 0.25)]
    values = [
        (event.step, value.tag, value.simple_value)
        for event in _events(tmp_path)
        for value in event.summary.value
    ]
    assert values == [(1, "value", 0.5), (2, "value", 0.25)]


def test_every_line_is_strict_json(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        log.append(_row(1, float("nan")))
        log.append(_row(2, float("-inf")))

    def refuse(constant):
        raise AssertionError(constant)

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line, parse_constant=refuse)["value"] is None
    assert not [value for event in _events(tmp_path) for value in event.summary.value]


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        for iteration in (1, 2, 3, 4):
            log.append(_row(iteration))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 5, "val')
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 4
    with MetricsLog(tmp_path, 2) as log:
        assert log.rows == [_row(1), _row(2)]
        log.append(_row(3, 9.0))
    assert read_rows(tmp_path / "metrics.jsonl") == [_row(1), _row(2), _row(3, 9.0)]
    # TensorBoard is told that the later process starts over at iteration 3.
    starts = [event.step for event in _events(tmp_path) if event.session_log.status]
    assert starts == [1, 3]


def test_plot_of_rows_with_gaps(tmp_path):
    names = ("return_perturbed_max", "return_perturbed_mean", "return_policy")
    rows = [
        {"env_steps": 10 * i} | dict.fromkeys(names, None if i == 2 else float(i))
        for i in range(4)
    ]
    plot_returns(rows, tmp_path / "return.png", title="a run")
    assert (tmp_path / "return.png").read_bytes().startswith(b"\x89PNG")


def test_run_directory_appears_whole(tmp_path):
    run = Run.create(tmp_path / "deep" / "run", {"seed": 1})
    assert run.config == {"seed": 1}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run"]
    with pytest.raises(UserError, match="exists"):
        Run.create(tmp_path / "deep" / "run", {"seed": 2})
    assert Run(tmp_path / "deep" / "run").config == {"seed": 1}


def test_run_directory_that_is_a_dangling_link(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="exists"):
        Run.create(tmp_path / "run", {})


def test_config_that_is_not_json(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        Run(tmp_path)
