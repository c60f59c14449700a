"""Groups of runs beside each other: summaries, a table and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.training.plots._save import save_figure
from applications.training.plots._statistics import (
    bootstrap_interval,
    Curve,
    interquartile_mean,
)


_POINTS = 200


def summarise(label: str, group: Sequence[Curve], last: int) -> dict[str, Any]:
    """Summarises the ends of a group of runs.

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
    """Lays summaries out in columns.

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
        path: The picture to write; its suffix says the format.

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
    save_figure(figure, path)
