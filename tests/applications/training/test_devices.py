"""A run does not depend on how many devices it is on, nor on losing some of them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


pytestmark = [
    # Each test starts Python several times.
    pytest.mark.nightly,
    # With one thread XLA takes sums in another order than with several.
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core alone"),
]

_ROOT = Path(__file__).parents[3]
# An odd population, which no number of devices divides.
_FLAGS = [
    *("--num-envs", "13", "--iterations", "60", "--horizon", "40", "--normalise"),
    *("--checkpoint-every", "5", "--critic-width", "32", "--eval-episodes", "2"),
]
_NATIVE = [
    *("--env", "inverted_pendulum", "--physics", "mujoco", "--chunk", "5"),
    *("--iterations", "4"),
]
_TIMEOUT = 240


_ARS = [
    *("--algorithm", "ars", "--env", "lqr", "--num-envs", "14", "--top", "5"),
    *("--hidden", "4", "--normalise", "--eval-episodes", "1", "--steps", "7000"),
]
_GOGEPO = [
    *("--env", "lqr", "--num-envs", "13", "--iterations", "3", "--hidden", "4"),
    *("--generator-width", "16", "--generator-depth", "1", "--generator-updates", "2"),
    *("--critic-width", "16", "--critic-updates", "2", "--num-probes", "4"),
    *("--batch-size", "8", "--archive", "4", "--eval-episodes", "2"),
]


def _start(devices: int, *flags: str, trainer: str = "epvf") -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    return subprocess.Popen(
        [sys.executable, "-m", f"applications.{trainer}.train", *flags],
        cwd=_ROOT,
        env=environment | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def _two_processes(devices: int, *flags: str) -> Iterator[list[subprocess.Popen]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    together = ["--coordinator", coordinator, "--num-processes", "2"]
    processes = [
        _start(devices, *flags, *together, "--process-id", str(number))
        for number in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _outputs(*processes: subprocess.Popen) -> list[str]:
    """What they print, without the lines in which Gloo says that it is connected.

    Threads print them, into each other.
    """
    outputs = [process.communicate(timeout=_TIMEOUT)[0] for process in processes]
    return [
        "".join(
            line
            for line in text.splitlines(keepends=True)
            if "[Gloo]" not in line
            and "peer ranks" not in line
            # Of such a line, the number at its end.
            and not line.strip().isdigit()
        ).lstrip("\n")
        for text in outputs
    ]


def _finish(devices: int, *flags: str, trainer: str = "epvf") -> None:
    process = _start(devices, *flags, trainer=trainer)
    (output,) = _outputs(process)
    assert process.returncode == 0, output


def _wait_for_a_checkpoint(run: Path, *processes: subprocess.Popen) -> None:
    while not list(run.glob("checkpoints/*.ckpt")):
        for process in processes:
            assert process.poll() is None, _outputs(*processes)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def on_one(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    _finish(1, "--run-dir", str(run), *_FLAGS)
    return run


def test_four_devices_of_one_process(tmp_path, on_one, assert_same_bits):
    _finish(4, "--run-dir", str(tmp_path / "four"), *_FLAGS)
    assert_same_bits(tmp_path / "four", on_one)


def test_two_devices_of_two_processes(tmp_path, on_one, assert_same_bits):
    run = tmp_path / "two"
    with _two_processes(2, "--run-dir", str(run), *_FLAGS) as processes:
        first, second = _outputs(*processes)
        assert [p.returncode for p in processes] == [0, 0], (first, second)
    assert_same_bits(run, on_one)
    assert "on 4 cpu devices of 2 processes" in first
    assert f"Run directory: {run}" in first
    assert second == ""

    # The same directory again: one complaint, and both end.
    with _two_processes(1, "--run-dir", str(run), *_FLAGS) as processes:
        first, second = _outputs(*processes)
        assert [p.returncode for p in processes] == [2, 2], (first, second)
    assert first.startswith(f"error: {run} exists.") and len(first.splitlines()) == 1
    assert second == ""


def test_the_comparison_can_fail(tmp_path, on_one, assert_same_bits):
    earlier = tmp_path / "earlier"
    shutil.copytree(on_one, earlier)
    max((earlier / "checkpoints").glob("*.ckpt")).unlink()
    with pytest.raises(AssertionError):
        assert_same_bits(earlier, on_one)


def test_ars_on_four_devices(tmp_path, assert_same_bits):
    pytest.importorskip("evosax")
    for devices in (1, 4):
        run = ["--run-dir", str(tmp_path / str(devices))]
        _finish(devices, *run, *_ARS, trainer="baselines")
    assert_same_bits(tmp_path / "4", tmp_path / "1")


def test_gogepo_on_four_devices(tmp_path, assert_same_bits):
    for devices in (1, 4):
        run = ["--run-dir", str(tmp_path / str(devices))]
        _finish(devices, *run, *_GOGEPO, trainer="gogepo")
    assert_same_bits(tmp_path / "4", tmp_path / "1")


def test_two_processes_on_the_c_engine(tmp_path, assert_same_bits):
    # Blocks of five policies, wherever they run.
    _finish(1, "--run-dir", str(tmp_path / "one"), *_FLAGS, *_NATIVE)
    run = ["--run-dir", str(tmp_path / "two")]
    with _two_processes(1, *run, *_FLAGS, *_NATIVE) as processes:
        outputs = _outputs(*processes)
        assert [p.returncode for p in processes] == [0, 0], outputs
    assert_same_bits(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_process_ends_the_other_and_the_run_goes_on(
    tmp_path, on_one, assert_same_bits, number
):
    run = tmp_path / "lost"
    flags = [*_FLAGS, "--heartbeat", "10", "--run-dir", str(run)]
    with _two_processes(1, *flags) as (first, second):
        _wait_for_a_checkpoint(run, first, second)
        second.send_signal(number)
        began = time.monotonic()
        (output,) = _outputs(first)
        assert time.monotonic() - began < 60
        assert first.returncode == 3, output
    last = output.splitlines()[-1]
    assert last.startswith("error: Another process of this run")
    assert f"--resume {run}" in last
    if number == signal.SIGSTOP:
        return
    _finish(1, "--resume", str(run))
    assert_same_bits(run, on_one)


def test_one_interrupted_process_stops_all(tmp_path, on_one, assert_same_bits):
    run = tmp_path / "interrupted"
    with _two_processes(1, "--run-dir", str(run), *_FLAGS) as processes:
        _wait_for_a_checkpoint(run, *processes)
        processes[1].send_signal(signal.SIGTERM)
        outputs = _outputs(*processes)
        assert [p.returncode for p in processes] == [0, 0], outputs
    assert f"--resume {run}" in outputs[0]
    # Goes on with more devices than it began with.
    _finish(4, "--resume", str(run))
    assert_same_bits(run, on_one)
