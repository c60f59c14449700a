"""GoGePo on cartpole and swimmer, one choice changed at a time.

Every run has one core. Runs are kept in `runs/benchmarks`, so that this can be stopped
and started again.

    python benchmarks/gogepo_ablations.py
"""

from collections.abc import Sequence
from typing import Any

from _gogepo import draw_commands, result_of_generator, TRAINER
from _runs import Training
from _study import study
from _style import in_style, label_below, legend_below, panels
from gogepo_tasks import task_flags, TASKS
from matplotlib.figure import Figure


# By name, flags: the parts of the recipe, and what it is made of.
_RECIPE = {
    "gogepo": "",
    "without climbing": "--climb 0",
    "recent ones alone": "--evenly 0",
    "evaluator alone": "--loss evaluator",
    "weights alone": "--loss weights",
    "archive of 32": "--archive 32",
}
_CHOICES = {
    "without slices": "--generator mlp",
    "flat evaluator": "--representation flat",
    "uniform commands": "--strategy uniform",
    "best plus drive": "--strategy best",
}
VARIANTS = {"cartpole": _RECIPE | _CHOICES, "swimmer": _RECIPE}
_SEEDS = range(3)
_COLUMNS = 3


def main() -> None:
    study(
        "gogepo_ablations",
        "ablations",
        __doc__,
        list(VARIANTS),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of_generator(run, TASKS[run.group[0]][0]),
        also=["gogepo_tasks"],
        page="gogepo.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training(
            (task, name.replace(" ", "-")),
            " ".join([*task_flags(task).split(), *flags.split()]),
            seed,
            TRAINER,
        )
        for task in tasks
        for name, flags in VARIANTS[task].items()
        for seed in _SEEDS
    ]


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    groups = list(dict.fromkeys(tuple(run["group"]) for run in runs))
    figure, grid = panels(len(groups), _COLUMNS, 2.2)
    for axes, group in zip(grid, groups, strict=True):
        draw_commands(axes, [run for run in runs if tuple(run["group"]) == group])
        task, name = group
        axes.set(title=f"{task}: {name}", xlabel="", ylabel="")
    label_below(grid, _COLUMNS, "commanded return")
    figure.supylabel("return", fontsize="medium")
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
