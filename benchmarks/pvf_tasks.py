"""Values of single steps on tasks with the C engine, three seeds each.

The actor-critic without θ, at the steps of its bars and further. Every run has one
core. Runs are kept, so this can be stopped and started again.

    python benchmarks/pvf_tasks.py
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _runs import result_of, Training
from _study import study
from _style import band, in_style, label_below, legend_below, panels
from matplotlib.figure import Figure


_SEEDS = range(3)
_MODULE = "applications.pvf.train"
# A policy with two hidden layers of 64: narrower noise, smaller steps.
DEEP = "--hidden 64 64 --noise-scale 0.02 --policy-lr 5e-4 --discount 0.99 --lambda 0.9"

# By task: the mean return that is asked for, if there is one, and flags by name.
TASKS: dict[str, tuple[float | None, dict[str, str]]] = {
    "swimmer": (340.0, {"linear": "--steps 400000"}),
    "half_cheetah": (
        4000.0,
        {
            "64-64": f"{DEEP} --steps 300000",
            "64-64 long": f"{DEEP} --steps 2000000",
        },
    ),
    "hopper": (
        3000.0,
        {
            "64-64 twin": f"{DEEP} --steps 2000000 --lambda 0.5 --ensemble 2 "
            "--target-noise 0.2 --target-policy --noise-schedule linear",
        },
    ),
}


def main() -> None:
    study(
        "pvf_tasks",
        "tasks",
        __doc__,
        list(TASKS),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(
            run, "return_policy", "value_correlation", "q_mean", "weight_norm"
        ),
        mark=_count_solved,
        page="pvf.md",
    )


def _count_solved(row: dict[str, Any]) -> None:
    bar = TASKS[row["group"][0]][0]
    if bar is not None:
        row["bar"] = bar
        row["mean_return"] = float(np.mean(row["mean_returns"]))


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, name), f"--env {task} {flags}", seed, _MODULE)
        for task in tasks
        for name, flags in TASKS[task][1].items()
        for seed in _SEEDS
    ]


def _draw(runs: list[dict[str, Any]]) -> Figure:
    return draw(runs, {task: bar for task, (bar, _) in TASKS.items()})


@in_style()
def draw(
    runs: list[dict[str, Any]], bars: dict[str, float | None], **scale: Any
) -> Figure:
    """Learning curves, a panel a task: the median of the seeds and their range.

    Args:
        runs: What `result_of` gives.
        bars: By task the return that is asked for, if there is one.
        scale: Of the returns, as of `set_yscale`.

    Returns:
        The picture.
    """
    tasks = list(dict.fromkeys(run["group"][0] for run in runs))
    figure, grid = panels(len(tasks), min(len(tasks), 2), 2.6)
    for axes, task in zip(grid, tasks, strict=True):
        mine = [run for run in runs if run["group"][0] == task]
        bar = bars.get(task)
        if bar is not None:
            axes.axhline(bar, color="gray", linestyle=":", linewidth=1)
        for i, name in enumerate(dict.fromkeys(run["group"][1] for run in mine)):
            its = [run for run in mine if run["group"][1] == name]
            band(
                axes,
                [np.array(run["env_steps"]) / 1e3 for run in its],
                [run["return_policy"] for run in its],
                color=f"C{i}",
                label=name,
            )
        if scale:
            axes.set_yscale(**scale)
        axes.set_title(task)
    label_below(grid, min(len(tasks), 2), "thousand environment steps")
    figure.supylabel("return of the policy", fontsize="medium")
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
