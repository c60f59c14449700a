"""What an iteration costs on one device, what it sends, and a projection to many.

A device is here one core of a CPU, or one process with all of them. Measured: control
steps a second of training in one process and in two, on one core each; the time of the
learning, which every device repeats; the bytes that the devices gather, counted in the
compiled program and from the shapes; and the time of one gather between two processes
of this machine. The table for more devices is computed from these.

    python benchmarks/devices.py
"""

import argparse
import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _common import ROOT, write
from _style import in_style, panels
from matplotlib.figure import Figure

from applications.envs import make
from applications.envs.native import NativeTask
from applications.epvf.algorithm import EPVF
from applications.epvf.config import Config
from applications.rollout._devices import gather_parts, mesh_of, on_all_devices
from applications.rollout.episode import empty_episodes
from applications.rollout.native import NativeRollout


_ENV = "ant"
_HIDDEN = (64, 64)
_HORIZON = 100
_TRAIN = [
    *("--env", _ENV, "--physics", "mujoco", "--hidden", *map(str, _HIDDEN)),
    *("--num-envs", "256", "--horizon", str(_HORIZON), "--iterations", "6"),
]
_LEARN_AT = (256, 512)
_GATHER_AT = (4_096, 32_768)
_REPEATS = 20
# Of the projection: episodes of this length, networks of this many bits a second.
_FULL_HORIZON = 1_000
_POPULATIONS = (4_096, 32_768, 262_144)
_DEVICES = (1, 8, 64)
_NETWORKS = {"10 Gbit/s": 10e9, "100 Gbit/s": 100e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=("gather", "hlo"))
    parser.add_argument("--place", nargs=2, metavar=("COORDINATOR", "ID"))
    arguments = parser.parse_args()
    if arguments.worker == "hlo":
        print(json.dumps(_bytes_in_program()))
        return
    if arguments.worker == "gather":
        _gather(*arguments.place)
        return
    measured = {
        "training": _training(),
        **_pieces(),
        "bytes_of_a_policy": _bytes_of_a_policy(),
        "bytes_in_program": json.loads(_worker("--worker", "hlo", devices=4)),
        "gather": _gathers(),
    }
    print(json.dumps(measured, indent=1), flush=True)
    table = _project(measured)
    for row in table:
        print(row)
    write(
        "devices",
        "python benchmarks/devices.py",
        {"measured": measured, "projected": table, "networks": _NETWORKS},
        _figure(measured, table),
    )


# Processes of their own.


def _environment(devices: int = 1) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    return kept | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}


def _worker(*arguments: str, devices: int = 1) -> str:
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env=_environment(devices),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


def _address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _on_core(core: int, command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        ["taskset", "--cpu-list", str(core), *command],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


# Training, as a user starts it.


def _training() -> list[dict[str, Any]]:
    """One process on one core, and two on one core each."""
    cores = sorted(os.sched_getaffinity(0))
    rows = []
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as temporary:
            run, address = Path(temporary) / "run", _address()
            processes = []
            for number in range(count):
                flags = [*_TRAIN, "--run-dir", str(run)]
                if count > 1:
                    flags += ["--coordinator", address, "--num-processes", str(count)]
                    flags += ["--process-id", str(number)]
                command = [sys.executable, "-m", "applications.epvf.train", *flags]
                processes.append(_on_core(cores[number % len(cores)], command))
            for process in processes:
                process.communicate()
                assert process.returncode == 0
            lines = (run / "metrics.jsonl").read_text().splitlines()
        rates = [json.loads(line)["steps_per_second"] for line in lines[1:]]
        rows.append({"processes": count, "steps_per_second": float(np.median(rates))})
        print(json.dumps(rows[-1]), flush=True)
    return rows


# What an iteration is made of, on all cores of this machine.


def _algorithm(num_envs: int) -> EPVF:
    task = make(_ENV, physics="mujoco", horizon=_HORIZON)
    return EPVF(task, Config(num_envs=num_envs, hidden=_HIDDEN))


def _pieces() -> dict[str, Any]:
    learning, rate = {}, 0.0
    for num_envs in _LEARN_AT:
        algorithm = _algorithm(num_envs)
        assert isinstance(algorithm.task, NativeTask)
        state = eqx.filter_jit(lambda key, a=algorithm: a.init(key=key))(jr.key(0))
        trial = eqx.filter_jit(algorithm.before_rollout)(state)
        run = NativeRollout(algorithm.task, algorithm.view.to_policy)
        run.compile(trial.acting)
        began = time.perf_counter()
        episodes = run(trial.acting, key=trial.key)
        seconds = time.perf_counter() - began
        rate = float(jnp.sum(episodes.length)) / seconds
        learn = eqx.filter_jit(algorithm.after_rollout)
        jax.block_until_ready(learn(state, trial, episodes)[1])
        times = []
        for _ in range(3):
            began = time.perf_counter()
            jax.block_until_ready(learn(state, trial, episodes)[1])
            times.append(time.perf_counter() - began)
        learning[str(num_envs)] = float(np.median(times))
    return {"rollout_steps_per_second": rate, "learn_seconds": learning}


def _episodes(policies: int) -> Any:
    """The form of what is gathered."""
    size = make(_ENV, physics="mujoco").observation_size
    return empty_episodes((policies, 1), size)


def _bytes_of_a_policy() -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(_episodes(1)))


