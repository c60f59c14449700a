"""``python -m applications.epvf.ablate``: what each part of the algorithm is worth.

The list is that of Figure 2 of Bohlinger and Peters (2025): each run has one setting
other than the first.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from applications.settings import check_settings, Count, OptionalCount, Seed, UserError
from applications.training import (
    comparison_table,
    Curve,
    draw_comparison,
    exit_on_user_error,
    read_curve,
    Run,
    summarise,
    write_json,
)


ABLATIONS: dict[str, tuple[str, ...]] = {
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
}
_METRIC = "return_policy"


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Trains with one setting changed at a time, and draws what comes of it.

    Flags that are not listed go to every training run, as in `--num-envs 4096 --archive
    1 --weight-clip 0.3`, the paper's. Started again, it goes on where it stopped.
    """

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
        The exit code: 0, 2 for input that cannot be used, or that of a run that failed.
    """
    asked, flags = tyro.cli(
        Ablation,
        prog="python -m applications.epvf.ablate",
        args=arguments,
        return_unknown_args=True,
    )
    check_settings(dataclasses.replace(asked, seeds=()))
    unknown = set(asked.only) - set(ABLATIONS)
    if unknown:
        raise UserError(
            f"There is no setting {sorted(unknown)}; there are {list(ABLATIONS)}."
        )
    names = asked.only or tuple(ABLATIONS)
    directory = asked.directory / asked.env
    groups: dict[str, list[Curve]] = {}
    for name in names:
        for seed in asked.seeds:
            run = directory / f"{name.replace(' ', '-')}-seed{seed}"
            given = ["--env", asked.env, "--seed", str(seed), *flags, *ABLATIONS[name]]
            if asked.iterations is not None:
                given += ["--iterations", str(asked.iterations)]
            code = _train(run, given)
            if code:
                return code
            groups.setdefault(name, []).append(read_curve(Run(run), _METRIC))
    summaries = [summarise(name, group, asked.last) for name, group in groups.items()]
    print(comparison_table(summaries, _METRIC))
    picture = directory / "ablations.png"
    draw_comparison(groups, _METRIC, picture)
    write_json(
        picture.with_suffix(".json"),
        {"metric": _METRIC, "flags": flags, "groups": summaries},
    )
    print(f"Drawn: {picture}")
    return 0


def _train(directory: Path, flags: list[str]) -> int:
    """Trains in a process of its own; a run that is done is left alone."""
    if (directory / "evaluation.json").is_file():
        return 0
    print(f"{directory.name}: {' '.join(flags)}", flush=True)
    begun = (directory / "config.json").is_file()
    where = ["--resume" if begun else "--run-dir", str(directory)]
    command = [sys.executable, "-m", "applications.epvf.train", *flags, *where]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    # Stopped on request, it ends well but has no evaluation.
    return code or int(not (directory / "evaluation.json").is_file())


if __name__ == "__main__":
    sys.exit(main())
