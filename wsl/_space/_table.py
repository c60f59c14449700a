"""Text in columns, and a space as a table."""

from collections.abc import Iterable, Sequence
from typing import Any

from wsl._space._leaf import Leaf


_FOLD_NAMES, _FOLD_PIECES = 4, 12


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line for each row, its cells padded to the width of their columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def table(space: Any) -> str:
    """The leaves of a weight space, its groups, and what is fixed and why."""
    nested, reasons = dict(space.nested), dict(space.reasons)
    groups = [
        f"{name} ({n}, in each of {nested[name]})"
        if name in nested
        else f"{name} ({n})"
        for name, n in space.groups.items()
    ]
    fixed: dict[str, list[str]] = {}
    for name, n in space.index_sets.items():
        if name in space.fixed:
            why = f"{n}: {reasons[name]}" if name in reasons else str(n)
            fixed.setdefault(why, []).append(name)
    rows = [row for leaf in space.leaves for row in _rows(leaf)]
    lines = columns([("leaf", "shape", "axes"), *rows])
    lines.append(f"groups: {', '.join(groups) or 'none'}")
    if fixed:
        listed = [
            shown
            for why, names in fixed.items()
            for shown in (
                [f"{_fold(names)} ({why})"]
                if len(names) > 2
                else [f"{name} ({why})" for name in names]
            )
        ]
        lines.append(f"fixed: {', '.join(listed)}")
    if space.unknown_primitives:
        lines.append(f"not followed: {', '.join(space.unknown_primitives)}")
    if space.ties:
        lines.append(f"moved together by: {'; '.join(space.ties)}")
    return "\n".join(lines)


def _fold(names: Sequence[str]) -> str:
    if len(names) <= _FOLD_NAMES:
        return ", ".join(names)
    return f"{names[0]} and {len(names) - 1} more to {names[-1]}"


def _rows(leaf: Leaf) -> Iterable[tuple[str, str, str]]:
    if not leaf.pieces:
        yield leaf.path, str(leaf.shape), ", ".join(map(_show_axis, leaf.axes))
        return
    sums = [_sum(leaf, axis) for axis in range(len(leaf.shape))]
    if None not in sums:
        yield leaf.path, str(leaf.shape), ", ".join(map(str, sums))
        return
    yield leaf.path, str(leaf.shape), f"in {len(leaf.pieces)} pieces"
    for piece in leaf.pieces[:_FOLD_PIECES]:
        axes = ", ".join(map(_show_axis, piece.axes))
        yield f"  {piece.path.removeprefix(leaf.path)}", str(piece.shape), axes
    if len(leaf.pieces) > _FOLD_PIECES:
        yield f"  ... {len(leaf.pieces) - _FOLD_PIECES} more", "", ""


def _sum(leaf: Leaf, axis: int) -> str | None:
    """An axis as a sum, if what it is does not depend on the other axes."""
    terms: dict[Any, str] = {}
    for piece in leaf.pieces:
        shown = _show_axis(piece.axes[axis])
        if shown == "-" and len(piece.index[axis]) < leaf.shape[axis]:
            shown = str(len(piece.index[axis]))
        if terms.setdefault(piece.index[axis], shown) != shown:
            return None
    return " + ".join(terms.values())


def _show_axis(factors: Sequence[Any]) -> str:
    if len(factors) == 1:
        return factors[0].name or "-"
    return " x ".join(factor.name or str(factor.size) for factor in factors) or "-"
