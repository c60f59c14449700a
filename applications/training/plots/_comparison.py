"""Groups of runs beside each other: summaries, a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from applications.training.plots._save import save_figure
from applications.training.plots._statistics import (
    bootstrap_interval,
    Curve,
    interquartile_mean,
)
from applications.training.plots._style import picture_style


Middle: TypeAlias = Literal["iqm", "mean"]
Panels: TypeAlias = Literal["both", "steps", "seconds"]

_POINTS = 200
_MIDDLES = {"iqm": interquartile_mean, "mean": lambda values: np.mean(values, axis=0)}
_AXES = {"steps": "environment steps", "seconds": "wall-clock time"}
_METRICS = {
    "return_policy": "return",
    "return_perturbed_mean": "mean return of perturbed policies",
    "return_perturbed_max": "best return of a perturbed policy",
}


def summarise(
    label: str, group: Sequence[Curve], last: int, *, middle: Middle = "iqm"
) -> dict[str, Any]:
    """Summarises a group of runs.

    Args:
        label: Name of the group.
        group: Its runs.
        last: Rows at the end of a run over whose mean it is judged.
        middle: Interquartile mean over runs, or mean.

    Returns:
        Each run's result, their middle and its bootstrap interval, which a single run
        has not; medians of steps and seconds; and what is drawn.
    """
    finals = np.array([np.mean(curve.values[-last:]) for curve in group])
    interval = None
    if len(group) > 1:
        interval = list(map(float, bootstrap_interval(finals, _MIDDLES[middle])))
    return {
        "runs": label,
        "seeds": len(group),
        "final": finals.tolist(),
        "middle": float(_MIDDLES[middle](finals)),
        "interval": interval,
        "env_steps": float(np.median([curve.steps[-1] for curve in group])),
        "seconds": float(np.median([curve.seconds[-1] for curve in group])),
        "curves": {name: _line(group, name, middle) for name in _AXES},
    }


def _line(group: Sequence[Curve], name: str, middle: Middle) -> dict[str, Any]:
    """The middle over runs, and its interval, against steps or seconds."""
    # As far as the shortest run of the group, from where all have begun.
    starts = max(getattr(curve, name)[0] for curve in group)
    ends = min(getattr(curve, name)[-1] for curve in group)
    grid = np.linspace(starts, max(ends, starts), _POINTS)
    values = np.stack(
        [np.interp(grid, getattr(curve, name), curve.values) for curve in group]
    )
    line = {"at": _short(grid), "middle": _short(_MIDDLES[middle](values))}
    if len(group) > 1:
        low, high = bootstrap_interval(values, _MIDDLES[middle])
        line |= {"low": _short(low), "high": _short(high)}
    return line


def _short(numbers: np.ndarray) -> list[float]:
    """As many digits as a picture can show."""
    return [float(f"{x:.6g}") for x in numbers]


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
            f"{one['middle']:.1f}",
            "{:.1f} to {:.1f}".format(*one["interval"]) if one["interval"] else "-",
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
    summaries: Sequence[dict[str, Any]],
    metric: str,
    path: Path,
    *,
    title: str | None = None,
    panels: Panels = "both",
) -> None:
    """Draws groups of runs against steps and against seconds.

    Args:
        summaries: As `summarise` gives them.
        metric: Name of what is drawn.
        path: The picture to write; its suffix says the format.
        title: What stands above.
        panels: Both, or against which of the two.

    Raises:
        OSError: If it cannot be written.
    """
    # Slow to import.
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    with picture_style():
        names = list(_AXES) if panels == "both" else [panels]
        figure = Figure(figsize=(1.0 + 4.6 * len(names), 3.8))
        grid = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(grid, names, strict=True):
            for i, one in enumerate(summaries):
                line = one["curves"][name]
                seeds = "" if one["seeds"] == 1 else f" ({one['seeds']} seeds)"
                label = f"{one['runs']}{seeds}"
                axes.plot(line["at"], line["middle"], color=f"C{i}", label=label)
                if "low" in line:
                    band = (line["at"], line["low"], line["high"])
                    axes.fill_between(*band, color=f"C{i}", alpha=0.2, lw=0)
            unit = "s" if name == "seconds" else ""
            axes.xaxis.set_major_formatter(
                EngFormatter(unit=unit, sep=" " if unit else "")
            )
            axes.set_xlabel(_AXES[name])
        grid[0].set_ylabel(_METRICS.get(metric, metric.replace("_", " ")))
        grid[0].legend()
        if title:
            figure.suptitle(title)
        save_figure(figure, path)
