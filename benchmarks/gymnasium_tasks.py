"""EPVF on environments of Gymnasium that this project did not write, three seeds each.

Every run has one core, for the environments too. Runs are kept, so this can be stopped
and started again. LunarLander wants `pip install "gymnasium[box2d]"`.

    python benchmarks/gymnasium_tasks.py
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _runs import result_of, Training
from _study import study
from _style import band, in_style, label_below, panels
from matplotlib.figure import Figure

from applications.training import colour_of


_SEEDS = range(3)
# By environment: the return that its registry counts as solved, if there is one, and
# flags. A linear policy cannot swing a pendulum up, and its return hangs on the start.
_TASKS: dict[str, tuple[float | None, str]] = {
    "LunarLander-v3": (200.0, "--iterations 100"),
    "Pendulum-v1": (
        None,
        "--iterations 120 --hidden 16 --start drawn --noise-scale 6 --episodes 4 "
        "--common-starts",
    ),
}


def main() -> None:
    study(
        "gymnasium_tasks",
        "gymnasium",
        __doc__,
        list(_TASKS),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(run, "return_policy"),
        mark=_count_solved,
        page="tasks.md",
    )


def _count_solved(row: dict[str, Any]) -> None:
    solved = _TASKS[row["group"][0]][0]
    if solved is not None:
        row["solved_at"] = solved
        row["seeds_solved"] = sum(x >= solved for x in row["mean_returns"])


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, "epvf"), f"--env gymnasium:{task} {_TASKS[task][1]}", seed)
        for task in tasks
        for seed in _SEEDS
    ]


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    figure, grid = panels(len(_TASKS), 2, 2.3)
    for axes, (task, (solved, _)) in zip(grid, _TASKS.items(), strict=True):
        if solved is not None:
            axes.axhline(solved, color="gray", linestyle=":", linewidth=1)
        mine = [run for run in runs if run["group"][0] == task]
        band(
            axes,
            [np.array(run["env_steps"]) / 1e6 for run in mine],
            [run["return_policy"] for run in mine],
            color=colour_of("epvf"),
        )
        axes.set_title(task)
    label_below(grid, 2, "million environment steps")
    figure.supylabel("return of the policy", fontsize="medium")
    return figure


if __name__ == "__main__":
    main()
