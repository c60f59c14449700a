"""What pictures of the docs share: their width, and bands in place of tangles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from applications.training import picture_style


# Inches: text is as large as that of the page, at the width at which a page shows it.
WIDTH = 8.0
in_style = picture_style


def panels(
    count: int, columns: int, height: float, **subplots: Any
) -> tuple[Figure, list[Any]]:
    """A figure of the docs' width, and as many panels as there is something to show.

    Args:
        count: How many panels.
        columns: How many of them beside each other.
        height: Of a row, in inches.
        subplots: Of `Figure.subplots`.

    Returns:
        The figure, and its panels row by row.
    """
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.4))
    grid = figure.subplots(rows, columns, squeeze=False, **subplots).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def band(
    axes: Any,
    places: Sequence[Any],
    values: Sequence[Any],
    **line: Any,
) -> None:
    """Draws the median of runs, and from the lowest to the highest as a band.

    Args:
        axes: Where.
        places: Of each run, where its values are: steps, or seconds.
        values: Of each run; None where there is none.
        line: Colour and label.
    """
    runs = []
    for x, y in zip(places, values, strict=True):
        pairs = [
            (at, value) for at, value in zip(x, y, strict=True) if value is not None
        ]
        if pairs:
            runs.append(np.array(pairs, float))
    if not runs:
        return
    # Where at least half of the runs are.
    begin = np.median([run[0, 0] for run in runs])
    end = np.median([run[-1, 0] for run in runs])
    grid = np.unique(np.concatenate([run[:, 0] for run in runs]))
    grid = grid[(grid >= begin) & (grid <= end)]
    drawn = np.stack(
        [
            np.interp(grid, run[:, 0], run[:, 1], left=np.nan, right=np.nan)
            for run in runs
        ]
    )
    axes.plot(grid, np.nanmedian(drawn, axis=0), **line)
    low, high = np.nanmin(drawn, axis=0), np.nanmax(drawn, axis=0)
    axes.fill_between(grid, low, high, color=line["color"], alpha=0.2, lw=0)


def label_below(grid: Sequence[Any], columns: int, text: str) -> None:
    """Names the places of panels, below the last one of each column."""
    for axes in grid[-columns:]:
        axes.set_xlabel(text)
        axes.tick_params(labelbottom=True)


def legend_below(figure: Figure, axes: Sequence[Any], **options: Any) -> None:
    """One legend for all panels, below them; each label once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        **{"ncols": min(len(found), 4), **options},
    )
