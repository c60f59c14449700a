"""A run that is killed and resumed ends in the bits of one that never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest


_ROOT = Path(__file__).parents[3]
_ITERATIONS = 60
_FLAGS = [
    *("--num-envs", "8", "--iterations", str(_ITERATIONS), "--horizon", "50"),
    *("--archive", "4", "--num-states", "16", "--checkpoint-every", "2", "--seed", "3"),
]


def _start(*flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "applications.epvf.train", *flags],
        cwd=_ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _finish(*flags: str) -> str:
    process = _start(*flags)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def _learning_curve(directory: Path) -> list[dict]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    clocks = ("steps_per_second", "compile_seconds", "seconds")
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows]


@pytest.fixture(scope="module")
def assert_same_run(assert_same_bits) -> Callable[[Path, Path], None]:
    """Fails unless two runs left the same: checkpoint, policy and metrics."""

    def check(ours: Path, theirs: Path) -> None:
        assert_same_bits(ours, theirs)
        policies = [run / "policy.eqx" for run in (ours, theirs)]
        assert policies[0].read_bytes() == policies[1].read_bytes()
        assert _learning_curve(ours) == _learning_curve(theirs)

    return check


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "uninterrupted"
    _finish("--run-dir", str(directory), *_FLAGS)
    return directory


def _wait_for_a_row(process: subprocess.Popen, run: Path) -> None:
    """Returns when a process trains: its first row is written after compilation.

    Before that, a process that resumes cuts the rows after its checkpoint off.
    """
    metrics = run / "metrics.jsonl"
    least = None
    while process.poll() is None:
        size = metrics.stat().st_size if metrics.exists() else None
        if size is not None and least is not None and size > least:
            return
        least = size if least is None or size is None else min(least, size)
        time.sleep(0.002)


def _kill_at_random(process: subprocess.Popen, run: Path, pause: float) -> None:
    """SIGKILL some time after a new row, so that there is something to lose."""
    _wait_for_a_row(process, run)
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"done before the kill:\n{output}"


def test_killed_and_resumed(tmp_path, uninterrupted, assert_same_run):
    run = tmp_path / "killed"
    _kill_at_random(_start("--run-dir", str(run), *_FLAGS), run, 0.1)
    newest = max((run / "checkpoints").glob("*.ckpt"), default=None)
    assert newest is None or int(newest.stem) < _ITERATIONS
    _finish("--resume", str(run))
    assert_same_run(run, uninterrupted)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments(tmp_path, uninterrupted, assert_same_run, seed):
    moments = random.Random(seed)
    run = tmp_path / "killed"
    _kill_at_random(
        _start("--run-dir", str(run), *_FLAGS), run, moments.uniform(0, 0.3)
    )
    for _ in range(2):
        _kill_at_random(_start("--resume", str(run)), run, moments.uniform(0, 0.2))
    _finish("--resume", str(run))
    assert_same_run(run, uninterrupted)


@pytest.mark.nightly
def test_the_comparison_can_fail(tmp_path, uninterrupted, assert_same_run):
    run = tmp_path / "other-seed"
    _finish("--run-dir", str(run), *_FLAGS, "--seed", "4")
    with pytest.raises(AssertionError):
        assert_same_run(run, uninterrupted)


@pytest.mark.nightly
def test_killed_before_the_first_iteration(tmp_path, uninterrupted, assert_same_run):
    run = tmp_path / "killed"
    process = _start("--run-dir", str(run), *_FLAGS)
    while not run.exists() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.communicate(timeout=60)
    assert not list((run / "checkpoints").iterdir())
    _finish("--resume", str(run))
    assert_same_run(run, uninterrupted)


@pytest.mark.nightly
def test_newest_checkpoint_truncated(tmp_path, uninterrupted, assert_same_run):
    run = tmp_path / "truncated"
    _kill_at_random(_start("--run-dir", str(run), *_FLAGS), run, 0.3)
    checkpoints = sorted((run / "checkpoints").glob("*.ckpt"))
    assert checkpoints, "killed before the first checkpoint"
    os.truncate(checkpoints[-1], checkpoints[-1].stat().st_size // 2)
    output = _finish("--resume", str(run))
    before = int(checkpoints[-2].stem) if len(checkpoints) > 1 else 0
    instead = f"the one of iteration {before}" if before else "the start of the run"
    assert f"{checkpoints[-1]} is damaged; taking {instead}." in output
    assert f"after iteration {before}." in output
    assert_same_run(run, uninterrupted)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "number",
    [
        *(signal.SIGINT, signal.SIGTERM),
        *(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    ],
)
def test_interrupted_by_the_user(tmp_path, uninterrupted, assert_same_run, number):
    run = tmp_path / "interrupted"
    process = _start("--run-dir", str(run), *_FLAGS)
    _wait_for_a_row(process, run)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert f"--resume {run}" in output
    newest = max((run / "checkpoints").glob("*.ckpt"))
    assert 0 < int(newest.stem) < _ITERATIONS
    assert f"Stopped after iteration {int(newest.stem)}." in output
    _finish("--resume", str(run))
    assert_same_run(run, uninterrupted)


@pytest.mark.nightly
def test_a_second_process_on_the_same_run(tmp_path, uninterrupted, assert_same_run):
    run = tmp_path / "run"
    process = _start("--run-dir", str(run), *_FLAGS)
    _wait_for_a_row(process, run)
    process.send_signal(signal.SIGSTOP)
    other = _start("--resume", str(run))
    output, _ = other.communicate(timeout=60)
    process.send_signal(signal.SIGCONT)
    assert other.returncode == 2, output
    assert f"{run} is being trained by another process." in output
    process.communicate(timeout=120)
    assert_same_run(run, uninterrupted)
