"""A benchmark of many training runs: its command line, its table and its files."""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from _common import fill, RESULTS, write
from _groups import markdown, summarise
from _runs import Identity, train_all, Training
from matplotlib.figure import Figure


Rows = list[dict[str, Any]]


def study(
    name: str,
    place: str,
    description: str | None,
    tasks: Sequence[str],
    trainings: Callable[[Sequence[str]], list[Training]],
    draw: Callable[[Rows, Rows], Figure],
    *,
    examine: Callable[[Training], dict[str, Any] | None],
    mark: Callable[[dict[str, Any]], None] = lambda row: None,
    tabulate: Callable[[Rows], Rows] = summarise,
    lay_out: Callable[[Rows], str] = markdown,
    also: Sequence[str] = (),
    page: str = "learning.md",
) -> None:
    """Makes the runs that are not there yet, and writes what came of all of them.

    With `--keep` a run is there too if the results tell of it, so that a benchmark can
    be completed where its earlier runs are not at hand. They are told apart by their
    commands: where a default has changed since, they are to be made anew.

    Args:
        name: Of the script, and of its files.
        place: Of its table in the page.
        description: For `--help`.
        tasks: All tasks.
        trainings: The runs on some of them.
        draw: From table and runs to a picture.
        examine: What `result_of` or more gives of a run.
        mark: Adds to a row of the table.
        tabulate: From runs to the table.
        lay_out: From the table to Markdown.
        also: Names of other scripts whose results may tell of the same runs.
        page: Of the docs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tasks", nargs="*", default=list(tasks), choices=tasks)
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep what the results tell of runs that are not there",
    )
    arguments = parser.parse_args()
    kept = _recorded(name, *also) if arguments.keep else {}
    chosen = trainings(arguments.tasks)
    train_all([run for run in chosen if run.identity not in kept], arguments.cores)
    found = [examine(run) or kept.get(run.identity) for run in trainings(tasks)]
    runs = [run for run in found if run is not None]
    table = tabulate(runs)
    for row in table:
        mark(row)
    print(lay_out(table))
    fill(page, place, lay_out(table))
    command = f"python benchmarks/{name}.py"
    write(name, command, {"table": table, "runs": runs}, draw(table, runs))


def study_here(
    name: str,
    place: str,
    description: str | None,
    tasks: Sequence[str],
    one_run: Callable[[str, int], Rows],
    tabulate: Callable[[Rows], str],
    draw: Callable[[Rows], Figure],
    *,
    seeds: int,
    page: str = "experiments.md",
) -> None:
    """Does an experiment for tasks and seeds in this process, and writes its results.

    Rows that the results have of other tasks stay.

    Args:
        name: Of the script, and of its files.
        place: Of its table in the page.
        description: For `--help`.
        tasks: All tasks.
        one_run: From a task and a seed to rows, which name them.
        tabulate: From rows to a table in Markdown.
        draw: From rows to a picture.
        seeds: How many, unless told otherwise.
        page: Of the docs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tasks", nargs="*", default=list(tasks), choices=tasks)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    fresh = [
        row
        for task in arguments.tasks
        for seed in range(arguments.seeds)
        for row in one_run(task, seed)
    ]
    results = RESULTS / f"{name}.json"
    known = json.loads(results.read_text())["rows"] if results.is_file() else []
    rows = [
        row
        for task in tasks
        for row in (fresh if task in arguments.tasks else known)
        if row["task"] == task
    ]
    print(tabulate(rows))
    if not arguments.dry:
        write(name, f"python benchmarks/{name}.py", {"rows": rows}, draw(rows))
        fill(page, place, tabulate(rows))


def _recorded(*names: str) -> dict[Identity, dict[str, Any]]:
    """The runs in results that are there, with the machine of each."""
    found = {}
    for path in (RESULTS / f"{name}.json" for name in reversed(names)):
        if path.is_file():
            record = json.loads(path.read_text())
            for run in record["runs"]:
                identity = (tuple(run["group"]), run["seed"], run["command"])
                found[identity] = {"machine": record["machine"]} | run
    return found
