"""EPVF on tasks with the C engine, five seeds each, and other algorithms beside it.

Every run has one core. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_tasks.py
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _runs import result_of, Training
from _study import study
from _style import band, in_style, label_below, legend_below, panels
from matplotlib.figure import Figure

from applications.training import colour_of


# Fewer of the algorithms beside, so that all of it takes hours and not a day.
_SEEDS = {"epvf": range(5)}
_SEEDS_BESIDE = range(3)
# ARS as Mania et al. (2018) have it for the task; where they do not, as for their Ant.
_ARS = "--normalise --eval-episodes 1"
# OpenES with one setting, found on swimmer.
_OPENES = (
    "--hidden --normalise --num-envs 64 --eval-episodes 1 --learning-rate 0.02 "
    "--noise-scale 0.05"
)


def _recipe(iterations: int) -> str:
    """EPVF's flags: the default recipe, for so many iterations of 32 policies."""
    return f"--iterations {iterations} --eval-episodes 1"


# By task: the return that counts as solved, if there is one, and flags by algorithm.
TASKS: dict[str, tuple[float | None, dict[str, str]]] = {
    "mountain_car_continuous": (
        90.0,
        {
            "epvf": _recipe(100),
            "openes": f"{_OPENES} --steps 2300000",
            "ppo": "--normalise --steps 2300000",
        },
    ),
    "inverted_pendulum": (
        950.0,
        {
            "epvf": _recipe(40),
            "openes": f"{_OPENES} --steps 2400000",
            "ppo": "--normalise --steps 1000000 --integrator euler",
        },
    ),
    "swimmer": (
        340.0,
        {
            "epvf": _recipe(200),
            # Theirs, one direction of 0.01, does not come off the ground here.
            "ars": f"{_ARS} --steps 3840000 --num-envs 32 --top 8 "
            "--learning-rate 0.02 --noise-scale 0.1",
            "openes": f"{_OPENES} --steps 3840000",
        },
    ),
    "half_cheetah": (
        None,
        {
            "epvf": _recipe(200),
            "ars": f"{_ARS} --steps 6400000 --num-envs 64 --top 4 --learning-rate 0.02 "
            "--noise-scale 0.03",
            "openes": f"{_OPENES} --steps 6400000",
        },
    ),
    "hopper": (
        None,
        {
            "epvf": f"{_recipe(320)} --no-survival-bonus",
            "ars": f"{_ARS} --steps 8000000 --no-survival-bonus --num-envs 16 --top 4 "
            "--learning-rate 0.01 --noise-scale 0.025",
            "openes": f"{_OPENES} --steps 8000000 --no-survival-bonus",
        },
    ),
    "ant_servo": (
        None,
        {
            "epvf": _recipe(200),
            "ars": f"{_ARS} --steps 6400000",
            "openes": f"{_OPENES} --steps 6400000",
        },
    ),
}
_TRAINERS = {"epvf": "applications.epvf.train"}
_OTHERS = "applications.baselines.train"


def main() -> None:
    study(
        "epvf_tasks",
        "tasks",
        __doc__,
        list(TASKS),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(run, "return_policy", "critic_correlation"),
        mark=_count_solved,
    )


def _count_solved(row: dict[str, Any]) -> None:
    solved = TASKS[row["group"][0]][0]
    if solved is not None:
        row["solved_at"] = solved
        row["seeds_solved"] = sum(x >= solved for x in row["mean_returns"])


def _trainings(tasks: Sequence[str]) -> list[Training]:
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
        for seed in _SEEDS.get(algorithm, _SEEDS_BESIDE)
    ]


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    tasks = list(dict.fromkeys(run["group"][0] for run in runs))
    figure, grid = panels(len(tasks), 2, 2.3)
    for axes, task in zip(grid, tasks, strict=True):
        solved = TASKS[task][0]
        if solved is not None:
            axes.axhline(solved, color="gray", linestyle=":", linewidth=1)
        mine = [run for run in runs if run["group"][0] == task]
        draw_returns(axes, mine)
        axes.set_title(task)
    label_below(grid, 2, "million environment steps")
    figure.supylabel("return of the policy", fontsize="medium")
    legend_below(figure, grid)
    return figure


def draw_returns(axes: Any, runs: list[dict[str, Any]]) -> None:
    """Returns of the policy, a band for each algorithm."""
    for algorithm in dict.fromkeys(run["group"][1] for run in runs):
        mine = [run for run in runs if run["group"][1] == algorithm]
        band(
            axes,
            [np.array(run["env_steps"]) / 1e6 for run in mine],
            [run["return_policy"] for run in mine],
            color=colour_of(algorithm),
            label=algorithm,
        )


if __name__ == "__main__":
    main()
