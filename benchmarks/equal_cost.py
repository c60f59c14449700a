"""EPVF, actor-critic, PPO and SAC at equal environment steps, and at equal seconds.

PPO and SAC are Stable-Baselines3's on the C engine, as RL Baselines3 Zoo tunes them;
EPVF is that of `epvf_tasks`, the actor-critic that of `pvf_tasks`. Every run has one
core, and each algorithm as many steps as it makes in five to ten minutes of it. Runs
are kept, so this can be stopped and started again. Seconds mean something only where
nothing else runs.

    python benchmarks/equal_cost.py --cores 0
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import as_table
from _runs import result_of, Training
from _study import study
from _style import band, in_style, legend_below, panels
from epvf_tasks import TASKS as EPVF_TASKS
from matplotlib.figure import Figure
from pvf_tasks import DEEP, TASKS as PVF_TASKS

from applications.baselines.tuned import TUNED
from applications.training import colour_of, interquartile_mean


_TASKS = ("half_cheetah", "swimmer", "hopper")
_SEEDS = range(3)
_PVF = {
    "half_cheetah": PVF_TASKS["half_cheetah"][1]["64-64"],
    "swimmer": PVF_TASKS["swimmer"][1]["linear"],
    "hopper": f"{DEEP} --steps 300000 --no-survival-bonus",
}
# The zoo tunes them for a million.
_STEPS = {"sb3-ppo": 300_000, "sb3-sac": 30_000}
# What is equal: by the column of the metrics its name, and how much of it.
_BUDGETS = {
    "env_steps": ("steps", (32_000, 300_000, 6_400_000)),
    "seconds": ("seconds", (60, 120, 240)),
}
# Of a budget that a run must have used to be asked.
_USED = 0.9


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
        page="baselines.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    found = []
    for task in tasks:
        bonus = " --no-survival-bonus" if task == "hopper" else ""
        commands = {
            "epvf": ("applications.epvf.train", EPVF_TASKS[task][1]["epvf"]),
            "pvf": ("applications.pvf.train", _PVF[task]),
        }
        for name, steps in _STEPS.items():
            own = f"--algorithm {name} {TUNED[name][task]}".strip()
            own += f" --steps {steps} --iterations 50{bonus}"
            commands[name] = ("applications.baselines.train", own)
        found += [
            Training((task, name), f"--env {task} {flags}", seed, module)
            for name, (module, flags) in commands.items()
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
        The return; None if the first row is beyond the budget, or the run had ended
        long before.
    """
    if run[cost][-1] < _USED * budget:
        return None
    rows = zip(run[cost], run["return_policy"], strict=True)
    within = [value for spent, value in rows if spent <= budget and value is not None]
    return within[-1] if within else None


def tabulate(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a task and algorithm.

    Args:
        runs: What `result_of` gives.

    Returns:
        By cost and budget each seed's return, and their interquartile mean if each has
        one.
    """
    table = []
    for group in dict.fromkeys(tuple(run["group"]) for run in runs):
        row: dict[str, Any] = {"group": list(group)}
        mine = [run for run in runs if tuple(run["group"]) == group]
        row["seeds"] = [run["seed"] for run in mine]
        for cost, (_, budgets) in _BUDGETS.items():
            row[cost] = []
            for budget in budgets:
                returns = [at_budget(run, cost, budget) for run in mine]
                known = [value for value in returns if value is not None]
                mean = None
                if len(known) == len(mine):
                    mean = float(interquartile_mean(np.array(known)))
                row[cost].append(
                    {"budget": budget, "returns": returns, "interquartile_mean": mean}
                )
        table.append(row)
    return table


def lay_out(table: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table.

    Args:
        table: What `tabulate` gives.

    Returns:
        The lines.
    """
    titles = ["task", "algorithm", "seeds"]
    for name, budgets in _BUDGETS.values():
        titles += [f"{budget:,} {name}" for budget in budgets]
    rows = []
    for row in table:
        task, algorithm = row["group"]
        means = [own["interquartile_mean"] for cost in _BUDGETS for own in row[cost]]
        rows.append(
            [
                f"`{task}`",
                algorithm,
                str(len(row["seeds"])),
                *("-" if mean is None else f"{mean:,.0f}" for mean in means),
            ]
        )
    return as_table(titles, rows)


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    tasks = list(dict.fromkeys(run["group"][0] for run in runs))
    figure, grid = panels(2 * len(tasks), 2, 2.3)
    places = [(task, cost) for task in tasks for cost in _BUDGETS]
    for axes, (task, cost) in zip(grid, places, strict=True):
        mine = [run for run in runs if run["group"][0] == task]
        for algorithm in dict.fromkeys(run["group"][1] for run in mine):
            its = [run for run in mine if run["group"][1] == algorithm]
            band(
                axes,
                [run[cost] for run in its],
                [run["return_policy"] for run in its],
                color=colour_of(algorithm),
                label=algorithm,
            )
        axes.set_xscale("log")
        axes.set_title(f"{task}, by {_BUDGETS[cost][0]}")
    grid[-2].set_xlabel("environment steps")
    grid[-1].set_xlabel("seconds on one core")
    figure.supylabel("return of the policy", fontsize="medium")
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
