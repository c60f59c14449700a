"""Statistics and pictures of runs beside each other."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float

from applications.settings import UserError
from applications.training._files import write_atomically
from applications.training._metrics import read_rows
from applications.training._run import Run


_POINTS = 200
_RESAMPLES = 2000
_COVERAGE = 0.95


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run: a metric after so many environment steps and seconds.

    Attributes:
        steps: Environment steps so far.
        seconds: Seconds so far.
        values: The metric.
    """

    steps: Float[np.ndarray, " rows"]
    seconds: Float[np.ndarray, " rows"]
    values: Float[np.ndarray, " rows"]


def read_curve(run: Run, metric: str) -> Curve:
    """Reads a metric of a run.

    Args:
        run: The run.
        metric: Name of a column; rows without it are left out.

    Returns:
        The curve.

    Raises:
        UserError: If there are no rows, no such column, or no number in it.
    """
    rows = read_rows(run.directory / "metrics.jsonl")
    if not rows:
        raise UserError(f"{run.directory} has no rows in metrics.jsonl yet.")
    if metric not in rows[-1]:
        there = ", ".join(name for name in rows[-1] if name != "iteration")
        raise UserError(f"{run.directory} has no {metric}. Its columns: {there}.")
    rows = [row for row in rows if row.get(metric) is not None]
    if not rows:
        raise UserError(f"{metric} is never a number in {run.directory}.")
    columns = ("env_steps", "seconds", metric)
    return Curve(*(np.array([row[name] for row in rows], float) for name in columns))


def interquartile_mean(
    values: Float[np.ndarray, "runs ..."],
) -> Float[np.ndarray, "..."]:
    """Mean of the middle half of runs; of fewer than four, of all of them.

    Args:
        values: One row a run.

    Returns:
        The mean over runs.
    """
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=0))


def bootstrap_interval(
    values: Float[np.ndarray, "runs ..."], *, seed: int = 0
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Interval of the interquartile mean: percentiles over resampled runs.

    Args:
        values: One row a run.
        seed: Seed of the resampling.

    Returns:
        Ends of the interval that holds 95 % of the resampled means.
    """
    random = np.random.default_rng(seed)
    chosen = random.integers(0, len(values), (_RESAMPLES, len(values)))
    means = np.stack([interquartile_mean(values[index]) for index in chosen])
    tail = 50 * (1 - _COVERAGE)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def summarise(label: str, group: Sequence[Curve], last: int) -> dict[str, Any]:
    """What a group of runs came to.

    Args:
        label: Name of the group.
        group: Its runs.
        last: Rows at the end of a run over whose mean it is judged.

    Returns:
        Each run's result, their interquartile mean and its bootstrap interval, and
        medians of steps and seconds.
    """
    finals = np.array([np.mean(curve.values[-last:]) for curve in group])
    low, high = bootstrap_interval(finals)
    return {
        "runs": label,
        "seeds": len(group),
        "final": finals.tolist(),
        "interquartile_mean": float(interquartile_mean(finals)),
        "interval": [float(low), float(high)],
        "env_steps": float(np.median([curve.steps[-1] for curve in group])),
        "seconds": float(np.median([curve.seconds[-1] for curve in group])),
    }


def comparison_table(summaries: Sequence[dict[str, Any]], metric: str) -> str:
    """Summaries in columns.

    Args:
        summaries: As `summarise` gives them.
        metric: Name of what was compared.

    Returns:
        Text of several lines.
    """
    head = ["runs", "seeds", metric, "95 % interval", "steps", "seconds"]
    lines = [
        [
            one["runs"],
            str(one["seeds"]),
            f"{one['interquartile_mean']:.1f}",
            "{:.1f} to {:.1f}".format(*one["interval"]),
            f"{one['env_steps']:,.0f}",
            f"{one['seconds']:,.0f}",
        ]
        for one in summaries
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [head, *lines]
    )


def draw_comparison(
    groups: Mapping[str, Sequence[Curve]], metric: str, path: Path
) -> None:
    """Draws groups of runs against steps and against seconds.

    Args:
        groups: Runs by name of the group.
        metric: Name of what is drawn.
        path: The PNG file to write.

    Raises:
        OSError: If it cannot be written.
    """
    # Slow to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name in zip(panels, ("steps", "seconds"), strict=True):
        for i, (label, group) in enumerate(groups.items()):
            # As far as the shortest run of the group, from where all have begun.
            starts = max(getattr(curve, name)[0] for curve in group)
            ends = min(getattr(curve, name)[-1] for curve in group)
            grid = np.linspace(starts, max(ends, starts), _POINTS)
            values = np.stack(
                [np.interp(grid, getattr(curve, name), curve.values) for curve in group]
            )
            axes.plot(grid, interquartile_mean(values), color=f"C{i}", label=label)
            if len(group) > 1:
                low, high = bootstrap_interval(values)
                axes.fill_between(grid, low, high, color=f"C{i}", alpha=0.2, lw=0)
        axes.grid(alpha=0.3)
    panels[0].set(xlabel="environment steps", ylabel=metric)
    panels[1].set(xlabel="seconds")
    panels[0].legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
