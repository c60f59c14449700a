"""How a process finds its place, and what several of them agree on."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from applications.epvf.train import COMMAND_LINE
from applications.settings import UserError
from applications.training.cli import _parse
from applications.training.processes import find_place
from applications.training.processes._collective import _fingerprint


_ROOT = Path(__file__).parents[3]
_SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def _place(environment: dict[str, str] | None = None, **flags: Any):
    none = dict.fromkeys(("coordinator", "num_processes", "process_id"))
    return find_place(**(none | flags), environment=environment or {})


def test_alone_unless_something_says_otherwise():
    assert _place() is None
    assert _place(coordinator="a:1", num_processes=1, process_id=0) is None
    # Each task of the step is a run of its own.
    assert _place(_SLURM, num_processes=1) is None
    assert _place(_SLURM) is not None  # control
    # A batch script, before srun: two tasks were asked for, this is none of them.
    assert _place({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}) is None
    assert _place({"SLURM_STEP_NUM_TASKS": "", "SLURM_PROCID": "0"}) is None


def test_flags():
    place = _place(_SLURM, coordinator="host:1234", num_processes=3, process_id=2)
    assert place == {
        "coordinator_address": "host:1234",
        "num_processes": 3,
        "process_id": 2,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"coordinator": "a:1"}, "comes --num-processes and --process-id:"),
        ({"process_id": 0, "num_processes": 2}, "comes --coordinator:"),
        (
            {"coordinator": "a", "num_processes": 2, "process_id": 0},
            "--coordinator must be HOST:PORT",
        ),
        (
            {"coordinator": "a:1", "num_processes": 2, "process_id": 2},
            "--process-id must be from 0 to 1",
        ),
    ],
)
def test_flags_that_say_too_little(flags, message):
    with pytest.raises(UserError, match=message):
        _place(**flags)


@pytest.mark.parametrize(
    "changes, devices",
    [
        # Alone on its node: all GPUs there.
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, [0, 1, 2, 3]),
        # One of two on it, each with GPUs of its own.
        (
            {
                "SLURM_STEP_TASKS_PER_NODE": "2",
                "SLURM_GPUS_PER_TASK": "1",
                "CUDA_VISIBLE_DEVICES": "0",
            },
            [0],
        ),
        # One of two that see the same GPUs: JAX gives it the one of its number.
        ({"SLURM_STEP_TASKS_PER_NODE": "2", "CUDA_VISIBLE_DEVICES": "0,1"}, None),
        ({}, None),
    ],
)
def test_slurm(changes, devices):
    place = _place(_SLURM | changes)
    assert place is not None
    assert place["num_processes"] == 2
    assert place["cluster_detection_method"] == "slurm"
    assert place.get("local_device_ids") == devices


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID is 'x'"),
        ({"SLURM_PROCID": "-1"}, "SLURM_PROCID is '-1'"),
        ({"SLURM_PROCID": "2"}, "SLURM_PROCID is 2, of 2 processes"),
        ({"SLURM_LOCALID": ""}, "SLURM_LOCALID is ''"),
        ({"SLURM_JOB_ID": "17_3"}, "SLURM_JOB_ID is '17_3'"),
    ],
)
def test_slurm_that_is_odd(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        _place(_SLURM | changes)
    assert "add --num-processes 1" in str(caught.value)
    assert _place(_SLURM | changes, num_processes=1) is None


def test_a_step_of_slurm_whose_number_is_none():
    # Without a number of tasks that can be read, a process is alone.
    for tasks in ("", "x", "-2", "1.5", "²"):
        assert _place(_SLURM | {"SLURM_STEP_NUM_TASKS": tasks}) is None


def test_processes_that_were_told_different_things(monkeypatch):
    settings = COMMAND_LINE.parse(["--seed", "3"])
    told = {"algorithm": "epvf", **settings.to_json()}
    for first, message in (
        ({"seed": 0}, "A process was told --seed 3, and the first one 0: "),
        ({"run_dir": "runs/0"}, "told --run-dir None, and the first one runs/0: "),
        ({"algorithm": "ars", "top": 2}, "told --algorithm epvf, and the first one "),
    ):
        monkeypatch.setattr(_parse, "broadcast", lambda _, first=first: told | first)
        with pytest.raises(UserError, match=message) as caught:
            _parse._check_alike(settings)
        assert str(caught.value).endswith("give each --num-processes 1.")
    monkeypatch.setattr(_parse, "broadcast", lambda _: dict(told))
    _parse._check_alike(settings)  # control


@pytest.mark.nightly
@pytest.mark.parametrize("alone", [False, True])
def test_srun_with_a_seed_for_each_task(tmp_path, alone):
    flags = [
        *("--num-envs", "4", "--iterations", "2", "--horizon", "8"),
        *(("--num-processes", "1") if alone else ()),
    ]
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    # The port that JAX meets at follows from the job's number.
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "127.0.0.1"}
    tasks = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "applications.epvf.train", *flags),
                *("--seed", number, "--run-dir", str(tmp_path / number)),
            ],
            cwd=_ROOT,
            env=environment
            | _SLURM
            | job
            | {"SLURM_PROCID": number, "JAX_NUM_CPU_DEVICES": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in ("0", "1")
    ]
    said = [task.communicate(timeout=200)[1] for task in tasks]
    if alone:
        assert [task.returncode for task in tasks] == [0, 0], said
        assert len(list(tmp_path.iterdir())) == 2
    else:
        assert [task.returncode for task in tasks] == [2, 2], said
        assert "told --run-dir" in said[1] and not list(tmp_path.iterdir())


def test_fingerprints_see_a_single_bit_and_the_order():
    def of(*leaves):
        return int(_fingerprint(leaves))

    x, keys = jnp.array([1.0, 2.0, -0.0]), jnp.array([7, 9], jnp.uint32)
    assert of(x, keys) == of(x + 0 * x, keys)
    assert of(x, keys) != of(jnp.array([2.0, 1.0, -0.0]), keys)
    assert of(x, keys) != of(jnp.array([1.0, 2.0, 0.0]), keys)
    assert of(x) != of(jnp.nextafter(x, x + 1))
    assert of(jnp.array([True, False])) != of(jnp.array([False, True]))


# Each line that a process prints is one thing that it found to be so.
_TOGETHER = """
import sys, jax, jax.numpy as jnp, numpy as np
from applications.epvf.train import COMMAND_LINE
from applications.settings import UserError
from applications.training.cli import _parse
from applications.training import CollectiveStop, exit_on_user_error, is_main, join
from applications.training import broadcast, broadcast_arrays, on_all, on_main
from applications.training.processes import any_process, check_same

