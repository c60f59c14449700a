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

from applications.settings import check_settings, Count, UserError
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


# What does not make a run another one.
_LEFT_OUT = frozenset({"algorithm", "seed", "run_dir", "resume", "checkpoint_every"})
_OF_THE_TASK = frozenset({"env", "physics", "horizon", "integrator", "survival_bonus"})


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
    """Names of runs: algorithms, and settings in which runs of one differ.

    The task's own settings count wherever they differ; others, such as rates, mean
    different things to different algorithms.
    """
    # Runs of EPVF name no algorithm.
    algorithms = [config.get("algorithm", "epvf") for config in configs]

    def label(config: dict[str, Any], algorithm: str) -> str:
        peers = [c for c, a in zip(configs, algorithms, strict=True) if a == algorithm]

        def differs(name: str) -> bool:
            among = configs if name in _OF_THE_TASK else peers
            return len({repr(one.get(name)) for one in among}) > 1

        names = [name for name in config if name not in _LEFT_OUT and differs(name)]
        parts = [algorithm] if len(set(algorithms)) > 1 else []
        parts += [f"{name} {_plain(config[name])}" for name in names]
        return ", ".join(parts) or str(config.get("env", "run"))

    return [label(*one) for one in zip(configs, algorithms, strict=True)]


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
