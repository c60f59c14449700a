"""One style for all pictures: of runs, of comparisons, and of the docs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.titlesize": "large",
    "grid.alpha": 0.3,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
# An algorithm has one colour, in whatever company.
_COLOURS = {
    "epvf": "tab:blue",
    "gogepo": "tab:purple",
    "pvf": "tab:cyan",
    "ars": "tab:red",
    "openes": "tab:orange",
    "cma-es": "tab:brown",
    "ppo": "tab:green",
    "sac": "tab:olive",
    "ddpg": "tab:pink",
}


@contextmanager
def picture_style() -> Iterator[None]:
    """A context, or decorator, in which pictures are drawn, so that all look alike."""
    # Slow to import.
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def colour_of(algorithm: str) -> str:
    """The colour that an algorithm has in every picture.

    Args:
        algorithm: Its name, perhaps with those of others before it, as in `sb3-ppo`.

    Returns:
        A colour of matplotlib; gray for one that has none.
    """
    return _COLOURS.get(algorithm.rpartition("-")[2], _COLOURS.get(algorithm, "gray"))
