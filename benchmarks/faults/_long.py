"""A run of many iterations: memory, open files and time must stay as they are."""

import importlib
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.faults._cases import Case, log_of
from benchmarks.faults._forks import start
from benchmarks.faults._tally import Tally


# Growth from a quarter of the run to its end.
_MEMORY, _TIME = 1.05, 1.3


def long_run(case: Case, iterations: int, work: Path) -> Tally:
    """Trains for many iterations and watches the process.

    Args:
        case: What is trained; `--iterations` is added.
        iterations: How many.
        work: An empty directory.

    Returns:
        The tally of iterations. Bad is growth of memory, files or time.
    """
    directory = work / f"{case.name}-long"
    main = importlib.import_module(case.module).main
    flags = [*case.flags.split(), "--run-dir", str(directory)]
    flags += ["--iterations", str(iterations), "--checkpoint-every", "500"]
    process = start(lambda: main(flags), log_of(directory))
    samples = []
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        rows = directory / "metrics.jsonl"
        size = rows.stat().st_size if rows.exists() else 0
        try:
            text = Path(f"/proc/{process}/status").read_text()
            memory = next(x for x in text.splitlines() if x.startswith("VmRSS"))
            files = len(os.listdir(f"/proc/{process}/fd"))
            samples.append((size, int(memory.split()[1]), files))
        except (OSError, StopIteration):
            continue
        time.sleep(1.0)
    tally = Tally(f"iterations of one run, {case.name}", iterations)
    if os.waitstatus_to_exitcode(ended[1]):
        tally.bad.append(f"ended with {os.waitstatus_to_exitcode(ended[1])}")
        return tally
    sizes, memory, files = np.array(samples).T
    quarter = int(np.searchsorted(sizes, sizes[-1] / 4))
    # While it trains: what comes after the last row is another matter.
    last = int(np.searchsorted(sizes, sizes[-1]))
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    seconds = np.array([json.loads(line)["seconds"] for line in lines])
    steps = np.diff(seconds)
    parts = [np.median(part) for part in np.array_split(steps, 4)]
    growth = {
        "memory": (memory[last] / memory[quarter], _MEMORY),
        "open files": (files[last] / files[quarter], 1.0),
        "time of an iteration": (parts[3] / parts[1], _TIME),
    }
    tally.bad = [f"{k}: times {x:.2f}" for k, (x, most) in growth.items() if x > most]
    tally.note = (
        f"{memory[quarter] / 1024:.0f} MB after a quarter of it, "
        f"{memory[last] / 1024:.0f} at the end; {files[last]} open files; "
        f"{1000 * parts[1]:.1f} ms an iteration in the second quarter, "
        f"{1000 * parts[3]:.1f} in the last"
    )
    return tally
