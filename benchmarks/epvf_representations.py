"""What the critic reads: weights, weight-space encoders or answers, on three tasks.

Every run has one core. Runs are kept, so this can be stopped and started again.

    python benchmarks/epvf_representations.py
"""

from collections.abc import Sequence

from _groups import draw_dots
from _runs import result_of, Training
from _study import study

from applications.values import REPRESENTATIONS


_SEEDS = range(3)
# Fewer policies and updates than the default, so that all encoders take minutes.
_CARTPOLE = "--num-envs 64 --critic-updates 10"
_WIDE = "--normalise --hidden 16 16 --weight-clip 5 --noise-scale 1 --targets rank"
_SWIMMER = "--hidden 16 16 --num-envs 64 --archive 8 --iterations 60"
# Those whose seconds are few beside the physics'.
_SOME = ("flat", "equivariant", "forward-graph", "probing")
TASKS = {
    "cartpole": (_CARTPOLE, tuple(x for x in REPRESENTATIONS if x != "answers")),
    "mountain_car_continuous": (_WIDE, _SOME),
    "swimmer": (_SWIMMER, _SOME),
}


def main() -> None:
    study(
        "epvf_representations",
        "representations",
        __doc__,
        list(TASKS),
        _trainings,
        lambda table, _: draw_dots(table, "What the critic reads"),
        examine=lambda run: result_of(
            run, "return_perturbed_mean", "critic_correlation"
        ),
    )


def _trainings(tasks: Sequence[str]) -> list[Training]:
    return [
        Training(
            (task, name),
            f"--preset paper --env {task} {flags} --representation {name}",
            seed,
        )
        for task in tasks
        for flags, names in [TASKS[task]]
        for name in names
        for seed in _SEEDS
    ]


if __name__ == "__main__":
    main()
