"""GoGePo on cartpole and the paper's four tasks, with ARS and DDPG beside it.

Every run has one core. Runs are kept in `runs/benchmarks`, so that this can be stopped
and started again.

    python benchmarks/gogepo_tasks.py
"""

from collections.abc import Sequence
from typing import Any

from _gogepo import draw_commands, result_of_generator, TRAINER
from _runs import result_of, Training
from _study import study
from _style import in_style, legend_below, panels
from epvf_tasks import draw_returns, TASKS as EPVF_TASKS
from matplotlib.figure import Figure


# DDPG takes a quarter of an hour for each.
_SEEDS = {"gogepo": range(5), "ars": range(3), "ddpg": range(1)}
# Rank correlation and best return achieved that are enough on cartpole.
_ENOUGH = (0.9, 475.0)
# By task: what is commanded in the end (21 commands; from the least to the best outcome
# of the run where nothing is said), and flags by algorithm.
TASKS: dict[str, tuple[str, dict[str, str]]] = {
    "cartpole": (
        "--low 0 --high 500",
        {"gogepo": "", "ars": "--steps 2000000"},
    ),
    "mountain_car_continuous": (
        "",
        {
            "gogepo": "--iterations 100",
            "ars": "--normalise --steps 5000000",
            "ddpg": "--steps 100000",
        },
    ),
    "inverted_pendulum": (
        "",
        {
            "gogepo": "--iterations 100",
            "ars": "--normalise --steps 4000000",
            "ddpg": "--steps 100000",
        },
    ),
    "swimmer": (
        "",
        {
            "gogepo": "--hidden --iterations 40",
            "ars": EPVF_TASKS["swimmer"][1]["ars"],
            "ddpg": "--steps 100000",
        },
    ),
    "hopper": (
        "",
        {
            "gogepo": "--hidden --iterations 150 --no-survival-bonus",
            "ars": EPVF_TASKS["hopper"][1]["ars"],
            "ddpg": "--steps 100000",
        },
    ),
}
_METRICS = ("return_policy", "command_best", "command_error", "command_correlation")


def main() -> None:
    study(
        "gogepo_tasks",
        "tasks",
        __doc__,
        list(TASKS),
        _trainings,
        lambda _, runs: _draw(runs),
        examine=_examine,
        mark=_count_enough,
        also=["epvf_tasks"],
        page="gogepo.md",
    )


def _count_enough(row: dict[str, Any]) -> None:
    if row["group"] == ["cartpole", "gogepo"]:
        row["enough"] = _ENOUGH
        pairs = zip(row["rank_correlation"], row["best_achieved"], strict=True)
        row["seeds_with_enough"] = sum(
            rank >= _ENOUGH[0] and best >= _ENOUGH[1] for rank, best in pairs
        )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training(
            (task, algorithm),
            _flags(task, algorithm, flags),
            seed,
            TRAINER if algorithm == "gogepo" else "applications.baselines.train",
        )
        for task in tasks
        for algorithm, flags in TASKS[task][1].items()
        for seed in _SEEDS[algorithm]
    ]


def _flags(task: str, algorithm: str, flags: str) -> str:
    named = [] if algorithm == "gogepo" else ["--algorithm", algorithm]
    # Cartpole is the default, as a first look has it.
    where = [] if task == "cartpole" and algorithm == "gogepo" else ["--env", task]
    return " ".join([*where, *flags.split(), *named])


def _examine(run: Training) -> dict[str, Any] | None:
    task, algorithm = run.group
    if algorithm == "gogepo":
        return result_of_generator(run, TASKS[task][0], *_METRICS)
    return result_of(run, "return_policy")


@in_style()
def _draw(runs: list[dict[str, Any]]) -> Figure:
    tasks = list(dict.fromkeys(run["group"][0] for run in runs))
    figure, grid = panels(2 * len(tasks), 2, 2.4)
    for task, learning, commands in zip(tasks, grid[::2], grid[1::2], strict=True):
        mine = [run for run in runs if run["group"][0] == task]
        draw_returns(learning, mine)
        learning.set(title=task, xlabel="million environment steps")
        learning.set_ylabel("return of the policy")
        generators = [run for run in mine if run["group"][1] == "gogepo"]
        if generators:
            draw_commands(commands, generators)
            commands.set_title(f"{task}: commands")
        else:
            commands.remove()
    legend_below(figure, grid)
    return figure


if __name__ == "__main__":
    main()
