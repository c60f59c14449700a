"""A benchmark of many training runs: its command line, its table and its files."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from _common import fill, write
from _groups import markdown, summarise
from _runs import train_all, Training
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
    page: str = "learning.md",
) -> None:
    """Makes the runs that are not there yet, and writes what came of all of them.

    Args:
        name: Of the script, and of its files.
        place: Of its table in the page.
        description: For `--help`.
        tasks: All tasks.
        trainings: The runs on some of them.
        draw: From table and runs to a picture.
        examine: What `result_of` or more gives of a run.
        mark: Adds to a row of the table.
        page: Of the docs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--tasks", nargs="*", default=list(tasks), choices=tasks)
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    arguments = parser.parse_args()
    train_all(trainings(arguments.tasks), arguments.cores)
    found = [examine(run) for run in trainings(tasks)]
    runs = [run for run in found if run is not None]
    table = summarise(runs)
    for row in table:
        mark(row)
    print(markdown(table))
    fill(page, place, markdown(table))
    command = f"python benchmarks/{name}.py"
    write(name, command, {"table": table, "runs": runs}, draw(table, runs))
