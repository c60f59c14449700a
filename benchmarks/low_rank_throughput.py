"""How many control steps a second policies take that share all but thin factors.

The same policies in two forms: with all weights of their own, and as one policy that
all share, with factors of rank 1 for each (`--perturbation low-rank`). On the C engine
the limit is physics alone with the controls of these policies, by the clock and by the
time of all cores, which other programs disturb less. Acting alone, without a task, is
measured beside it, on the device that JAX has: there the limit is one policy that all
share, without factors. All figures of a row are taken in turns, several times over, and
medians are given. Memory is the most that training at the size of the paper's
experiment took, in a process of its own with short episodes.

    python benchmarks/low_rank_throughput.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from _common import as_table, fill, ROOT, write
from _runs import environment
from _style import in_style, legend_below, panels
from matplotlib.figure import Figure
from rollout_throughput import given_controls, horizon_of, limit

from applications.envs import make
from applications.envs.native import NativeTask
from applications.policies import FlatView, MLPPolicy
from applications.rollout.native import NativeRollout
from applications.search import draw_perturbations, LowRankCandidates, ToPolicy


_ENV = "ant"
# Hidden widths of the policies, and how many.
_ROWS = (
    ((64, 64), 256),
    ((64, 64), 1024),
    ((64, 64), 4096),
    # With weights of their own, 4,096 of these take more than a machine of 24 GB has.
    ((512, 256, 128), 1024),
)
# Steps without a task in one call.
_ACTING = 100
_TRAINING = (
    "--preset ant --env ant --hidden 512 256 128 --num-envs 4096 --archive 8 "
    "--perturbation low-rank --horizon 20 --iterations 3"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", nargs="*", type=int, default=range(len(_ROWS)))
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    rows = []
    for i in arguments.rows:
        hidden, size = _ROWS[i]
        rows.append(_measure(hidden, size, arguments.repeats))
        print(json.dumps(rows[-1]), flush=True)
    result = {"rows": rows, "training": _TRAINING, "peak_gigabytes": _peak_memory()}
    table = _table(result)
    print(table)
    if arguments.dry:
        return
    fill("learning.md", "low rank", table)
    command = "python benchmarks/low_rank_throughput.py"
    write("low_rank_throughput", command, result, _draw(rows))


def _measure(hidden: tuple[int, ...], size: int, repeats: int) -> dict[str, Any]:
    """Policies with all weights of their own, and those that share θ."""
    task = make(_ENV, physics="mujoco", horizon=horizon_of("native", size, _ENV))
    assert isinstance(task, NativeTask)
    policy = MLPPolicy(task, hidden, key=jr.key(0))
    view = FlatView(policy)
    to_policy = ToPolicy(view)
    drawn = draw_perturbations(policy, size, rank=1, scale=0.05, key=jr.key(1))
    candidates = LowRankCandidates(view.to_vector(policy), drawn)
    thin = candidates.population(view)
    full = jax.jit(lambda candidates: candidates.vectors(view))(candidates)

    def episodes(population: Any) -> Callable[[], int]:
        run = NativeRollout(task, to_policy)
        return lambda: int(np.sum(run(population, key=jr.key(0)).length))

    def acting(shared: Any, own: Any, act: Callable) -> Callable[[], int]:
        """As many steps without a task: what is seen next is made of the answer."""

        def of_one(shared: Any, own: Any, seen: jax.Array) -> jax.Array:
            return jnp.resize(act(shared, own)(seen), seen.shape)

        one_step = jax.vmap(of_one, (None, 0, 0))
        run = jax.jit(
            lambda shared, own, seen: jax.lax.fori_loop(
                0, _ACTING, lambda _, seen: one_step(shared, own, seen), seen
            )
        )
        seen = jnp.ones((size, task.observation_size))

        def count() -> int:
            jax.block_until_ready(run(shared, own, seen))
            return size * _ACTING

        return count

    kinds = {
        "limit": limit(task, given_controls(task, view, full)),
        "full": episodes(full),
        "low_rank": episodes(thin),
        "acting_shared": acting(policy, jnp.zeros(size), lambda shared, _: shared),
        "acting_full": acting((), jax.vmap(view.to_policy)(full), lambda _, own: own),
        "acting_low_rank": acting(
            thin.shared, thin.own, lambda shared, own: shared.perturbed(own)
        ),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for run in kinds.values():
        run()  # compiles
    for _ in range(repeats):
        for name, run in kinds.items():
            began, used = time.perf_counter(), time.process_time()
            steps = run()
            seconds = time.perf_counter() - began, time.process_time() - used
            rates[name].append((steps / seconds[0], steps / seconds[1]))
    medians = {name: np.median(rate, axis=0) for name, rate in rates.items()}
    row: dict[str, Any] = {
        "env": _ENV,
        "num_envs": size,
        "hidden": list(hidden),
        "threads": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
    }
    for i, unit in enumerate(("second", "core_second")):
        row[f"steps_per_{unit}"] = {k: float(x[i]) for k, x in medians.items()}
        row[f"share_by_{unit}"] = {
            name: float(
                x[i] / medians["acting_shared" if "acting" in name else "limit"][i]
            )
            for name, x in medians.items()
        }
    return row


def _peak_memory() -> float:
    """Of a run of three iterations, in GB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "applications.epvf.train", *_TRAINING.split()]
        process = subprocess.Popen(
            [*command, "--run-dir", str(Path(folder) / "run")],
            env=environment(),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"Training ended with {os.waitstatus_to_exitcode(status)}.")
    return usage.ru_maxrss / 1e6  # given in kB


def _table(result: dict[str, Any]) -> str:
    rows = []
    for row in result["rows"]:
        rates, shares = row["steps_per_second"], row["share_by_second"]
        rows.append(
            [
                "-".join(map(str, row["hidden"])),
                f"{row['num_envs']:,}",
                *(f"{rates[x] / 1e3:,.1f} k" for x in ("limit", "full", "low_rank")),
                *(f"{shares[x]:.2f}" for x in ("full", "low_rank")),
                *(f"{shares[x]:.2f}" for x in ("acting_full", "acting_low_rank")),
            ]
        )
    heads = [
        *("hidden units", "policies", "physics alone", "own weights", "low rank"),
        *("share, own", "share, low rank", "acting, own", "acting, low rank"),
    ]
    return "\n".join(
        [
            as_table(heads, rows),
            "",
            f"Training with 4,096 environments and these 512-256-128 units took "
            f"{result['peak_gigabytes']:.1f} GB at most.",
        ]
    )


@in_style()
def _draw(rows: list[dict[str, Any]]) -> Figure:
    figure, (axes,) = panels(1, 1, 2.6)
    places = np.arange(len(rows))
    for shift, (name, label) in zip(
        (-0.2, 0.2), (("full", "own weights"), ("low_rank", "low rank")), strict=True
    ):
        shares = [row["share_by_second"][name] for row in rows]
        axes.bar(places + shift, shares, 0.4, label=label)
    axes.axhline(1, color="gray", linestyle=":", linewidth=1)
    labels = [
        f"{'-'.join(map(str, row['hidden']))}\n{row['num_envs']:,}" for row in rows
    ]
    axes.set_xticks(places, labels)
    axes.set_ylabel("share of physics alone")
    legend_below(figure, [axes])
    return figure


if __name__ == "__main__":
    main()
