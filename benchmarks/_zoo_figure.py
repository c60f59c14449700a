"""The picture of the zoo benchmark."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks._style import in_style, panels
from benchmarks.zoo import ENCODERS


PANELS = {
    ("digits-inr", "accuracy"): "digit of an INR: accuracy",
    ("digits-inr-10", "accuracy"): "digit, 10 INRs a picture: accuracy",
    ("digits-mlp", "tau"): "accuracy of an MLP: Kendall's τ",
    ("sine", "mse_a"): "amplitude of a sine: squared error",
    ("sine", "mse_b"): "frequency of a sine: squared error",
    ("dilation", "mse"): "dilated INR: squared error of pixels",
}
# Colour and marker of each family.
FAMILIES = {
    "trivial, and the ceiling": ("0.5", "s"),
    "probing": ("C2", "^"),
    "reads weights": ("C0", "o"),
    "nfn 0.1.2": ("C3", "D"),
}


@in_style()
def draw(entries: list[dict[str, Any]]) -> Figure:
    """Each encoder's figure, one panel a metric, and its seconds beside it."""
    figure, grid = panels(len(PANELS), 2, 4.0)
    for ((task, metric), title), axes in zip(PANELS.items(), grid, strict=True):
        mine = [entry for entry in entries if entry["task"] == task]
        _panel(axes, mine, metric)
        axes.set_title(title)
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, label=family)
        for family, (colour, marker) in FAMILIES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, entries: list[dict[str, Any]], metric: str) -> None:
    for place, entry in enumerate(entries):
        colour, marker = FAMILIES[_family(entry["encoder"])]
        axes.errorbar(
            entry[metric],
            place,
            xerr=entry[f"{metric}_std"],
            fmt=marker,
            color=colour,
            capsize=2,
        )
        if entry["seconds"] > 0.1:
            axes.annotate(
                f"{entry['seconds']:.0f} s",
                (1.01, place),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color="0.35",
            )
    axes.set_yticks(
        range(len(entries)), [entry["encoder"] for entry in entries], fontsize="small"
    )
    axes.invert_yaxis()
    if "mse" in metric:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0, 1)


def _family(name: str) -> str:
    if name.startswith("nfn"):
        return "nfn 0.1.2"
    entry = ENCODERS.get(name)
    if entry is None or not entry.trains:
        return "trivial, and the ceiling"
    return "probing" if entry.any_size else "reads weights"
