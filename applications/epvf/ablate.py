"""``python -m applications.epvf.ablate``: what each part of the algorithm is worth.

The list of the preset `paper` is that of Figure 2 of Bohlinger and Peters (2025), that
of `recipe` takes its parts away: each run has one setting other than the first.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from applications.compare import compare
from applications.settings import check_settings, Count, OptionalCount, Seed, UserError
from applications.sweep import sweep
from applications.training import exit_on_user_error


_WEIGHT_UNIT = ("--noise-unit", "weight", "--noise-scale")

# By preset and name.
ABLATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "paper": {
        "as it is": (),
        "multiple policies": ("--policies", "many"),
        "archive of 100 batches": ("--archive", "100"),
        "fixed policy rate": (
            *("--policy-lr", "1e-5", "--policy-lr-schedule", "constant"),
        ),
        "noise 1.0": ("--noise-scale", "1.0"),
        "no clip": ("--clip", "none"),
        "clipped perturbations": ("--clip", "perturbed"),
        "Gaussian noise": ("--noise", "gaussian", "--noise-scale", "1.0"),
    },
    "recipe": {
        "as it is": (),
        "weights, not answers": ("--representation", "flat"),
        "answers and weights": ("--representation", "answers+flat"),
        "learned probes, perceptron": (
            *("--representation", "probing", "--critic", "perceptron"),
        ),
        "perceptron": ("--critic", "perceptron"),
        "perceptron, drawn anew": (
            *("--critic", "perceptron", "--critic-start", "anew"),
            *("--critic-updates", "100"),
        ),
        "leave-one-out": ("--kernel-scale", "None", "--kernel-noise", "None"),
        "standardised returns": ("--targets", "standard"),
        "Adam": ("--direction", "adam"),
        "natural gradient": ("--direction", "natural"),
        "radius 0.1": ("--trust-radius", "0.1"),
        "radius 0.6": ("--trust-radius", "0.6"),
        "radius 1.0": ("--trust-radius", "1.0"),
        "no optimism": ("--optimism", "0"),
        "optimism 0.5": ("--optimism", "0.5"),
        "as far as V is sure": ("--trust-radius", "2", "--largest-deviation", "0.6"),
        "radius shrinks": ("--trust-radius", "0.8", "--trust-schedule", "linear"),
        "no pairs": ("--no-antithetic",),
        "common starts": ("--common-starts",),
        "noise narrows": ("--noise-schedule", "geometric"),
        "noise 0.1": (*_WEIGHT_UNIT, "0.1"),
        "noise 0.05": (*_WEIGHT_UNIT, "0.05"),
        "noise 0.1 to 0.03": (
            *(*_WEIGHT_UNIT, "0.1", "--noise-schedule", "geometric"),
            *("--noise-end", "0.03"),
        ),
        "the newest policy": ("--average", "0"),
        "noise by success": ("--noise-adaptation", "success"),
        "noise by weight": (*_WEIGHT_UNIT, "0.1", "--noise-shape", "weight"),
        "noise by weight, clip 0.1": (
            *(*_WEIGHT_UNIT, "0.1", "--noise-shape", "weight"),
            *("--clip", "policy", "--weight-clip", "0.1"),
        ),
        "noise by array": (*_WEIGHT_UNIT, "0.1", "--noise-shape", "array"),
        "low rank": ("--perturbation", "low-rank"),
        "start as drawn": ("--start", "drawn"),
        "archive of 4 batches": ("--archive", "4"),
    },
}


@dataclasses.dataclass(frozen=True)
class AblateArgs:
    """Trains with one setting changed at a time, and draws what comes of it.

    Flags that are not listed go to every training run, as in `--num-envs 4096 --archive
    1 --weight-clip 0.3`, the paper's. Started again, it goes on where it stopped; runs
    of other flags need another directory.
    """

    preset: Literal["paper", "recipe"] = "paper"
    """Settings to begin with; each has a list of its own."""

    env: str = "cartpole"
    """Task to learn."""

    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Seeds of each setting."""

    only: tuple[str, ...] = ()
    """Names of the settings to run. All of them unless given."""

    directory: Path = Path("runs/ablations")
    """Where the runs go, and the picture."""

    last: Count = 10
    """Rows at the end of a run over whose mean it is judged."""

    iterations: OptionalCount = None
    """Iterations of each run. The trainer's own unless given."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all ablations as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used and a run that failed.
    """
    asked, flags = tyro.cli(
        AblateArgs,
        prog="python -m applications.epvf.ablate",
        args=arguments,
        return_unknown_args=True,
    )
    check_settings(dataclasses.replace(asked, seeds=()))
    ablations = ABLATIONS[asked.preset]
    unknown = set(asked.only) - set(ablations)
    if unknown:
        raise UserError(
            f"There is no setting {sorted(unknown)}; there are {list(ablations)}."
        )
    shared = ["--preset", asked.preset, "--env", asked.env, *flags]
    if asked.iterations is not None:
        shared += ["--iterations", str(asked.iterations)]
    groups = {
        name: (*shared, *ablations[name]) for name in asked.only or tuple(ablations)
    }
    directory = asked.directory / asked.preset / asked.env
    runs = sweep("applications.epvf.train", groups, asked.seeds, directory)
    picture = directory / "ablations.png"
    compare(runs, picture, metric="return_policy", last=asked.last, flags=flags)
    return 0


if __name__ == "__main__":
    sys.exit(main())
