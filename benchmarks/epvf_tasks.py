"""EPVF on tasks with the C engine, five seeds each, and other algorithms beside it.

Every run has one core. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_tasks.py
"""

import argparse
from typing import Any

import numpy as np
from _common import fill, write
from _groups import markdown, summarise
from _runs import result_of, train_all, Training
from matplotlib.figure import Figure


_SEEDS = range(5)
_LINEAR = "--hidden --normalise --num-envs 64 --archive 8"
# By task: the return that counts as solved, if there is one, and flags by algorithm.
TASKS: dict[str, tuple[float | None, dict[str, str]]] = {
    "mountain_car_continuous": (
        90.0,
        {
            "epvf": "--normalise --hidden 8 --weight-clip 5 --noise-scale 1 "
            "--targets rank"
        },
    ),
    "inverted_pendulum": (
        950.0,
        {"epvf": "--representation probing --iterations 60"},
    ),
    "swimmer": (
        340.0,
        {
            "epvf": f"{_LINEAR} --iterations 60 --weight-clip 3 --noise-scale 1 "
            "--noise-schedule linear"
        },
    ),
    "half_cheetah": (None, {"epvf": f"{_LINEAR} --iterations 100"}),
    "hopper": (None, {"epvf": f"{_LINEAR} --iterations 300 --no-survival-bonus"}),
}
_TRAINERS = {"epvf": "applications.epvf.train"}
_OTHERS = "applications.baselines.train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    arguments = parser.parse_args()
    train_all(_trainings(arguments.tasks), arguments.cores)
    found = [result_of(run, "return_policy") for run in _trainings(list(TASKS))]
    runs = [run for run in found if run is not None]
    table = summarise(runs)
    for row in table:
        solved = TASKS[row["group"][0]][0]
        if solved is not None:
            row["solved_at"] = solved
            row["seeds_solved"] = sum(x >= solved for x in row["mean_returns"])
    print(markdown(table))
    fill("learning.md", "tasks", markdown(table))
    command = "python benchmarks/epvf_tasks.py"
    write("epvf_tasks", command, {"table": table, "runs": runs}, _draw(runs))


def _trainings(tasks: list[str]) -> list[Training]:
    return [
        Training(
            (task, algorithm),
            f"--env {task} {flags}"
            + ("" if algorithm in _TRAINERS else f" --algorithm {algorithm}"),
            seed,
            _TRAINERS.get(algorithm, _OTHERS),
        )
        for task in tasks
        for algorithm, flags in TASKS[task][1].items()
        for seed in _SEEDS
    ]


def _draw(runs: list[dict[str, Any]]) -> Figure:
    tasks = list(dict.fromkeys(run["group"][0] for run in runs))
    columns = min(len(tasks), 3)
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    algorithms = list(dict.fromkeys(run["group"][1] for run in runs))
    for axes, task in zip(panels, tasks, strict=False):
        solved = TASKS[task][0]
        if solved is not None:
            axes.axhline(solved, color="gray", linestyle=":", linewidth=1)
        labelled = set()
        for run in (run for run in runs if run["group"][0] == task):
            algorithm = run["group"][1]
            values = [
                np.nan if value is None else value for value in run["return_policy"]
            ]
            axes.plot(
                np.array(run["env_steps"]) / 1e6,
                values,
                color=f"C{algorithms.index(algorithm)}",
                linewidth=1,
                label=None if algorithm in labelled else algorithm,
            )
            labelled.add(algorithm)
        axes.set(title=task, xlabel="million environment steps")
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    for axes in panels[len(tasks) :]:
        axes.remove()
    panels[0].set_ylabel("return of the policy, one line a seed")
    return figure


if __name__ == "__main__":
    main()
