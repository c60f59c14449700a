import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from applications.training.plots._save import save_figure
from applications.training.plots._statistics import number_in
from applications.training.plots._style import picture_style
from applications.training.storage import Row


_CURVES = (
    ("return_perturbed_max", "best of the perturbed policies", "0.75"),
    ("return_perturbed_mean", "mean of the perturbed policies", "tab:orange"),
    ("return_policy", "the policy", "tab:blue"),
)
# More than a picture has columns.
_POINTS = 4000


def plot_returns(rows: Iterable[Row], path: Path, *, title: str) -> None:
    """Draws the learning curve of a run.

    Args:
        rows: Rows of its `metrics.jsonl`, of which none is kept. Returns that the last
            one does not have are left out. Of many rows every so many are drawn.
        path: The picture to write. None is written of no rows.
        title: What stands above.

    Raises:
        OSError: If the file cannot be written.
    """
    # Slow to import.
    from matplotlib.figure import Figure

    names = [name for name, _, _ in _CURVES]
    steps, *returns, last = _columns(rows, "env_steps", *names)
    if last is None:
        return
    with picture_style():
        figure = Figure(figsize=(6.4, 4.0))
        axes = figure.add_subplot()
        for (name, label, color), values in zip(_CURVES, returns, strict=True):
            if name in last:
                # Rows without a number leave no gap.
                there = np.isfinite(values)
                axes.plot(steps[there], values[there], label=label, color=color)
        axes.set(title=title, xlabel="environment steps", ylabel="undiscounted return")
        axes.legend()
        save_figure(figure, path)


def _columns(rows: Iterable[Row], *names: str) -> list[Any]:
    """Columns of rows, thinned out, with NaN where there is no number; the last row."""
    columns = [array.array("d") for _ in names]
    row = None
    for row in rows:
        for column, name in zip(columns, names, strict=True):
            column.append(number_in(row, name))
    every = -(-len(columns[0]) // _POINTS) or 1
    # The last one is always there.
    return [np.asarray(column)[::-every][::-1] for column in columns] + [row]
