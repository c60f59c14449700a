"""GoGePo commanded a return and a condition: a policy's size, or a pole's length.

Every run has one core. Runs are kept in `runs/benchmarks`, so that this can be stopped
and started again.

    python benchmarks/gogepo_skills.py
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from _common import as_table
from _gogepo import result_of_generator, TRAINER
from _groups import summarise
from _runs import Training
from _study import study
from _style import in_style, panels
from matplotlib.figure import Figure


_SEEDS = range(3)
# By task and what is given: flags of the run.
SKILLS = {
    ("cartpole", "size"): "--command-kind return-size",
    ("cartpole", "half-length"): "--command-kind return-variant",
}
# Of the generator as it is, and of one that is told the same condition in all commands.
_AS_TOLD, _TOLD_ONE = "as commanded", "the same told in all"
_TITLES = (
    *("task", "condition", "steps", "rank correlations", "mean errors"),
    *("worst condition's", "mean errors, told one condition"),
)


def main() -> None:
    study(
        "gogepo_skills",
        "skills",
        __doc__,
        list(dict.fromkeys(task for task, _ in SKILLS)),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of_generator(run, "--low 0 --high 500"),
        tabulate=_tabulate,
        lay_out=_markdown,
        page="gogepo.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, f"return-and-{name}"), f"--env {task} {flags}", seed, TRAINER)
        for (task, name), flags in SKILLS.items()
        if task in tasks
        for seed in _SEEDS
    ]


def _tabulate(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`summarise`, with the seeds' errors under their worst condition, and told one."""
    table = summarise(runs)
    for row in table:
        mine = [run for run in runs if run["group"] == row["group"]]
        row["worst_error"] = [
            max(condition["mean_error"] for condition in run["conditions"])
            for run in mine
        ]
        row["error_told_one"] = [run["told_one"]["mean_error"] for run in mine]
    return table


def _markdown(table: list[dict[str, Any]]) -> str:
    rows = []
    whole = lambda values: ", ".join(f"{x:.0f}" for x in values)
    for row in table:
        task, name = row["group"]
        cells = [
            f"`{task}`",
            name.removeprefix("return-and-"),
            f"{row['env_steps'] / 1e6:.1f} M",
            ", ".join(f"{x:.2f}" for x in row["rank_correlation"]),
            whole(row["mean_error"]),
            whole(row["worst_error"]),
            whole(row["error_told_one"]),
        ]
        rows.append(cells)
    return as_table(_TITLES, rows)


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    groups = list(dict.fromkeys(tuple(run["group"]) for run in runs))
    figure, grid = panels(2 * len(groups), 2, 2.9, sharey=True)
    for i, group in enumerate(groups):
        mine = [run for run in runs if tuple(run["group"]) == group]
        name = group[1].removeprefix("return-and-")
        for axes, title, curves in (
            (grid[2 * i], _AS_TOLD, mine),
            (grid[2 * i + 1], _TOLD_ONE, [run["told_one"] for run in mine]),
        ):
            _draw_conditions(axes, curves, name)
            axes.set(title=f"{name}: {title}", xlabel="commanded return")
        grid[2 * i].set_ylabel("achieved return")
        grid[2 * i + 1].legend(fontsize="small")
    return figure


def _draw_conditions(axes: Any, curves: list[dict[str, Any]], name: str) -> None:
    """Achieved against commanded: a colour a condition, a thin line a seed."""
    given = np.array(curves[0]["commanded"])
    numbers = [condition["number"] for condition in curves[0]["conditions"]]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(numbers)))
    ends = [given[:, 0].min(), given[:, 0].max()]
    axes.plot(ends, ends, ":", color="gray")
    for number, color in zip(numbers, colors, strict=True):
        here = given[:, 1] == number
        done = np.array([curve["achieved"] for curve in curves])[:, here, 0]
        for seed in done:
            axes.plot(given[here, 0], seed, color=color, linewidth=0.6, alpha=0.5)
        middle = np.median(done, axis=0)
        axes.plot(
            given[here, 0], middle, color=color, linewidth=2, label=f"{name} {number:g}"
        )


if __name__ == "__main__":
    main()
