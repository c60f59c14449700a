"""The list of the paper's Figure 2 (Bohlinger and Peters, 2025) on two tasks.

Every run has one core. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_ablations.py
"""

from collections.abc import Sequence

from _groups import draw_dots
from _runs import result_of, Training
from _study import study

from applications.epvf.ablate import ABLATIONS


# By task: flags and seeds.
TASKS = {
    "mountain_car_continuous": (
        "--normalise --hidden 8 --weight-clip 5 --targets rank",
        range(5),
    ),
    "inverted_pendulum": ("--representation probing --iterations 60", range(3)),
}


def main() -> None:
    study(
        "epvf_ablations",
        "ablations",
        __doc__,
        list(TASKS),
        _trainings,
        lambda table, _: draw_dots(table, "One choice changed at a time"),
        examine=lambda run: result_of(
            run, "return_perturbed_mean", "critic_correlation"
        ),
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training(
            (task, name.replace(" ", "-")),
            " ".join(["--preset paper --env", task, shared, *flags]),
            seed,
        )
        for task in tasks
        for shared, seeds in [TASKS[task]]
        for name, flags in ABLATIONS["paper"].items()
        for seed in seeds
    ]


if __name__ == "__main__":
    main()
