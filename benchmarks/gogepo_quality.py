"""GoGePo's dial beside MAP-Elites: how many speeds they have, and how good at each.

Speeds are put into equal cells. GoGePo is commanded the middle of each of them, and
MAP-Elites keeps a policy in each, after as many environment steps. A policy's speed and
return are means over fresh episodes; what was kept because its own episodes were lucky
is shown beside that. Every run has one core. Runs are kept in `runs/benchmarks`, so
that this can be stopped and started again.

    python benchmarks/gogepo_quality.py
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from _common import as_table, fill, RESULTS, write
from _gogepo import TRAINER
from _quality import Found, open_elites, open_generator, run_again, score
from _runs import train_all, Training
from _style import in_style, panels
from matplotlib.figure import Figure

from applications.envs import make
from applications.evolution import MAPElitesConfig


class _Task(NamedTuple):
    """What is done in a task.

    Attributes:
        gogepo: Flags.
        elites: Flags of MAP-Elites.
        offset: What returns are counted from, less than what is kept in any cell.
    """

    gogepo: str
    elites: str
    offset: float


_SEEDS = range(3)
_EPISODES = 10
_CELLS = MAPElitesConfig().cells
TASKS = {
    # As in GoGePo observations are standardised, and noise on weights is as large.
    "swimmer": _Task(
        "--hidden --iterations 40",
        "--hidden --normalise --iso-scale 0.1 --eval-episodes 2",
        -300.0,
    ),
}
_DIAL, _ARCHIVE, _ELITES = "GoGePo's dial", "GoGePo's archive", "MAP-Elites"
_SAID, _AGAIN = "as kept", "fresh episodes"
_COLOURS = {_DIAL: "tab:purple", _ARCHIVE: "tab:gray", _ELITES: "tab:green"}
_TITLES = (
    *("task", "policies", "judged by", "steps", "coverage", "in their own cells"),
    *("QD scores", "best returns"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", type=int, default=len(_SEEDS))
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    asked = parser.parse_args()
    runs = [(task, seed) for task in asked.tasks for seed in range(asked.seeds)]
    train_all([_generator(*run) for run in runs], asked.cores)
    train_all([_elites(*run) for run in runs], asked.cores)
    fresh = [row for run in runs for row in _examine(*run)]
    results = RESULTS / "gogepo_quality.json"
    known = json.loads(results.read_text())["rows"] if results.is_file() else []
    rows = [
        row
        for task in TASKS
        for row in (fresh if task in asked.tasks else known)
        if row["task"] == task
    ]
    print(markdown(rows))
    fill("gogepo.md", "quality", markdown(rows))
    content = {
        "cells": _CELLS,
        "ends": {task: _ends(task) for task in TASKS},
        "offsets": {task: of_task.offset for task, of_task in TASKS.items()},
        "episodes": _EPISODES,
        "rows": rows,
    }
    figure = draw(rows, content["ends"], _CELLS)
    write("gogepo_quality", "python benchmarks/gogepo_quality.py", content, figure)


def _ends(task: str) -> tuple[float, float]:
    """Of the speeds, as MAP-Elites has them unless told otherwise."""
    speed: Any = make(task, physics="mujoco").facts.signal("speed")
    return speed.low, speed.high


def _generator(task: str, seed: int) -> Training:
    flags = f"--env {task} {TASKS[task].gogepo} --command-kind speed-return"
    return Training((task, "gogepo"), " ".join(flags.split()), seed, TRAINER)


def _elites(task: str, seed: int) -> Training:
    """With as many steps as GoGePo has made, whose run must be done."""
    metrics = (_generator(task, seed).directory / "metrics.jsonl").read_text()
    steps = json.loads(metrics.splitlines()[-1])["env_steps"]
    flags = f"--algorithm map-elites --env {task} --steps {steps} {TASKS[task].elites}"
    trainer = "applications.baselines.train"
    return Training((task, "map-elites"), flags, seed, trainer)


def _examine(task: str, seed: int) -> list[dict[str, Any]]:
    """What the dial, the archive and MAP-Elites have in each cell."""
    elites = open_elites(_elites(task, seed).directory)
    generator = open_generator(_generator(task, seed).directory, _ends(task), _CELLS)
    found = []
    for name, opened, parts in (
        (_DIAL, generator, [(_AGAIN, generator.dial)]),
        (
            _ARCHIVE,
            generator,
            [(_SAID, generator.archive), (_AGAIN, generator.archive)],
        ),
        (_ELITES, elites, [(_SAID, elites.kept), (_AGAIN, elites.kept)]),
    ):
        for judged, policies in parts:
            if judged == _AGAIN:
                policies = run_again(opened, policies, episodes=_EPISODES, seed=seed)
            found.append(_row(task, seed, name, judged, opened.steps, policies))
    return found


def _row(
    task: str, seed: int, name: str, judged: str, steps: int, policies: Found
) -> dict[str, Any]:
    training = (_elites if name == _ELITES else _generator)(task, seed)
    digits = lambda values: [float(f"{x:.5g}") for x in values]
    return {
        "task": task,
        "policies": name,
        "judged": judged,
        "seed": seed,
        "command": training.command,
        "steps": steps,
        **score(policies, _ends(task), _CELLS, TASKS[task].offset),
        "cells": policies.cells.tolist(),
        "speeds": digits(policies.speeds),
        "returns": digits(policies.returns),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table, a line for each way, with the numbers of its seeds."""
    lines = []
    names = lambda row: (row["task"], row["policies"], row["judged"])
    for group in dict.fromkeys(map(names, rows)):
        mine = [row for row in rows if names(row) == group]
        task, policies, judged = group
        steps = np.mean([row["steps"] for row in mine]) / 1e6
        cells = [
            *(f"`{task}`", policies, judged, f"{steps:.1f} M"),
            ", ".join(f"{row['coverage']:.0%}" for row in mine),
            ", ".join(f"{row['own']:.0%}" for row in mine),
            ", ".join(f"{row['qd_score']:,.0f}" for row in mine),
            ", ".join(f"{row['best_return']:.0f}" for row in mine),
        ]
        lines.append(cells)
    return as_table(_TITLES, lines)


@in_style()
def draw(
    rows: Sequence[dict[str, Any]], ends: dict[str, tuple[float, float]], cells: int
) -> Figure:
    """The speed of each policy in fresh episodes, by the cell that it is there for."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, grid = panels(len(_COLOURS) * len(tasks), len(_COLOURS), 2.9, sharey="row")
    places = [(task, name) for task in tasks for name in _COLOURS]
    for axes, (task, name) in zip(grid, places, strict=True):
        low, high = ends[task]
        axes.plot([low, high], [low, high], ":", color="gray")
        for row in rows:
            if (row["task"], row["policies"], row["judged"]) == (task, name, _AGAIN):
                middles = low + (np.array(row["cells"]) + 0.5) / cells * (high - low)
                dots = {"ms": 4, "alpha": 0.7, "color": _COLOURS[name]}
                axes.plot(middles, row["speeds"], ".", **dots)
        axes.set_title(f"{task}: {name}", fontsize="medium")
        axes.set_xlabel("speed of its cell")
    for axes in grid[:: len(_COLOURS)]:
        axes.set_ylabel("speed in fresh episodes")
    return figure


if __name__ == "__main__":
    main()
