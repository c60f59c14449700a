"""EPVF and evolution strategies where an episode has one number; rounded actions.

Outcomes that are said once at the end of an episode (`--outcome`), and policies whose
actions are rounded to three values (`--action-levels 3`). Every algorithm has one
setting for all of them. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_outcomes.py
"""

from collections.abc import Sequence
from typing import Any

from _groups import draw_dots, middle
from _runs import result_of, Training
from _study import study


_SEEDS = range(3)
_STEPS = 3_200_000
# By case: the task, and its flags. Goals are so near that some first policy may come
# there by chance.
CASES: dict[str, tuple[str, str]] = {
    "half_cheetah final-x": ("half_cheetah", "--outcome final-x"),
    "half_cheetah max-speed": ("half_cheetah", "--outcome max-speed"),
    "half_cheetah sparse-goal": ("half_cheetah", "--outcome sparse-goal --goal 10"),
    "half_cheetah rounded": ("half_cheetah", "--action-levels 3"),
    "half_cheetah final-x rounded": (
        "half_cheetah",
        "--outcome final-x --action-levels 3",
    ),
    "hopper final-x": ("hopper", "--outcome final-x"),
    "hopper max-speed": ("hopper", "--outcome max-speed"),
    "hopper sparse-goal": ("hopper", "--outcome sparse-goal --goal 2"),
}
# The default recipe; ARS as benchmarks/epvf_tasks.py has it for half_cheetah; OpenES
# and CMA-ES with the defaults of applications.baselines.
ALGORITHMS = {
    "epvf": f"--iterations {_STEPS // 32_000}",
    "ars": "--normalise --eval-episodes 1 --num-envs 64 --top 4 --learning-rate 0.02 "
    f"--noise-scale 0.03 --steps {_STEPS}",
    "openes": f"--normalise --steps {_STEPS}",
    "cma-es": f"--normalise --steps {_STEPS}",
}


def main() -> None:
    study(
        "epvf_outcomes",
        "outcomes",
        __doc__,
        list(CASES),
        _trainings,
        lambda table, _: draw_dots(table, "Outcomes of whole episodes"),
        examine=lambda run: result_of(run, "return_policy", "critic_correlation"),
        lay_out=_table,
        page="whole_episodes.md",
    )


def _trainings(cases: Sequence[str]) -> list[Training]:
    return [
        Training(
            (case, algorithm),
            f"--env {CASES[case][0]} {CASES[case][1]} {flags}"
            + ("" if algorithm == "epvf" else f" --algorithm {algorithm}"),
            seed,
            "applications.epvf.train"
            if algorithm == "epvf"
            else "applications.baselines.train",
        )
        for case in cases
        for algorithm, flags in ALGORITHMS.items()
        for seed in _SEEDS
    ]


def _table(table: list[dict[str, Any]]) -> str:
    """Outcomes of 1 and of 1,000 stand in one column: three digits of each."""
    lines = [
        "| case | | steps | seconds | mean outcomes of the seeds | IQM (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for row in table:
        case, name = row["group"]
        seeds = ", ".join(f"{x:.3g}" for x in row["mean_returns"])
        lines.append(
            f"| `{case}` | {name} | {row['env_steps'] / 1e6:.1f} M | "
            f"{row['seconds']:.0f} | {seeds} | "
            f"{middle(row, '.3g')} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
