"""New policies, taught by the V of a run without a single episode of their own.

EPVF trains policies of 16-16 hidden units with perturbations that are wide at first,
and keeps all that it tried. V reads what a policy answers in learned probing states, so
that it can judge policies of any shape. It is fitted to the whole archive; then new
random policies climb it by Adam: of the same shape, of another one, and linear ones.
They stop where V says more than of any policy in its data, or at the end; returns are
looked at afterwards. Controls: V of shuffled returns, V whose probes do not learn, and
the climb of the run's own policy.

    python benchmarks/zero_shot.py
"""

from typing import Any

import numpy as np
from _study import study_here
from _style import in_style, label_below, legend_below, panels
from _teaching import explore, fit_value, new_policies, teach
from matplotlib.figure import Figure


# By task, settings of the run other than `EXPLORER`'s.
TASKS: dict[str, dict[str, Any]] = {"cartpole": {}}
_CRITICS = ("learned", "frozen", "shuffled")
_SHAPES = {"16-16": (16, 16), "64-64": (64, 64), "linear": ()}
_NEW, _EPISODES, _CHECKS, _EVERY = 4, 5, 16, 40
_PROBES = 16


def main() -> None:
    study_here(
        "zero_shot",
        "zero-shot",
        __doc__,
        list(TASKS),
        _one_run,
        _table,
        draw,
        seeds=5,
    )


def _one_run(task: str, seed: int) -> list[dict[str, Any]]:
    explored = explore(task, TASKS[task], seed)
    view = explored.search.view
    own = explored.weights[None]
    trained = float(explored.returns_of(view, own, 20, seed=seed)[0])
    rows = []
    for critic in _CRITICS:
        judge = fit_value(explored, _PROBES, kind=critic, seed=seed)
        for shape, hidden in _SHAPES.items():
            students, starts = new_policies(explored, hidden, _NEW, seed=100 + seed)
            rows += _lesson(explored, judge, students, starts, critic, shape, seed)
        rows += _lesson(explored, judge, view, own, critic, "its own", seed)
    return [
        {
            "task": task,
            "seed": seed,
            "trained": trained,
            "best_seen": explored.best_seen,
        }
        | row
        for row in rows
    ]


def _lesson(
    explored: Any,
    judge: Any,
    view: Any,
    starts: Any,
    critic: str,
    shape: str,
    seed: int,
) -> list[dict[str, Any]]:
    """A row for each policy that is taught."""
    taught = teach(judge.value, view, starts, checks=_CHECKS, every=_EVERY)
    checks, count, size = taught.weights.shape
    returns = explored.returns_of(
        view, taught.weights.reshape(-1, size), _EPISODES, seed=seed
    ).reshape(checks, count)
    rows = []
    for number in range(count):
        values = taught.values[:, number]
        above = np.flatnonzero(values >= judge.ceiling)
        stop = int(above[0]) if len(above) else checks - 1
        rows.append(
            {
                "critic": critic,
                "policy": shape,
                "updates": taught.updates.tolist(),
                "returns": _rounded(returns[:, number]),
                "values": _rounded(values),
                "ceiling": float(f"{judge.ceiling:.4g}"),
                "stop": stop,
            }
        )
    print(
        f"{critic:9} {shape:8} "
        + "  ".join(
            f"{row['returns'][0]:.0f} > {row['returns'][row['stop']]:.0f} "
            f"(end {row['returns'][-1]:.0f})"
            for row in rows
        ),
        flush=True,
    )
    return rows


def _rounded(numbers: np.ndarray) -> list[float]:
    return [float(f"{x:.4g}") for x in numbers]


def _table(rows: list[dict[str, Any]]) -> str:
    """One line a task, critic and kind of policy."""
    lines = [
        "| Task | Runs' policies | Probes of V | New policies | At the start | "
        "When V stops them | At the end | Best of all |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, critic, shape in dict.fromkeys(
        (row["task"], row["critic"], row["policy"]) for row in rows
    ):
        mine = [
            row
            for row in rows
            if (row["task"], row["critic"], row["policy"]) == (task, critic, shape)
        ]
        trained = np.median(
            list({row["seed"]: row["trained"] for row in mine}.values())
        )
        first = np.median([row["returns"][0] for row in mine])
        stop = [row["returns"][row["stop"]] for row in mine]
        end = [row["returns"][-1] for row in mine]
        lines.append(
            f"| {task} | {trained:.0f} | {critic} | {shape} | {first:.0f} | "
            f"{_spread(stop)} | {_spread(end)} | {max(stop):.0f} |"
        )
    return "\n".join(lines)


def _spread(numbers: list[float]) -> str:
    low, middle, high = np.percentile(numbers, [25, 50, 75])
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


@in_style()
def draw(rows: list[dict[str, Any]]) -> Figure:
    """Returns along the climb: a panel a task and kind of policy."""
    pairs = list(dict.fromkeys((row["task"], row["policy"]) for row in rows))
    figure, grid = panels(len(pairs), 2, 2.1, sharex=True)
    colors = dict(zip(_CRITICS, ("tab:blue", "tab:orange", "tab:gray"), strict=True))
    updates = np.arange(_CHECKS + 1) * _EVERY
    for axes, (task, shape) in zip(grid, pairs, strict=True):
        for critic, color in colors.items():
            mine = [
                row["returns"]
                for row in rows
                if (row["task"], row["critic"], row["policy"]) == (task, critic, shape)
            ]
            low, middle, high = np.percentile(mine, [25, 50, 75], axis=0)
            axes.plot(updates, middle, color=color, label=f"probes of V: {critic}")
            axes.fill_between(updates, low, high, color=color, alpha=0.2, lw=0)
        mean = np.mean([row["trained"] for row in rows if row["task"] == task])
        axes.axhline(mean, color="black", linestyle=":", linewidth=1)
        axes.set(title=f"{task}: {shape}", ylim=(0, None))
    label_below(grid, 2, "steps up V")
    figure.supylabel("return", fontsize="medium")
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
