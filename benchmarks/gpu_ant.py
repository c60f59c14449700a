"""The custom Ant on whatever accelerator is there: speed, then training, in one go.

Measures the whole training loop (rollouts and learning) at several numbers of
environments, the share spent learning, memory, and the physics alone; then trains with
EPVF for the time that is left, and with Brax's PPO if it is asked to. A run that is
there already goes on: call again for the next slice. What there is no time for is left
out, and the record says so. The table comes last.

    python benchmarks/gpu_ant.py --minutes 8 --runs runs/gpu_ant --out docs/results

At small size, where there is no accelerator:

    python benchmarks/gpu_ant.py --num-envs 16 32 --train-envs 32 --horizon 20 \
        --minutes 4 --runs runs/gpu_ant_small --out runs/gpu_ant_small
"""

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from _common import machine, ROOT

from applications.envs import AbstractTask, make
from applications.epvf.algorithm import EPVF
from applications.epvf.config import PRESETS
from applications.rollout import rollout, RolloutOptions


_SIZES = (1024, 4096, 16384, 65536)
_FLAGS = (
    *("--preset", "ant", "--env", "ant", "--physics", "mjx"),
    *("--checkpoint-every", "20"),
)
_PPO = ("--algorithm", "ppo", "--env", "ant", "--physics", "mjx")
_PASSED = 900.0
# Iterations that are timed, after one that is not.
_TIMED = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--num-envs", nargs="*", type=int, default=list(_SIZES))
    parser.add_argument("--train-envs", type=int, default=4096)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--horizon", type=int, default=1000)
    parser.add_argument("--train", nargs="*", default=["epvf"], help="epvf, ppo")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gpu_ant")
    parser.add_argument("--out", type=Path, required=True, help="where the JSON goes")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "gpu_ant.json"
    record: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/gpu_ant.py", *sys.argv[1:]]),
        "device": jax.devices()[0].device_kind,
        "machine": machine(),
        "rows": [],
        "training": [],
    }
    # Half of the time at most, so that some is left to train.
    limit = time.monotonic() + (30 if arguments.train else 60) * arguments.minutes
    for size in arguments.num_envs:
        if time.monotonic() > limit:
            print(f"No time for {size} environments.", flush=True)
            record["rows"].append({"num_envs": size, "left_out": True})
            continue
        record["rows"].append(_measure(size, arguments.horizon))
        print(json.dumps(record["rows"][-1]), flush=True)
        path.write_text(json.dumps(record, indent=1) + "\n")
    for i, name in enumerate(arguments.train):
        share = (end - time.monotonic()) / (len(arguments.train) - i)
        record["training"].append(_train(name, share, arguments))
        path.write_text(json.dumps(record, indent=1) + "\n")
    print(_table(record))


def _measure(size: int, horizon: int) -> dict[str, Any]:
    config = dataclasses.replace(PRESETS["ant"], num_envs=size, hidden=(16, 16))
    task = make("ant", physics="mjx", horizon=horizon)
    assert isinstance(task, AbstractTask)
    algorithm = EPVF(task, config)
    state = eqx.filter_jit(lambda key: algorithm.init(key=key))(jr.key(0))

    def run(state: Any) -> Any:
        trial = algorithm.before_rollout(state)
        return trial, rollout(
            *(task, algorithm.view.to_policy, trial.acting),
            options=RolloutOptions(visits=config.visits),
            key=trial.key,
        )

    began = time.perf_counter()
    collect: Any = eqx.filter_jit(run)
    learn: Any = eqx.filter_jit(
        lambda state, tried: algorithm.after_rollout(state, *tried)
    )
    tried = collect(state)
    state, _ = jax.block_until_ready(learn(state, tried))
    first = time.perf_counter() - began
    steps, collecting, learning = 0, 0.0, 0.0
    for _ in range(_TIMED):
        began = time.perf_counter()
        tried = jax.block_until_ready(collect(state))
        collecting += time.perf_counter() - began
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(learn(state, tried))
        learning += time.perf_counter() - began
        steps += int(metrics["env_steps"])
    memory = jax.devices()[0].memory_stats() or {}
    return {
        "num_envs": size,
        "weights": state.learned.policies.shape[1],
        "steps_per_second": steps / (collecting + learning),
        "rollout_steps_per_second": steps / collecting,
        "physics_steps_per_second": _physics(task, size),
        "share_learning": learning / (collecting + learning),
        "mean_length": steps / size / _TIMED,
        "first_iteration_seconds": first,
        "peak_bytes": memory.get("peak_bytes_in_use"),
    }


