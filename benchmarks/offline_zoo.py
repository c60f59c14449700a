"""How well encoders read networks, `nfn` beside them: the table of the docs.

Every encoder runs in a process of its own on one core, so that seconds compare. Rows
that are there already are kept, so the benchmark can be stopped and started again;
delete the file of rows to make all anew.

    python benchmarks/offline_zoo.py --nfn-python PATH
"""

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from _common import fill, ROOT, write
from _runs import environment, on_cores
from _zoo_figure import draw
from _zoo_peer import peer_row, PEERS

from benchmarks.zoo import (
    find,
    markdown,
    names_for,
    Settings,
    summary,
    table,
    TASKS,
)


# Rows of the most seconds are asked where they tell something: the other tasks have
# `--encoder` for them.
DEAR = ("transformer", "scale-graph")
SOME = {
    "digits-inr-shared": ("flat", "statistics"),
    "digits-inr-shuffled": (
        "flat",
        "flat-augmented",
        "flat-matched",
        "statistics",
        "probing",
        "equivariant-np",
        "forward-graph",
        "pixels",
    ),
    "dilation": (
        "identity",
        "mean-image",
        "flat",
        "statistics",
        "random-probes",
        "probing",
        "equivariant",
        "equivariant-np",
        "graph",
        "forward-graph",
        "forward-graph-own",
        "pixels",
    ),
}
# Not HNP on the classifiers: 26 million parameters.
PEER_TASKS = {
    "digits-inr": ("nfn-np", "nfn-hnp"),
    "digits-inr-10": ("nfn-np", "nfn-hnp"),
    "sine": ("nfn-np", "nfn-hnp", "nfn-np-fourier"),
    "digits-mlp": ("nfn-np",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nfn-python", help="a Python with torch and nfn 0.1.2")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=Path, default=_rows_of(Settings()))
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    parser.add_argument("--row", nargs=2, help="one peer row, as called by itself")
    arguments = parser.parse_args()
    arguments.rows.parent.mkdir(parents=True, exist_ok=True)
    if arguments.row is not None:
        task, name = arguments.row
        for seed in arguments.seeds:
            row = peer_row(arguments.nfn_python, task, name, seed)
            with arguments.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return

    for task in arguments.tasks:
        find(task).make_zoo()
    _run_all(_jobs(arguments), arguments)
    # All there are, of other tasks too.
    rows = sorted(_read(arguments.rows), key=_order)
    for task in dict.fromkeys(row["task"] for row in rows):
        print(f"\n{task}\n{table([row for row in rows if row['task'] == task])}")
    command = "python benchmarks/offline_zoo.py --nfn-python PATH"
    entries = summary(rows)
    write("offline_zoo", command, {"table": entries, "rows": rows}, draw(entries))
    _fill_page(entries)


def _rows_of(settings: Settings) -> Path:
    """Rows of other settings are in other files."""
    described = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    return ROOT / "runs" / f"offline_zoo-{digest}.jsonl"


def _fill_page(entries: list[dict[str, Any]]) -> None:
    """Writes the tables into the page."""
    for task in TASKS:
        mine = [entry for entry in entries if entry["task"] == task]
        if mine:
            fill("benchmark.md", task, markdown(mine))


def _encoders(task: str) -> tuple[str, ...]:
    ours = SOME.get(task, names_for(find(task)))
    if task != "digits-inr":
        ours = tuple(name for name in ours if name not in DEAR)
    return (*ours, *PEER_TASKS.get(task, ()))


def _order(row: dict[str, Any]) -> tuple[int, int, int]:
    task, encoder = row["task"], row["encoder"]
    return list(TASKS).index(task), _encoders(task).index(encoder), row["seed"]


def _jobs(arguments: argparse.Namespace) -> list[tuple[str, str, list[int]]]:
    """What is still to be run: the shortest first."""
    there = {
        (row["task"], row["encoder"], row["seed"]) for row in _read(arguments.rows)
    }
    jobs = []
    for task in arguments.tasks:
        for encoder in _encoders(task):
            seeds = [s for s in arguments.seeds if (task, encoder, s) not in there]
            if seeds and (encoder not in PEERS or arguments.nfn_python):
                jobs.append((task, encoder, seeds))
    last = ("graph", "equivariant", "equivariant-np", *PEERS, *DEAR)
    return sorted(jobs, key=lambda job: last.index(job[1]) if job[1] in last else -1)


def _run_all(
    jobs: list[tuple[str, str, list[int]]], arguments: argparse.Namespace
) -> None:
    def work(job: tuple[str, str, list[int]]) -> None:
        subprocess.run(
            _command(*job, arguments),
            cwd=ROOT,
            env=environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )

    on_cores(jobs, work, arguments.cores)


def _command(
    task: str, encoder: str, seeds: list[int], arguments: argparse.Namespace
) -> list[str]:
    numbers = [str(seed) for seed in seeds]
    rows = str(arguments.rows)
    if encoder in PEERS:
        peer = ["--nfn-python", arguments.nfn_python, "--row", task, encoder]
        script = str(Path(__file__).resolve())
        return [sys.executable, script, *peer, "--rows", rows, "--seeds", *numbers]
    return [
        *(sys.executable, "-m", "benchmarks.zoo"),
        *("--task", task, "--encoder", encoder, "--json", rows, "--seeds", *numbers),
    ]


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
