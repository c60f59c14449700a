"""Weight spaces as text."""

from collections.abc import Sequence

from wsl._axes import Factor


def leaf_table(
    paths: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    axes: Sequence[Sequence[Sequence[Factor]]],
) -> list[str]:
    """One line for each leaf, below a header: path, shape, and what its axes are."""
    header = ("leaf", "shape", "axes")
    rows = [
        (path, str(shape), ", ".join(_show_axis(factors) for factors in leaf_axes))
        for path, shape, leaf_axes in zip(paths, shapes, axes, strict=True)
    ]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(3)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]


def _show_axis(factors: Sequence[Factor]) -> str:
    if len(factors) == 1:
        return factors[0].name or "-"
    return " x ".join(factor.name or str(factor.size) for factor in factors) or "-"