def _physics(task: AbstractTask, size: int, steps: int = 50) -> float:
    """Control steps a second under a constant action: no policy, no learning."""

    def one(key: Any) -> Any:
        action = jr.uniform(key, (8,), minval=-1.0, maxval=1.0)
        move = lambda state, _: (task.step(state, action)[0], None)
        state, _ = jax.lax.scan(move, task.reset(key=key), length=steps)
        return jnp.sum(state.qpos)

    run: Callable[..., Any] = jax.jit(jax.vmap(one))
    keys = jr.split(jr.key(1), size)
    jax.block_until_ready(run(keys))
    began = time.perf_counter()
    jax.block_until_ready(run(keys))
    return size * steps / (time.perf_counter() - began)


def _train(name: str, seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains for so many seconds; what there is goes on."""
    directory = arguments.runs / name
    begun = (directory / "config.json").is_file()
    where = ["--resume" if begun else "--run-dir", str(directory)]
    if name == "epvf":
        module = "applications.epvf.train"
        flags = [*_FLAGS, "--num-envs", str(arguments.train_envs)]
        flags += ["--iterations", str(arguments.iterations)]
    else:
        module, flags = "applications.baselines.train", list(_PPO)
    flags += ["--horizon", str(arguments.horizon)]
    command = [sys.executable, "-m", module, *([] if begun else flags), *where]
    print(f"{' '.join(command[1:])}, for {seconds:.0f} s", flush=True)
    _run_for(command, seconds)
    return {"algorithm": name, "command": command[1:], **_passed(directory)}


def _run_for(command: Sequence[str], seconds: float) -> None:
    """Ends it as Ctrl-C would, so that it leaves a checkpoint."""
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        process.wait(max(seconds - 20, 10))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _passed(directory: Path) -> dict[str, Any]:
    """How far a run is, and when its policy first returned enough."""
    path = directory / "metrics.jsonl"
    if not path.is_file():
        return {"rows": 0}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if not rows:
        return {"rows": 0}
    returns = [row.get("return_policy") or 0.0 for row in rows]
    passed = [row for row, value in zip(rows, returns, strict=True) if value > _PASSED]
    return {
        "rows": len(rows),
        "env_steps": rows[-1]["env_steps"],
        "seconds": rows[-1]["seconds"],
        "last_return": returns[-1],
        "best_return": max(returns),
        f"seconds_to_{_PASSED:.0f}": passed[0]["seconds"] if passed else None,
    }


def _table(record: dict[str, Any]) -> str:
    lines = [
        f"{record['device']}",
        "envs | steps/s | rollout alone | physics alone | learning | first | memory",
    ]
    for row in record["rows"]:
        if "left_out" in row:
            lines.append(f"{row['num_envs']} | left out: no time")
            continue
        memory = row["peak_bytes"]
        lines.append(
            f"{row['num_envs']} | {row['steps_per_second']:,.0f} "
            f"| {row['rollout_steps_per_second']:,.0f} "
            f"| {row['physics_steps_per_second']:,.0f} "
            f"| {row['share_learning']:.0%} | {row['first_iteration_seconds']:.0f} s "
            f"| {'not known' if memory is None else f'{memory / 2**30:.1f} GiB'}"
        )
    lines += [json.dumps(row) for row in record["training"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
