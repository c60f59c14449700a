"""The list of the paper's Figure 2 (Bohlinger and Peters, 2025) on two tasks.

Every run has one core. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_ablations.py
"""

import argparse

from _common import fill, write
from _groups import draw_dots, markdown, summarise
from _runs import result_of, train_all, Training

from applications.epvf.ablate import ABLATIONS


_SEEDS = range(5)
TASKS = {
    "mountain_car_continuous": "--normalise --hidden 8 --weight-clip 5 --targets rank",
    "inverted_pendulum": "--representation probing --iterations 60",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument(
        "--cores", nargs="*", type=int, default=[0, 1], help="none: only what is there"
    )
    arguments = parser.parse_args()
    train_all(_trainings(arguments.tasks), arguments.cores)
    found = [
        result_of(run, "return_perturbed_mean", "critic_correlation")
        for run in _trainings(list(TASKS))
    ]
    runs = [run for run in found if run is not None]
    table = summarise(runs)
    print(markdown(table))
    fill("learning.md", "ablations", markdown(table))
    write(
        "epvf_ablations",
        "python benchmarks/epvf_ablations.py",
        {"table": table, "runs": runs},
        draw_dots(table, "One choice changed at a time"),
    )


def _trainings(tasks: list[str]) -> list[Training]:
    return [
        Training(
            (task, name.replace(" ", "-")),
            " ".join(["--env", task, TASKS[task], *flags]),
            seed,
        )
        for task in tasks
        for name, flags in ABLATIONS.items()
        for seed in _SEEDS
    ]


if __name__ == "__main__":
    main()
