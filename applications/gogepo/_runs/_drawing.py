"""Pictures of what a generator has learned."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from applications.training import picture_style


@picture_style()
def draw_commands(curves: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """Commanded against achieved, one line a snapshot, and what the evaluator expects.

    Args:
        curves: By snapshot, the last one last: `iteration`, and lists `commanded`,
            `achieved` and `predicted`, one vector a command.
        names: What the numbers of a command are.

    Returns:
        The picture, with a panel for each number.
    """
    figure = Figure(figsize=(5.2 * len(names), 4.6))
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    colors = matplotlib.colormaps["viridis_r"](np.linspace(0.1, 0.95, len(curves)))
    for i, (axes, name) in enumerate(zip(panels, names, strict=True)):
        given = np.array(curves[-1]["commanded"])[:, i]
        axes.plot(given, given, color="gray", linestyle=":", label="as commanded")
        for curve, color in zip(curves, colors, strict=True):
            done = np.array(curve["achieved"])[:, i]
            label = f"achieved after {curve['iteration']} iterations"
            axes.plot(given, done, "o-", color=color, ms=3, linewidth=1.2, label=label)
        expected = np.array(curves[-1]["predicted"])[:, i]
        label = "expected by the evaluator"
        axes.plot(given, expected, "--", color="tab:red", linewidth=1.2, label=label)
        axes.set(xlabel=f"commanded {name}", ylabel=f"achieved {name}")
    panels[0].legend()
    return figure


@picture_style()
def draw_conditions(curve: dict[str, Any], names: Sequence[str]) -> Figure:
    """Commanded against achieved, one colour a condition.

    Args:
        curve: Lists `commanded` and `achieved`, one vector a command, and `conditions`,
            each with its `number`.
        names: What the numbers of a command are: the last one is the condition's.

    Returns:
        The picture.
    """
    figure = Figure(figsize=(5.2, 4.6))
    axes = figure.add_subplot()
    given, done = np.array(curve["commanded"]), np.array(curve["achieved"])
    conditions = [condition["number"] for condition in curve["conditions"]]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(conditions)))
    ends = [given[:, 0].min(), given[:, 0].max()]
    axes.plot(ends, ends, color="gray", linestyle=":", label="as commanded")
    for number, color in zip(conditions, colors, strict=True):
        here = given[:, 1] == number
        label = f"{names[1]} {number:g}"
        shown: dict[str, Any] = {"ms": 3, "linewidth": 1.2, "color": color}
        axes.plot(given[here, 0], done[here, 0], "o-", label=label, **shown)
    axes.set(xlabel=f"commanded {names[0]}", ylabel=f"achieved {names[0]}")
    axes.legend()
    return figure


@picture_style()
def draw_policies(
    tried: Float[np.ndarray, "policies answers"],
    outcomes: Float[np.ndarray, " policies"],
    path: Float[np.ndarray, "commands answers"],
    commands: Float[np.ndarray, " commands"],
    name: str,
) -> Figure:
    """Policies as points by their answers to probing states, in two dimensions.

    Args:
        tried: Answers of policies that were tried.
        outcomes: What those did.
        path: Answers of the policies that the generator writes, by command.
        commands: The commands.
        name: What is commanded.

    Returns:
        The picture: the plane of the two principal components of all answers.
    """
    both = np.concatenate([tried, path])
    centre = both.mean(axis=0)
    _, _, components = np.linalg.svd(both - centre, full_matrices=False)
    plane = components[:2].T
    points, line = (tried - centre) @ plane, (path - centre) @ plane
    figure = Figure(figsize=(6.4, 4.8))
    axes = figure.add_subplot()
    shades = {
        "cmap": "viridis",
        "vmin": min(outcomes.min(initial=np.inf), commands.min()),
        "vmax": max(outcomes.max(initial=-np.inf), commands.max()),
    }
    axes.scatter(*points.T, c=outcomes, s=8, alpha=0.5, linewidths=0, **shades)
    axes.plot(*line.T, color="tab:red", linewidth=1, label="written, by command")
    dots = axes.scatter(
        *line.T, c=commands, s=28, edgecolors="tab:red", linewidths=0.6, **shades
    )
    figure.colorbar(dots, ax=axes, label=f"{name}: achieved, or commanded")
    axes.set(xlabel="first principal component of the answers", ylabel="second")
    axes.legend()
    return figure
