"""GoGePo on cartpole and the paper's four tasks, with other algorithms beside it.

What stands beside it is at equal steps too: when the shortest run of a task ended.

Every run has one core. Runs are kept in `runs/benchmarks`, so that this can be stopped
and started again.

    python benchmarks/gogepo_tasks.py
"""

from collections.abc import Sequence
from typing import Any

from _gogepo import draw_commands, result_of_generator, TRAINER
from _groups import at_equal_steps
from _runs import result_of, Training
from _study import study
from _style import in_style, legend_below, panels
from epvf_tasks import draw_returns, TASKS as EPVF_TASKS
from matplotlib.figure import Figure


_SEEDS = range(5)
# Of what stands beside it.
_SEEDS_BESIDE = range(3)
# Rank correlation and best return achieved that are enough on cartpole.
_ENOUGH = (0.9, 475.0)
# By task: what is commanded in the end (21 commands; from the least to the best outcome
# of the run where nothing is said), and GoGePo's flags.
TASKS: dict[str, tuple[str, str]] = {
    "cartpole": ("--low 0 --high 500", ""),
    "mountain_car_continuous": ("", "--iterations 100"),
    "inverted_pendulum": ("", "--iterations 100"),
    "swimmer": ("", "--hidden --iterations 60"),
    "hopper": ("", "--hidden --iterations 150 --no-survival-bonus"),
}
# By task, the flags of each algorithm beside it: those of EPVF's tasks, or own ones.
_BESIDE = {
    "cartpole": {"ars": "--steps 2000000"},
    "mountain_car_continuous": {"ars": "--normalise --steps 5000000"},
    "inverted_pendulum": {"ars": "--normalise --steps 4000000"},
}
_FROM_EPVF_TASKS = ("ars", "openes")
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
        tabulate=at_equal_steps,
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


def task_flags(task: str) -> str:
    """Flags of GoGePo on a task. Cartpole is the default, as a first look has it."""
    where = [] if task == "cartpole" else ["--env", task]
    return " ".join([*where, *TASKS[task][1].split()])


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [run for task in tasks for run in _of_task(task)]


def _of_task(task: str) -> list[Training]:
    own = [
        Training((task, "gogepo"), task_flags(task), seed, TRAINER) for seed in _SEEDS
    ]
    beside = [
        Training(
            (task, algorithm),
            f"--env {task} {flags} --algorithm {algorithm}",
            seed,
            "applications.baselines.train",
        )
        for algorithm, flags in _beside(task).items()
        for seed in _SEEDS_BESIDE
    ]
    return own + beside


def _beside(task: str) -> dict[str, str]:
    theirs = EPVF_TASKS[task][1] if task in EPVF_TASKS else {}
    return _BESIDE.get(task, {}) | {
        name: flags for name, flags in theirs.items() if name in _FROM_EPVF_TASKS
    }


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