@exit_on_user_error
def main():
    coordinator, number = sys.argv[1:]
    join(coordinator, 2, int(number), heartbeat=30)
    assert is_main() == (number == "0")
    assert broadcast({"a": 0.1} if is_main() else None) == {"a": 0.1}
    mine = jnp.array([-0.0, jnp.nan]) if is_main() else jnp.zeros(2)
    key = jax.random.key(5 if is_main() else 6)
    kept = broadcast_arrays({"x": mine, "scalar": mine[0] > 1, "key": key, "name": "n"})
    assert np.asarray(kept["x"]).tobytes() == np.array([-0.0, np.nan], "f4").tobytes()
    assert kept["scalar"].shape == () and kept["name"] == "n"
    assert kept["key"] == jax.random.key(5)
    assert any_process(not is_main()) and not any_process(False)
    assert on_main(lambda: 3) == (3 if is_main() else None)
    check_same(kept)
    for action in (
        lambda: check_same(mine),
        lambda: on_all(lambda: None if is_main() else fail("of the second one")),
    ):
        try:
            action()
        except CollectiveStop as stop:
            print("stops:", stop.message, flush=True)
    on_main(lambda: fail("of the first one"))

def fail(what):
    raise UserError(what)

sys.exit(main())
"""


def test_two_processes():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _TOGETHER, coordinator, str(number)],
            cwd=_ROOT,
            env=environment | {"JAX_NUM_CPU_DEVICES": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    first, second = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [2, 2], (first, second)
    said = [_without_gloo(output) for output, _ in (first, second)]
    assert said[0][0].startswith("stops: The devices do not hold the same state any ")
    assert said[0][1:] == ["stops: None"]
    assert said[1] == ["stops: None", "stops: of the second one"]
    assert "error: of the first one" in first[1]
    assert "error" not in second[1]


def _without_gloo(output: str) -> list[str]:
    """Lines but for those in which Gloo, in C++, reports that it is connected."""
    return [line for line in output.splitlines() if "peer ranks" not in line]
