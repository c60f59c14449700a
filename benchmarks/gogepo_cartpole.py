"""GoGePo's default command on cartpole, five seeds: what is done of what is commanded.

Runs are kept in `runs/benchmarks`, so that this can be stopped and started again.

    python benchmarks/gogepo_cartpole.py
"""

import argparse
import json
import subprocess
import sys
from typing import Any

import numpy as np
from _common import fill, ROOT, write
from _runs import environment, result_of, train_all, Training
from matplotlib.figure import Figure


_SEEDS = range(5)
_ENOUGH = {"rank_correlation": 0.9, "best_achieved": 475.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    arguments = parser.parse_args()
    trainings = [
        Training(("cartpole", "gogepo"), "", seed, "applications.gogepo.train")
        for seed in _SEEDS
    ]
    train_all(trainings, arguments.cores)
    runs = [_examined(run) for run in trainings]
    table = _markdown(runs)
    print(table)
    fill("gogepo.md", "cartpole", table)
    enough = [
        all(run[name] >= least for name, least in _ENOUGH.items()) for run in runs
    ]
    result = {"seeds_with_enough": sum(enough), "enough": _ENOUGH, "runs": runs}
    command = "python benchmarks/gogepo_cartpole.py"
    write("gogepo_cartpole", command, result, _draw(runs))


def _examined(run: Training) -> dict[str, Any]:
    """A run with its command curve: 21 commands from 0 to 500."""
    examine = [sys.executable, "-m", "applications.gogepo.evaluate", str(run.directory)]
    asked = ["--low", "0", "--high", "500", "--episodes", "20"]
    done = subprocess.DEVNULL
    subprocess.run(
        [*examine, *asked], cwd=ROOT, env=environment(), check=True, stdout=done
    )
    found = json.loads((run.directory / "commands.json").read_text())
    result = result_of(run, "command_error", "command_correlation")
    assert result is not None
    return {**result, **found}


def _markdown(runs: list[dict[str, Any]]) -> str:
    lines = [
        "| seed | rank correlation | mean error | best achieved | seconds | steps |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        cells = [
            f"{run['seed']}",
            f"{run['rank_correlation']:.3f}",
            f"{run['mean_error']:.1f}",
            f"{run['best_achieved']:.1f}",
            f"{run['wall_seconds']:.0f}",
            f"{run['steps'] / 1e6:.1f} M",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _draw(runs: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in runs:
        given = np.array(run["commanded"])[:, 0]
        achieved, expected = (
            np.array(run[name])[:, 0] for name in ("achieved", "predicted")
        )
        color = f"C{run['seed']}"
        left.plot(given, achieved, "o-", ms=3, color=color, label=f"seed {run['seed']}")
        left.plot(given, expected, "--", linewidth=0.8, color=color)
        steps = np.array(run["env_steps"]) / 1e6
        errors = [np.nan if x is None else x for x in run["command_error"]]
        right.plot(steps, errors, color=color, linewidth=1)
    left.plot([0, 500], [0, 500], ":", color="gray")
    left.set(xlabel="commanded return", ylabel="achieved (dashed: expected)")
    left.legend(fontsize="small")
    right.set(xlabel="million environment steps", ylabel="mean error of commands")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
