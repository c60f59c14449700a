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
from gogepo_tasks import TASKS
from matplotlib.figure import Figure


# What is not in the paper, all left out.
_PLAIN = "--climb 0 --evenly 0 --loss evaluator --archive 32"
# By task and name, flags and how many seeds: the default without one of its parts, and
# then other choices, where all of them are left out.
_RECIPE = {
    "gogepo": "",
    "without climbing": "--climb 0",
    "recent ones alone": "--evenly 0",
    "evaluator alone": "--loss evaluator",
    "weights alone": "--loss weights",
    "archive of 32": "--archive 32",
    "plain": _PLAIN,
}
_CHOICES = {
    "plain": ("", 5),
    "without slices": ("--generator mlp", 5),
    "flat evaluator": ("--representation flat", 5),
    "without recency": ("--recency 0", 5),
    "uniform commands": ("--strategy uniform", 5),
    "scale of the range": ("--command-scale range", 3),
    "up to the best": ("--strategy spread", 3),
    "best plus drive": ("--strategy best", 3),
    "without evaluator": ("--loss weights", 3),
}
VARIANTS = {
    "cartpole": {
        **{name: (flags, 3) for name, flags in _RECIPE.items()},
        **{
            name: (_PLAIN.replace("--loss evaluator", flags), seeds)
            if "--loss" in flags
            else (f"{_PLAIN} {flags}", seeds)
            for name, (flags, seeds) in _CHOICES.items()
        },
    },
    "swimmer": {
        name: (f"--env swimmer --hidden --iterations 30 {flags}", 2)
        for name, flags in _RECIPE.items()
    },
}
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
        Training((task, name.replace(" ", "-")), " ".join(flags.split()), seed, TRAINER)
        for task in tasks
        for name, (flags, seeds) in VARIANTS[task].items()
        for seed in range(seeds)
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
