"""What the benchmarks share: training runs as a user starts them, and their records."""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def train(*flags: str) -> dict[str, Any]:
    """Runs `python -m applications.epvf.train` in a process of its own.

    Args:
        flags: The command line, without `--run-dir`.

    Returns:
        The command, its wall-clock seconds from start to exit, the rows of its
        metrics, and its evaluation.
    """
    command = ["-m", "applications.epvf.train", *flags]
    # Compiled anew each time: a cache would hide what a first run costs.
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": ""}
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *command, "--run-dir", str(run)],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.perf_counter() - began
        rows = [
            json.loads(line)
            for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
        evaluation = json.loads((run / "evaluation.json").read_text())
    return {
        "command": shlex.join(["python", *command]),
        "wall_seconds": seconds,
        "evaluation": evaluation,
        "rows": rows,
    }


def as_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        titles: Of the columns.
        rows: The cells of each row, as they are shown.

    Returns:
        The lines.
    """
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def curves(rows: list[dict[str, Any]], *names: str) -> dict[str, list[float | None]]:
    """Columns of a run's metrics, rounded to six significant digits."""
    return {
        name: [None if row[name] is None else float(f"{row[name]:.6g}") for row in rows]
        for name in names
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("jax", "jaxlib", "equinox", "optax", "mujoco", "mujoco-mjx")
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def write(name: str, command: str, result: dict[str, Any], figure: Any) -> None:
    """Writes a benchmark's JSON and picture.

    Args:
        name: Name of both files, without suffix.
        command: The command that makes them.
        result: What was measured.
        figure: A matplotlib figure.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    record = {"command": command, "machine": machine()} | result
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure.savefig(RESULTS / f"{name}.png", dpi=150)
    print(f"Written: docs/results/{name}.json, docs/results/{name}.png")


def fill(page: str, name: str, text: str) -> None:
    """Writes a table into a page of the docs, between two comments.

    Args:
        page: The page's file name.
        name: The first comment holds it; the second one is `end`.
        text: What is to stand there.

    Raises:
        ValueError: If the page has no such place.
    """
    path = ROOT / "docs" / page
    before, begin, rest = path.read_text().partition(f"<!-- {name} -->")
    _, end, after = rest.partition("<!-- end -->")
    if not end:
        raise ValueError(f"docs/{page} has no place for {name}.")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def smooth(values: list[float], width: int) -> np.ndarray:
    """Mean over the last `width` values, fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(end - width, 0)
    return (total[end] - total[begin]) / (end - begin)
