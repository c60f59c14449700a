"""GoGePo's two presets on cartpole: seconds to the same return.

Beside the sequential preset with its large networks stands one with those of the
vectorised preset, so that how it collects and learns is all that differs. That is
without what neither the paper nor the sequential preset has. The return is
that of the policy for the best outcome so far, without noise, as a mean over a tenth of
the run; "the same" is the largest that all runs of both presets came to.

Every run has one core. Runs are kept in `runs/benchmarks`, so that this can be stopped
and started again.

    python benchmarks/gogepo_presets.py
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import smooth
from _gogepo import TRAINER
from _runs import result_of, Training
from _study import study
from _style import band, in_style, panels
from matplotlib.figure import Figure


_SMALL = "--preset sequential --hidden 16 16 --num-probes 32 --generator-lr 3e-4"
# By name: flags and seeds. The published one takes minutes, and so has a single seed.
PRESETS = {
    "vectorised": (
        "--climb 0 --evenly 0 --loss evaluator --archive 32",
        range(3),
    ),
    "sequential, small": (f"{_SMALL} --critic-lr 1e-3 --iterations 2000", range(3)),
    "sequential": ("--preset sequential --iterations 500", range(1)),
}


def main() -> None:
    study(
        "gogepo_presets",
        "presets",
        __doc__,
        ["cartpole"],
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(run, "return_policy", "command_best"),
        tabulate=_compare,
        lay_out=_markdown,
        page="gogepo.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, name.replace(", ", "-")), flags, seed, TRAINER)
        for task in tasks
        for name, (flags, seeds) in PRESETS.items()
        for seed in seeds
    ]


def _returns(run: dict[str, Any]) -> np.ndarray:
    values = [0.0 if x is None else x for x in run["return_policy"]]
    return smooth(values, -(-len(values) // 10))


def _compare(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each preset against the first one."""
    names = list(dict.fromkeys(run["group"][1] for run in runs))
    groups = {name: [run for run in runs if run["group"][1] == name] for name in names}
    first, *others = names
    table = []
    for name in others:
        both = groups[first] + groups[name]
        level = float(min(_returns(run).max() for run in both))
        seconds = {
            preset: [
                run["seconds"][int(np.argmax(_returns(run) >= level))]
                for run in groups[preset]
            ]
            for preset in (first, name)
        }
        medians = {preset: float(np.median(seconds[preset])) for preset in seconds}
        ratio = medians[name] / medians[first]
        table.append(
            {"preset": name, "return": level, "seconds": seconds, "ratio": ratio}
        )
    return table


def _markdown(table: list[dict[str, Any]]) -> str:
    lines = [
        "| preset | the same return | seconds to it | of `vectorised` | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in table:
        name, told = row["preset"], []
        for preset in (name, "vectorised"):
            told.append(", ".join(f"{x:.0f}" for x in row["seconds"][preset]))
        lines.append(
            f"| {name} | {row['return']:.0f} | {told[0]} | {told[1]} "
            f"| {row['ratio']:.1f} |"
        )
    return "\n".join(lines)


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    figure, (axes,) = panels(1, 1, 3.4)
    for i, name in enumerate(dict.fromkeys(run["group"][1] for run in runs)):
        mine = [run for run in runs if run["group"][1] == name]
        seconds, returns = [run["seconds"] for run in mine], map(_returns, mine)
        label = f"{name} ({len(mine)} seeds)" if len(mine) > 1 else f"{name} (1 seed)"
        band(axes, seconds, list(returns), color=f"C{i}", label=label)
    axes.set(xscale="log", xlabel="seconds", ylabel="return of the policy for the best")
    axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    main()
