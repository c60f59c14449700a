"""GoGePo commanded other things than the return, and with a latent beside the command.

Every run has one core. Runs are kept in `runs/benchmarks`, so that this can be stopped
and started again.

    python benchmarks/gogepo_kinds.py
"""

from collections.abc import Sequence
from typing import Any

from _common import as_table
from _gogepo import draw_commands, result_of_generator, TRAINER
from _groups import summarise
from _runs import Training
from _study import study
from _style import in_style, legend_below, panels
from matplotlib.figure import Figure


_SEEDS = range(3)
_SPEED = "--command-kind speed"
# Without what leads to high returns: no return is commanded, or not alone.
_PLAIN = "--climb 0 --evenly 0 --loss evaluator --archive 32"
# By task and name: flags of the run.
KINDS = {
    ("cartpole", "return and length"): "--command-kind return-length",
    ("cartpole", "speed"): _SPEED,
    ("cartpole", "return, latent"): "--generator latent",
    ("swimmer", "speed"): "--hidden --noise-scale 0.5 --noise-schedule linear "
    f"--iterations 60 {_SPEED}",
}
_TITLES = (
    *("task", "command", "steps", "least and best commanded"),
    *("rank correlations", "mean errors", "latents' share"),
)


def main() -> None:
    study(
        "gogepo_kinds",
        "kinds",
        __doc__,
        list(dict.fromkeys(task for task, _ in KINDS)),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of_generator(run, ""),
        tabulate=_tabulate,
        lay_out=_markdown,
        page="gogepo.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training(
            (task, name.replace(", ", "-").replace(" ", "-")),
            f"--env {task} {_PLAIN} {flags}",
            seed,
            TRAINER,
        )
        for (task, name), flags in KINDS.items()
        if task in tasks
        for seed in _SEEDS
    ]


def _tabulate(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`summarise`, with the ends of what was commanded and the latents' shares."""
    table = summarise(runs)
    for row in table:
        mine = [run for run in runs if run["group"] == row["group"]]
        given = [[command[0] for command in run["commanded"]] for run in mine]
        row["commanded"] = [[firsts[0], firsts[-1]] for firsts in given]
        if "latent_share" in mine[0]:
            row["latent_share"] = [run["latent_share"] for run in mine]
    return table


def _markdown(table: list[dict[str, Any]]) -> str:
    rows = []
    for row in table:
        task, name = row["group"]
        shares = [f"{x:.2f}" for x in row.get("latent_share", [])]
        cells = [
            f"`{task}`",
            name,
            f"{row['env_steps'] / 1e6:.1f} M",
            ", ".join(f"{low:.3g} to {high:.3g}" for low, high in row["commanded"]),
            ", ".join(f"{x:.2f}" for x in row["rank_correlation"]),
            ", ".join(f"{x:.3g}" for x in row["mean_error"]),
            ", ".join(shares),
        ]
        rows.append(cells)
    return as_table(_TITLES, rows)


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    groups = list(dict.fromkeys(tuple(run["group"]) for run in runs))
    figure, grid = panels(len(groups), 2, 2.5)
    for axes, group in zip(grid, groups, strict=True):
        draw_commands(axes, [run for run in runs if tuple(run["group"]) == group])
        what = group[1].split("-")[0]
        axes.set(title=", ".join(group), xlabel=f"commanded {what}", ylabel=what)
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
