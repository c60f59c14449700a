"""The paper's settings with one choice changed at a time, on cartpole.

python benchmarks/epvf_cartpole_choices.py
"""

import shlex

import numpy as np
from _common import curves, train, write
from _style import band, in_style, label_below, legend_below, panels
from matplotlib.figure import Figure

from applications.epvf.ablate import ABLATIONS


_SEEDS = range(3)
# Ours, and then those of the paper's Figure 2.
_CHOICES = (
    "",
    "--representation probing",
    "--start-states",
    "--targets rank",
    "--weight-clip 0.3",
    *(shlex.join(flags) for flags in ABLATIONS["paper"].values() if flags),
)
_LAST = 10  # iterations that the mean at the end is taken over


def main() -> None:
    result = {}
    for choice in _CHOICES:
        runs = []
        for seed in _SEEDS:
            flags = ("--preset", "paper", "--seed", str(seed))
            run = train(*flags, *shlex.split(choice))
            rows = run["rows"]
            perturbed = [row["return_perturbed_mean"] for row in rows]
            runs.append(
                {
                    "seed": seed,
                    "command": run["command"],
                    "mean_return": run["evaluation"]["mean"],
                    "perturbed_at_the_end": float(np.mean(perturbed[-_LAST:])),
                    "wall_seconds": round(run["wall_seconds"], 2),
                    **curves(rows, "return_perturbed_mean", "critic_correlation"),
                }
            )
        result[choice] = runs
        print(_line(choice, runs), flush=True)
    write(
        "epvf_cartpole_choices",
        "python benchmarks/epvf_cartpole_choices.py",
        {"choices": result},
        _draw(result),
    )


def _line(choice: str, runs: list[dict]) -> str:
    """A row of a Markdown table."""

    def each(name: str) -> str:
        return ", ".join(f"{run[name]:.0f}" for run in runs)

    name = f"`{choice}`" if choice else "default"
    return f"| {name} | {each('mean_return')} | {each('perturbed_at_the_end')} |"


@in_style()
def _draw(result: dict[str, list[dict]]) -> Figure:
    figure, grid = panels(len(result), 3, 1.7, sharex=True, sharey=True)
    base = [run["return_perturbed_mean"] for run in result[""]]
    for axes, (choice, runs) in zip(grid, result.items(), strict=True):
        own = [run["return_perturbed_mean"] for run in runs]
        for values, color, label in (
            (base, "0.6", "--preset paper"),
            (own, "tab:blue", "one choice changed"),
        ):
            if choice or values is base:
                places = [range(1, len(one) + 1) for one in values]
                band(axes, places, values, color=color, label=label)
        axes.set_title(choice.replace(" --", "\n--") or "--preset paper")
    label_below(grid, 3, "iterations")
    figure.supylabel(
        "mean return of the perturbed policies: median and range of three seeds",
        fontsize="medium",
    )
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
