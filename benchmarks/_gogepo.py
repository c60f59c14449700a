"""GoGePo's runs with their command curves."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
from _common import ROOT
from _runs import environment, result_of, Training
from matplotlib.axes import Axes


TRAINER = "applications.gogepo.train"
# Of `commands.json`, the last snapshot's, those that it has.
_CURVE = (
    "commanded",
    "achieved",
    "achieved_std",
    "predicted",
    "rank_correlation",
    "mean_error",
    "relative_error",
    "archive_error",
    "best_achieved",
    "latent_share",
    "conditions",
    "told_one",
)


def result_of_generator(
    training: Training, flags: str, *metrics: str
) -> dict[str, Any] | None:
    """What came of a run, with its command curve.

    Args:
        training: The run.
        flags: What is commanded: flags of `applications.gogepo.evaluate`.
        metrics: As `result_of` has them.

    Returns:
        What `result_of` gives, with the curve's lists and figures, and the rank
        correlation at each snapshot; None if the run is not done.
    """
    result = result_of(training, *metrics)
    if result is None:
        return None
    # Kept like the run itself.
    note = training.directory / "examined_with"
    if not note.is_file() or note.read_text() != flags:
        examine = ["applications.gogepo.evaluate", str(training.directory)]
        subprocess.run(
            [sys.executable, "-m", *examine, *flags.split()],
            cwd=ROOT,
            env=environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        note.write_text(flags)
    found = json.loads((training.directory / "commands.json").read_text())
    snapshots = [
        [snapshot["iteration"], snapshot["rank_correlation"]]
        for snapshot in found["snapshots"]
    ]
    kept = {name: found[name] for name in _CURVE if name in found}
    return {**result, **kept, "snapshots": snapshots}


def draw_commands(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """Commanded against achieved return: a thin line a seed, their median a thick one.

    Args:
        axes: Where.
        runs: Runs of one group, with their command curves.
    """
    all_given = [x[0] for run in runs for x in run["commanded"]]
    ends = [min(all_given), max(all_given)]
    axes.plot(ends, ends, ":", color="gray", label="as commanded")
    for name, color in (("predicted", "tab:orange"), ("achieved", "tab:purple")):
        label = "expected" if name == "predicted" else "achieved"
        grid = np.linspace(ends[0], ends[1], 100)
        drawn = []
        for run in runs:
            given, said = (np.array(run[x])[:, 0] for x in ("commanded", name))
            axes.plot(given, said, color=color, linewidth=0.7, alpha=0.5)
            # Beyond the commands of a run it says nothing.
            drawn.append(np.interp(grid, given, said, left=np.nan, right=np.nan))
        there = np.isfinite(drawn).any(axis=0)
        middle = np.nanmedian(np.array(drawn)[:, there], axis=0)
        axes.plot(grid[there], middle, color=color, linewidth=2, label=label)
    axes.set(xlabel="commanded return", ylabel="return")
