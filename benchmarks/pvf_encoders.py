"""Does it help a critic of single steps to read the policy? What of it, and how?

One trainer on three tasks, up to three seeds each: Q(s, a) without θ, which is an
ordinary actor-critic, and critics that read θ by several encoders, of deterministic and
of stochastic policies. Settings are near those that Q(s, a) has in `pvf_tasks`; what
critics of θ have beside (`--relabel --corrected`) helped them in trials. No row has
been tuned here. Every run has one core. Runs are kept, so this can be stopped and
started again.

    python benchmarks/pvf_encoders.py
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from _common import as_table
from _groups import draw_dots
from _runs import result_of, Training
from _study import study


_SEEDS = range(3)
_MODULE = "applications.pvf.train"
# Policies have a hidden layer, so that there are permutations to see through.
_SHARED = "--hidden 16 --policy-lr 5e-4"
TASKS = {
    "half_cheetah": f"{_SHARED} --noise-scale 0.05 --discount 0.99 --lambda 0.9 "
    "--steps 100000",
    "hopper": f"{_SHARED} --noise-scale 0.05 --discount 0.99 --lambda 0.9 "
    "--steps 100000",
    "swimmer": f"{_SHARED} --steps 200000",
}
_THETA = "--relabel --corrected"
_PROBING = "--representation probing --num-probes"
CRITICS = {
    "Q(s, a)": "",
    "Q(s, a, θ), flat": f"{_THETA} --representation flat",
    "Q(s, a, θ), 4 probes": f"{_THETA} {_PROBING} 4",
    "Q(s, a, θ), 16 probes": f"{_THETA} {_PROBING} 16",
    "Q(s, a, θ), equivariant": f"{_THETA} --representation equivariant",
    "V(s, θ), flat": "--critic psvf --representation flat",
    "V(s, θ), 16 probes": f"--critic psvf {_PROBING} 16",
    "stochastic, Q(s, a)": "--policy-kind stochastic",
    "stochastic, Q(s, a, θ), flat": "--policy-kind stochastic --relabel "
    "--representation flat",
    "stochastic, Q(s, a, θ), 16 probes": "--policy-kind stochastic --relabel "
    f"{_PROBING} 16",
}


def main() -> None:
    study(
        "pvf_encoders",
        "encoders",
        __doc__,
        list(TASKS),
        _trainings,
        lambda table, _: draw_dots(table, "What a critic of single steps reads"),
        examine=lambda run: result_of(
            run, "return_policy", "value_correlation", "start_correlation"
        ),
        lay_out=lay_out,
        page="pvf.md",
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, name), f"--env {task} {TASKS[task]} {flags}", seed, _MODULE)
        for task in tasks
        for name, flags in CRITICS.items()
        for seed in _SEEDS
    ]


def lay_out(table: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table.

    Args:
        table: What `summarise` gives.

    Returns:
        The lines.
    """
    titles = ["task", "critic", "steps", "seconds", "mean returns of the seeds", "mean"]
    rows = []
    for row in table:
        task, name = row["group"]
        rows.append(
            [
                f"`{task}`",
                name,
                f"{row['env_steps'] / 1e3:.0f} k",
                f"{row['seconds']:.0f}",
                ", ".join(f"{x:.0f}" for x in row["mean_returns"]),
                f"{np.mean(row['mean_returns']):.0f}",
            ]
        )
    return as_table(titles, rows)


if __name__ == "__main__":
    main()
