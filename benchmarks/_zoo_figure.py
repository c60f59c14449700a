"""The picture of the zoo benchmark."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D


PANELS = {
    ("digits-inr", "accuracy"): "digit of an INR, accuracy",
    ("digits-inr-10", "accuracy"): "digit, 10 INRs an image, accuracy",
    ("sine", "mse_a"): "amplitude of a sine, squared error",
    ("sine", "mse_b"): "frequency of a sine, squared error",
    ("digits-mlp", "tau"): "accuracy of an MLP, Kendall's τ",
    ("dilation", "mse"): "dilated INR, squared error of pixels",
}
TRIVIAL = {
    "flat",
    "flat-augmented",
    "flat-matched",
    "statistics",
    "random-probes",
    "identity",
    "mean-image",
    "pixels",
}


def draw(entries: list[dict[str, Any]]) -> Figure:
    """Each encoder's figure against its seconds, one panel a metric."""
    figure, panels = plt.subplots(2, 3, figsize=(13, 8), layout="constrained")
    for ((task, metric), title), axes in zip(PANELS.items(), panels.flat, strict=True):
        for entry in entries:
            if entry["task"] != task:
                continue
            name = entry["encoder"]
            colour, marker = "C0", "o"
            if name in TRIVIAL:
                colour, marker = "0.5", "s"
            elif name.startswith("nfn"):
                colour, marker = "C3", "D"
            elif "prob" in name:
                colour, marker = "C2", "^"
            seconds, value = max(entry["seconds"], 0.1), entry[metric]
            axes.errorbar(
                seconds,
                value,
                yerr=entry[f"{metric}_std"],
                fmt=marker,
                color=colour,
                markersize=5,
                capsize=2,
            )
            axes.annotate(
                name, (seconds, value), (4, 3), textcoords="offset points", fontsize=6.5
            )
        axes.set_xscale("log")
        if "mse" in metric:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("seconds of training on one core")
        axes.grid(alpha=0.25)
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, label=label)
        for label, marker, colour in (
            ("trivial, and the image as the ceiling", "s", "0.5"),
            ("probing", "^", "C2"),
            ("reads weights", "o", "C0"),
            ("nfn 0.1.2", "D", "C3"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    return figure