def _bytes_in_program() -> dict[str, int]:
    """Of cartpole: bytes that come out of collectives, and those of shapes."""
    algorithm = EPVF(make("cartpole"), Config(num_envs=56, eval_episodes=8))
    mesh = mesh_of()
    assert mesh is not None
    state = algorithm.init(key=jr.key(0))
    step: Any = eqx.filter_jit(
        on_all_devices(lambda step, state, axis: step(state, axis), mesh)
    )
    program: Any = step.lower(algorithm.step, state).compile()
    text = program.compiled.as_text()
    kinds = {"f32": 4, "s32": 4, "u32": 4, "pred": 1}
    total = 0
    for line in text.splitlines():
        if not re.search(r"\ball-gather(-start)?\(", line):
            continue
        result = line.split("all-gather")[0].split("=", 1)[1]
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
            total += kinds[kind] * math.prod(int(n) for n in shape.split(",") if n)
    others = len(re.findall(r"\b(all-reduce|all-to-all|collective-permute)\(", text))
    size = algorithm.task.observation_size
    # Return, length, validity, start, count, mean and squares of 64 policies.
    expected = 64 * (4 + 4 + 1 + 4 * size + 4 + 8 * size)
    return {"gathered": total, "from_shapes": expected, "other_collectives": others}


# Between two processes.


def _gathers() -> list[dict[str, float]]:
    address = _address()
    command = [sys.executable, __file__, "--worker", "gather", "--place", address]
    cores = sorted(os.sched_getaffinity(0))
    processes = [_on_core(cores[i % len(cores)], [*command, str(i)]) for i in range(2)]
    first, _ = (process.communicate()[0] for process in processes)
    return json.loads(first.splitlines()[-1])


def _gather(address: str, number: str) -> None:
    jax.distributed.initialize(
        address, 2, int(number), cluster_detection_method="deactivate"
    )
    rows = []
    for policies in _GATHER_AT:
        part = jax.tree.map(
            lambda leaf: np.zeros((leaf.shape[0] // 2, *leaf.shape[1:]), leaf.dtype),
            _episodes(policies),
        )
        times = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            jax.block_until_ready(gather_parts(part, 2, policies))
            times.append(time.perf_counter() - began)
        total = sum(2 * leaf.nbytes for leaf in jax.tree.leaves(part))
        rows.append(
            {"policies": policies, "bytes": total, "seconds": float(np.median(times))}
        )
    jax.distributed.shutdown()
    print(json.dumps(rows))


# The projection.


def _project(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of an iteration: the rollout shared, learning and gathering not."""
    small, large = _LEARN_AT
    learn = measured["learn_seconds"]
    slope = max((learn[str(large)] - learn[str(small)]) / (large - small), 0.0)
    base = max(learn[str(small)] - slope * small, 0.0)
    rows = []
    for policies in _POPULATIONS:
        for devices in _DEVICES:
            steps = math.ceil(policies / devices) * _FULL_HORIZON
            rollout = steps / measured["rollout_steps_per_second"]
            learning = base + slope * policies
            received = policies * measured["bytes_of_a_policy"] * (1 - 1 / devices)
            gather = {name: 8 * received / bits for name, bits in _NETWORKS.items()}
            total = rollout + learning + max(gather.values())
            rows.append(
                {
                    "policies": policies,
                    "devices": devices,
                    "rollout_seconds": rollout,
                    "learn_seconds": learning,
                    "received_bytes": received,
                    "gather_seconds": gather,
                    "iteration_seconds": total,
                    "device_hours_of_1000_iterations": total * devices / 3.6,
                }
            )
    return rows


@in_style()
def _figure(measured: dict[str, Any], table: list[dict[str, Any]]) -> Figure:
    figure, (left, right) = panels(2, 2, 2.9)
    rates = {x["processes"]: x["steps_per_second"] for x in measured["training"]}
    left.bar([str(x) for x in rates], list(rates.values()))
    left.grid(axis="x", visible=False)
    left.set(
        title=f"measured: {_ENV}, 256 policies, C engine",
        xlabel="processes, one core each",
        ylabel="control steps a second, training",
    )
    for i, policies in enumerate(_POPULATIONS):
        mine = [row for row in table if row["policies"] == policies]
        x = [row["devices"] for row in mine]
        seconds = [row["iteration_seconds"] for row in mine]
        right.plot(x, seconds, "o-", color=f"C{i}", label=f"{policies:,} policies")
        learning = [row["learn_seconds"] for row in mine]
        right.plot(x, learning, ":", color=f"C{i}")
    right.set(
        title="projected (dotted: learning alone)",
        xlabel="machines with 2 cores",
        ylabel="seconds an iteration",
        xscale="log",
        yscale="log",
    )
    right.legend()
    return figure


if __name__ == "__main__":
    main()
