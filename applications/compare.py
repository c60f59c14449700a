"""``python -m applications.compare RUN...``: draws runs beside each other.

Runs that differ only in their seed make a group. Of each group: the interquartile mean
over seeds (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice") with a bootstrap interval, against environment steps and against
seconds.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from applications.runs import (
    check_settings,
    comparison_table,
    Count,
    Curve,
    draw_comparison,
    exit_on_user_error,
    read_curve,
    Run,
    summarise,
    UserError,
    write_json,
)


# What does not make a run another one.
_LEFT_OUT = frozenset({"seed", "run_dir", "resume", "checkpoint_every"})


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Draws runs beside each other and prints what they came to.

    Runs that differ only in their seed are one group.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")
    ]
    """Directories of runs."""

    out: Path = Path("comparison.png")
    """The picture to write; a .json of the same name has its numbers."""

    metric: str = "return_policy"
    """Which column of the metrics to compare."""

    last: Count = 10
    """Rows at the end of a run over whose mean it is judged."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Compares as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(Comparison, prog="python -m applications.compare", args=arguments)
    check_settings(asked)
    if not asked.runs:
        raise UserError("Give the directory of a run, or of several.")
    runs = [Run(path) for path in asked.runs]
    groups: dict[str, list[Curve]] = {}
    labels = _labels([run.config for run in runs])
    for run, label in zip(runs, labels, strict=True):
        groups.setdefault(label, []).append(read_curve(run, asked.metric))
    summaries = [summarise(label, group, asked.last) for label, group in groups.items()]
    print(comparison_table(summaries, asked.metric))
    draw_comparison(groups, asked.metric, asked.out)
    write_json(
        asked.out.with_suffix(".json"), {"metric": asked.metric, "groups": summaries}
    )
    print(f"Drawn: {asked.out}")
    return 0


def _labels(configs: list[dict[str, Any]]) -> list[str]:
    """Names of runs: the settings in which any two of them differ."""
    kept = [{k: v for k, v in c.items() if k not in _LEFT_OUT} for c in configs]
    names = dict.fromkeys(name for config in kept for name in config)
    differing = [
        name for name in names if len({repr(config.get(name)) for config in kept}) > 1
    ]

    def show(config: dict[str, Any]) -> str:
        parts = [
            f"{name} {_plain(config[name])}" for name in differing if name in config
        ]
        return ", ".join(parts) or str(config.get("env", "run"))

    return [show(config) for config in kept]


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
