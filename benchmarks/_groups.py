"""Tables and pictures of runs in groups: a task, and what was varied on it."""

from typing import Any

import numpy as np
from _common import as_table
from _style import in_style, panels
from matplotlib.figure import Figure

from applications.training import bootstrap_interval, interquartile_mean


# Iterations at the end over which the perturbed policies' returns are averaged.
_LAST_POINTS = 10
# Returns below are shown with decimals.
_LARGE = 20.0
# What a curve of commands comes to.
_OF_CURVES = {
    "rank_correlation": ("rank correlations", ".2f"),
    "best_achieved": ("best achieved", ".0f"),
    "mean_error": ("mean errors, of the range commanded", ".0f"),
}
# Of a run up to some step, over which returns of a noisy curve are averaged.
_LAST_SHARE = 0.1


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a group.

    Args:
        runs: What `_runs.result_of` gives, with `return_perturbed_mean`.

    Returns:
        Each seed's return, interquartile mean and its interval, the perturbed
        policies' return at the end, what the seeds' curves of commands come to, and
        medians of steps and seconds.
    """
    table = []
    for group in dict.fromkeys(tuple(run["group"]) for run in runs):
        mine = [run for run in runs if tuple(run["group"]) == group]
        returns = np.array([run["mean_return"] for run in mine])
        low, high = bootstrap_interval(returns)
        row: dict[str, Any] = {
            "group": list(group),
            "mean_returns": returns.tolist(),
            "interquartile_mean": float(interquartile_mean(returns)),
            "interval": [float(low), float(high)],
            "env_steps": float(np.median([run["steps"] for run in mine])),
            "seconds": float(np.median([run["wall_seconds"] for run in mine])),
        }
        if "return_perturbed_mean" in mine[0]:
            row["perturbed_at_the_end"] = [_at_the_end(run) for run in mine]
        row |= {
            name: [run[name] for run in mine] for name in _OF_CURVES if name in mine[0]
        }
        if "commanded" in mine[0]:
            row["commanded_range"] = float(np.median([_range(run) for run in mine]))
        table.append(row)
    return table


def at_equal_steps(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `summarise`, and how all stood when the first of the task ended.

    Args:
        runs: What `_runs.result_of` gives, with `return_policy`.

    Returns:
        The rows. `equal_steps` is the least number of steps of a run of the task, in
        `at_equal_steps` is each seed's return there: the mean of its policies over the
        last tenth of these steps.
    """
    table = summarise(runs)
    for row in table:
        task = row["group"][0]
        steps = min(run["steps"] for run in runs if run["group"][0] == task)
        mine = [run for run in runs if run["group"] == row["group"]]
        row["equal_steps"] = steps
        row["at_equal_steps"] = [_stood(run, steps) for run in mine]
    return table


def _stood(run: dict[str, Any], steps: float) -> float:
    taken = np.array(run["env_steps"], float)
    returns = np.array(run["return_policy"], float)
    there = (taken <= steps) & np.isfinite(returns)
    late = there & (taken > (1 - _LAST_SHARE) * steps)
    return float(np.mean(returns[late])) if late.any() else float(returns[there][-1])


def _at_the_end(run: dict[str, Any]) -> float:
    values = [value for value in run["return_perturbed_mean"] if value is not None]
    return float(np.mean(values[-_LAST_POINTS:]))


def markdown(table: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table.

    Args:
        table: What `summarise` or `at_equal_steps` gives.

    Returns:
        The lines.
    """
    columns = [
        "task",
        "",
        "steps",
        "seconds",
        "mean returns of the seeds",
        "IQM (95 %)",
    ]
    equal = "at_equal_steps" in table[0]
    if equal:
        columns.append("at equal steps")
    of_curves = {k: v for k, v in _OF_CURVES.items() if any(k in row for row in table)}
    columns += [title for title, _ in of_curves.values()]
    rows = []
    for row in table:
        task, name = row["group"]
        shown = ".0f" if _largest(table, task) >= _LARGE else ".2f"
        cells = [
            f"`{task}`",
            name,
            f"{row['env_steps'] / 1e6:.1f} M",
            f"{row['seconds']:.0f}",
            _joined(row["mean_returns"], shown),
            middle(row, shown),
        ]
        if equal:
            at = f"{row['equal_steps'] / 1e6:.1f} M"
            cells.append(f"{_joined(row['at_equal_steps'], shown)} (at {at})")
        cells += [_joined(row.get(k, []), v) for k, (_, v) in of_curves.items()]
        if "mean_error" in of_curves and "commanded_range" in row:
            cells[-1] += f" of {row['commanded_range']:,.0f}"
        rows.append(cells)
    return as_table(columns, rows)


def middle(row: dict[str, Any], shown: str) -> str:
    """The interquartile mean, and its interval if there are seeds to have one of.

    Args:
        row: Of `summarise`.
        shown: How numbers are shown, as of `format`.

    Returns:
        What stands in a table.
    """
    middle = f"{row['interquartile_mean']:{shown}}"
    if len(row["mean_returns"]) == 1:
        return middle
    low, high = row["interval"]
    return f"{middle} ({low:{shown}} to {high:{shown}})"


def _range(run: dict[str, Any]) -> float:
    """From the least return that was commanded to the largest."""
    returns = [command[0] for command in run["commanded"]]
    return max(returns) - min(returns)


def _largest(table: list[dict[str, Any]], task: str) -> float:
    """The largest return of a task, whatever its sign."""
    mine = [row["mean_returns"] for row in table if row["group"][0] == task]
    return max(abs(x) for returns in mine for x in returns)


def _joined(values: list[float | None], pattern: str) -> str:
    return ", ".join("-" if x is None else format(x, pattern) for x in values)


@in_style()
def draw_dots(table: list[dict[str, Any]], title: str) -> Figure:
    """A panel a task, a line a group: dots for seeds, a bar for the IQM's interval.

    Args:
        table: What `summarise` gives.
        title: Of the picture.

    Returns:
        The picture.
    """
    tasks = list(dict.fromkeys(row["group"][0] for row in table))
    names = list(dict.fromkeys(row["group"][1] for row in table))
    columns = min(len(tasks), 2)
    figure, grid = panels(len(tasks), columns, 0.25 * len(names) + 0.8, sharey=True)
    for axes, task in zip(grid, tasks, strict=True):
        for row in (row for row in table if row["group"][0] == task):
            y = names.index(row["group"][1])
            seeds = row["mean_returns"]
            axes.plot(row["interval"], [y, y], color="tab:blue", lw=6, alpha=0.25)
            axes.plot(seeds, [y] * len(seeds), "o", ms=4, color="tab:blue", alpha=0.7)
            axes.plot(row["interquartile_mean"], y, "|", color="black", ms=12, mew=2)
        axes.set_title(task)
    for axes in grid[-columns:]:
        axes.set_xlabel("return of 100 fresh episodes")
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    figure.suptitle(title)
    return figure
