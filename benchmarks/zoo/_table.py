"""Rows as a table to read."""

from collections.abc import Sequence
from typing import Any

import numpy as np


_COUNTS = ("parameters", "reads", "flops")


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for all seeds of an encoder on a task.

    Args:
        rows: Rows as `run` gives them.

    Returns:
        For each pair of task and encoder, in the order of appearance: of each metric
        and of `seconds` the mean, and the standard deviation over seeds (of n - 1
        degrees of freedom; None for one seed) under the name with `_std`; counts as
        they are; the `seeds`.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["encoder"]), []).append(row)
    result = []
    for (task, encoder), members in groups.items():
        entry: dict[str, Any] = {"task": task, "encoder": encoder}
        entry["seeds"] = [row["seed"] for row in members]
        for name in members[0]:
            if name in ("task", "encoder", "seed"):
                continue
            values = [row[name] for row in members]
            if name in _COUNTS:
                entry[name] = values[0]
                continue
            entry[name] = float(np.mean(values))
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            entry[f"{name}_std"] = spread
        result.append(entry)
    return result


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of one task, one line for all seeds of an encoder, in columns.

    Args:
        rows: Rows as `run` gives them.

    Returns:
        Text of several lines.
    """
    lines = _cells(summary(rows))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(entries: Sequence[dict[str, Any]]) -> str:
    """The same in Markdown, with seconds alone and names of columns in two lines.

    Args:
        entries: What `summary` makes of one task's rows.

    Returns:
        A table.
    """
    entries = [{**entry, "seconds_std": None} for entry in entries]
    head, *lines = _cells(entries)
    for suffix in ("out_of_range", "other_architecture"):
        breaks = f"<br>{suffix.replace('_', ' ')}"
        head = [name.replace(f"_{suffix}", breaks) for name in head]
    head = [name.replace("_", " ") for name in head]
    rule = ["---", *["--:"] * (len(head) - 1)]
    body = [[f"`{line[0]}`", *line[1:]] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body])


def _cells(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Names of the columns, then the cells of each entry."""
    # In the order of appearance, once each.
    names = dict.fromkeys(name for entry in entries for name in entry)
    spread = [name[:-4] for name in names if name.endswith("_std")]
    spread.sort(key=lambda name: name == "seconds")
    columns = [*spread, *(name for name in _COUNTS if any(name in e for e in entries))]
    lines = [["encoder", *columns]]
    for entry in entries:
        cells = [_cell(entry.get(name), entry.get(f"{name}_std")) for name in columns]
        lines.append([entry["encoder"], *cells])
    return lines


def _cell(value: float | int | None, spread: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if spread is None:
        return f"{value:.3g}"
    # One digit; no exponent where rounding alone, or a large number, would bring one.
    shown = f"{spread:.0f}" if spread >= 9.5 or spread < 1e-12 else f"{spread:.1g}"
    return f"{value:.3g} ± {shown}"
