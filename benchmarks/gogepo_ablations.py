"""GoGePo on cartpole, one choice changed at a time.

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
from matplotlib.figure import Figure


# By name: flags, and how many seeds.
VARIANTS = {
    "gogepo": ("", 5),
    "without slices": ("--generator mlp", 5),
    "flat evaluator": ("--representation flat", 5),
    "without recency": ("--recency 0", 5),
    "uniform commands": ("--strategy uniform", 5),
    "scale of the range": ("--command-scale range", 3),
    "up to the best": ("--strategy spread", 3),
    "best plus drive": ("--strategy best", 3),
    "without evaluator": ("--loss weights", 3),
}
_COLUMNS = 3


def main() -> None:
    study(
        "gogepo_ablations",
        "ablations",
        __doc__,
        ["cartpole"],
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of_generator(run, "--low 0 --high 500"),
        also=["gogepo_tasks"],
        page="gogepo.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, name.replace(" ", "-")), flags, seed, TRAINER)
        for task in tasks
        for name, (flags, seeds) in VARIANTS.items()
        for seed in range(seeds)
    ]


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(run["group"][1] for run in runs))
    figure, grid = panels(len(names), _COLUMNS, 2.2, sharex=True, sharey=True)
    for axes, name in zip(grid, names, strict=True):
        draw_commands(axes, [run for run in runs if run["group"][1] == name])
        axes.set(title=name, xlabel="", ylabel="")
    label_below(grid, _COLUMNS, "commanded return")
    figure.supylabel("return", fontsize="medium")
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
