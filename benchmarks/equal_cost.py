"""EPVF, PPO and SAC at equal environment steps, and at equal seconds on one core.

PPO and SAC are Stable-Baselines3's on the C engine, as RL Baselines3 Zoo tunes them;
EPVF is that of `epvf_tasks`. Every run has one core. Runs are kept, so this can be
stopped and started again. A task takes hours: its SAC makes about a hundred steps a
second.

    python benchmarks/equal_cost.py --tasks half_cheetah
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import as_table
from _runs import result_of, Training
from _study import study
from epvf_tasks import TASKS as EPVF_TASKS
from matplotlib.figure import Figure

from applications.baselines.tuned import TUNED
from applications.training import bootstrap_interval, interquartile_mean


_TASKS = (
    "inverted_pendulum",
    "mountain_car_continuous",
    "swimmer",
    "half_cheetah",
    "hopper",
)
_SEEDS = range(3)
# Of SAC where the zoo says no number of its own; of the others it is the default.
_SAC_STEPS = 200_000
# What is equal, by the column of the metrics.
_COSTS = {"env_steps": "steps", "seconds": "seconds"}


def main() -> None:
    study(
        "equal_cost",
        "equal cost",
        __doc__,
        _TASKS,
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(run, "return_policy"),
        tabulate=tabulate,
        lay_out=lay_out,
        also=["epvf_tasks"],
        page="baselines.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    found = []
    for task in tasks:
        epvf = f"--env {task} {EPVF_TASKS[task][1]['epvf']}"
        found += [Training((task, "epvf"), epvf, seed) for seed in _SEEDS]
        for algorithm, flags in TUNED.items():
            own = f"--env {task} {flags[task]}".strip()
            if algorithm == "sb3-sac" and "--steps" not in own:
                own += f" --steps {_SAC_STEPS}"
            own += f" --iterations 50 --algorithm {algorithm}"
            found += [
                Training((task, algorithm), own, seed, "applications.baselines.train")
                for seed in _SEEDS
            ]
    return found


def at_budget(run: dict[str, Any], cost: str, budget: float) -> float | None:
    """The policy's return in the last row within a budget.

    Args:
        run: What `result_of` gives.
        cost: `env_steps` or `seconds`.
        budget: How much of it.

    Returns:
        The return; None if the first row is beyond the budget.
    """
    rows = zip(run[cost], run["return_policy"], strict=True)
    within = [value for spent, value in rows if spent <= budget and value is not None]
    return within[-1] if within else None


def tabulate(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a task and algorithm.

    The budgets of a task are what its cheapest algorithm has spent in its longest run:
    all have rows up to there.

    Args:
        runs: What `result_of` gives.

    Returns:
        By cost its budget, each seed's return within it, and their interquartile mean
        with its interval.
    """
    table = []
    groups = dict.fromkeys(tuple(run["group"]) for run in runs)
    for group in groups:
        row: dict[str, Any] = {"group": list(group)}
        mine = [run for run in runs if tuple(run["group"]) == group]
        for cost in _COSTS:
            spent: dict[str, float] = {}
            for run in (run for run in runs if run["group"][0] == group[0]):
                name = run["group"][1]
                spent[name] = max(spent.get(name, 0.0), run[cost][-1])
            budget = min(spent.values())
            returns = [at_budget(run, cost, budget) for run in mine]
            known = np.array([value for value in returns if value is not None])
            row[cost] = {"budget": budget, "returns": returns}
            if known.size:
                low, high = bootstrap_interval(known)
                row[cost] |= {
                    "interquartile_mean": float(interquartile_mean(known)),
                    "interval": [float(low), float(high)],
                }
        table.append(row)
    return table


def lay_out(table: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table.

    Args:
        table: What `tabulate` gives.

    Returns:
        The lines.
    """
    titles = ["task", ""]
    for name in _COSTS.values():
        titles += [f"equal {name}", "returns of the seeds", "IQM (95 %)"]
    rows = []
    for row in table:
        task, algorithm = row["group"]
        cells = [f"`{task}`", algorithm]
        for cost in _COSTS:
            own = row[cost]
            cells.append(f"{own['budget']:,.0f}")
            told = ["-" if x is None else f"{x:.0f}" for x in own["returns"]]
            cells.append(", ".join(told))
            cells.append("-")
            if "interval" in own:
                low, high = own["interval"]
                mean = own["interquartile_mean"]
                cells[-1] = f"{mean:.0f} ({low:.0f} to {high:.0f})"
        rows.append(cells)
    return as_table(titles, rows)


def _draw(runs: list[dict[str, Any]]) -> Figure:
    tasks = list(dict.fromkeys(run["group"][0] for run in runs))
    algorithms = list(dict.fromkeys(run["group"][1] for run in runs))
    size = (3.4 * len(tasks), 5.6)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(_COSTS), len(tasks), squeeze=False)
    for line, (cost, name) in zip(panels, _COSTS.items(), strict=True):
        for axes, task in zip(line, tasks, strict=True):
            labelled = set()
            for run in (run for run in runs if run["group"][0] == task):
                algorithm = run["group"][1]
                values = [np.nan if x is None else x for x in run["return_policy"]]
                axes.plot(
                    run[cost],
                    values,
                    color=f"C{algorithms.index(algorithm)}",
                    linewidth=1,
                    label=None if algorithm in labelled else algorithm,
                )
                labelled.add(algorithm)
            axes.set(title=task, xlabel=name, xscale="log")
            axes.grid(alpha=0.3)
    panels[0, 0].legend(fontsize="small")
    figure.supylabel("return of the policy, one line a seed")
    return figure


if __name__ == "__main__":
    main()
