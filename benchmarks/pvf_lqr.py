"""PSVF and PAVF on LQR, whose best return is known: -1.618034.

80,000 steps, three seeds each, on one core a run: V(s, θ) and Q(s, a, θ) by λ-returns;
the same by one-step TD; Q(s, a, θ) with the action term alone, as controls; and the
actor-critic without θ. Runs are kept, so this can be stopped and started again.

    python benchmarks/pvf_lqr.py
"""

from collections.abc import Sequence
from typing import Any

from _runs import result_of, Training
from _study import study
from matplotlib.figure import Figure
from pvf_tasks import draw


_SEEDS = range(3)
_MODULE = "applications.pvf.train"
_SOLVED = -2.2
_SHARED = (
    "--env lqr --steps 80000 --num-envs 64 --rounds 2 --noise-scale 0.1 "
    "--discount 0.99 --policy-lr 3e-4 --policy-lr-schedule linear --target-rate 0.05 "
    "--fresh-every 5"
)
_FLAT = "--representation flat"
VARIANTS = {
    "psvf, λ .95": f"--critic psvf {_FLAT} --lambda 0.95",
    "pavf, both terms, λ .95": f"{_FLAT} --theta-term 1 --lambda 0.95",
    "pavf, action term only, λ .95": f"{_FLAT} --theta-term 0 --lambda 0.95",
    "psvf, one-step TD": f"--critic psvf {_FLAT} --lambda 0",
    "no θ, λ .95": "--lambda 0.95",
}


def main() -> None:
    study(
        "pvf_lqr",
        "lqr",
        __doc__,
        ["lqr"],
        _trainings,
        lambda _, runs: _draw(runs),
        examine=lambda run: result_of(
            run, "return_policy", "value_correlation", "start_correlation"
        ),
        mark=_count_solved,
        page="pvf.md",
    )


def _count_solved(row: dict[str, Any]) -> None:
    row["solved_at"] = _SOLVED
    row["seeds_solved"] = sum(x >= _SOLVED for x in row["mean_returns"])


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training((task, name), f"{_SHARED} {flags}", seed, _MODULE)
        for task in tasks
        for name, flags in VARIANTS.items()
        for seed in _SEEDS
    ]


def _draw(runs: list[dict[str, Any]]) -> Figure:
    # Returns span two decades.
    return draw(runs, {"lqr": _SOLVED}, value="symlog", linthresh=2, linscale=0.5)


if __name__ == "__main__":
    main()
