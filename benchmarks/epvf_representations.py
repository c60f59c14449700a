"""What the critic reads: weights, weight-space encoders or answers, on three tasks.

Every run has one core. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_representations.py
"""

import argparse
from typing import get_args

from _common import fill, write
from _groups import draw_dots, markdown, summarise
from _runs import result_of, train_all, Training

from applications.value import Representation


_SEEDS = range(3)
_WIDE = "--normalise --hidden 16 16 --weight-clip 5 --noise-scale 1 --targets rank"
_SWIMMER = "--hidden 16 16 --num-envs 64 --archive 8 --iterations 60"
# Those whose seconds are few beside the physics'.
_SOME = ("flat", "equivariant", "forward-graph", "probing")
TASKS = {
    "cartpole": ("", get_args(Representation)),
    "mountain_car_continuous": (_WIDE, get_args(Representation)),
    "swimmer": (_SWIMMER, _SOME),
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
    fill("learning.md", "representations", markdown(table))
    write(
        "epvf_representations",
        "python benchmarks/epvf_representations.py",
        {"table": table, "runs": runs},
        draw_dots(table, "What the critic reads"),
    )


def _trainings(tasks: list[str]) -> list[Training]:
    return [
        Training(
            (task, name), f"--env {task} {flags} --representation {name}".strip(), seed
        )
        for task in tasks
        for flags, names in [TASKS[task]]
        for name in names
        for seed in _SEEDS
    ]


if __name__ == "__main__":
    main()
