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
from matplotlib.figure import Figure


_SEEDS = range(5)
VARIANTS = {
    "gogepo": "",
    "without slices": "--generator mlp",
    "flat evaluator": "--representation flat",
    "without recency": "--recency 0",
    "uniform commands": "--strategy uniform",
    "scale of the range": "--command-scale range",
    "up to the best": "--strategy spread",
    "best plus drive": "--strategy best",
    "without evaluator": "--loss weights",
}
_COLUMNS = 4


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
        for name, flags in VARIANTS.items()
        for seed in _SEEDS
    ]


def _draw(runs: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(run["group"][1] for run in runs))
    lines = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(12, 2.9 * lines), layout="constrained")
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        draw_commands(axes, [run for run in runs if run["group"][1] == name])
        axes.set_title(name)
    for axes in panels[len(names) :]:
        axes.remove()
    return figure


if __name__ == "__main__":
    main()
