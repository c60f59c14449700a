"""``python -m applications.compare RUN...``: draws runs beside each other.

Runs that differ only in their seed make a group. Of each group: the interquartile mean
over seeds (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice") with a bootstrap interval, against environment steps and against
seconds.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from applications.envs import TaskSettings
from applications.settings import check_settings, Count, UserError
from applications.training import (
    check_output,
    check_picture,
    comparison_table,
    draw_comparison,
    exit_on_user_error,
    Manifest,
    Middle,
    Panels,
    read_curve,
    Run,
    summarise,
    write_json,
)


# What does not make a run another one.
_LEFT_OUT = frozenset({"preset", "seed", "run_dir", "resume", "checkpoint_every"})
_OF_THE_TASK = frozenset(field.name for field in dataclasses.fields(TaskSettings))


@dataclasses.dataclass(frozen=True)
class CompareArgs:
    """Draws runs beside each other and prints what they came to.

    Runs that differ only in their seed are one group. In place of runs, the .json of an
    earlier picture is drawn again, as the other flags say.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")
    ]
    """Directories of runs, or one .json that this command wrote."""

    out: Path = Path("comparison.png")
    """The picture to write (.png, .pdf or .svg); a .json beside it has its numbers."""

    metric: str = "return_policy"
    """Which column of the metrics to compare."""

    last: Count = 10
    """Rows at the end of a run over whose mean it is judged."""

    labels: tuple[str, ...] = ()
    """Names of the groups, in the order of the table, in place of their settings."""

    title: str | None = None
    """What stands above the picture: the task, unless given."""

    panels: Panels = "both"
    """Draw against environment steps, against seconds, or both."""

    middle: Middle = "iqm"
    """Over the seeds of a group: the interquartile mean, or the mean."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Compares as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(CompareArgs, prog="python -m applications.compare", args=arguments)
    check_settings(asked)
    if not asked.runs:
        raise UserError("Give the directory of a run, or of several.")
    check_picture(asked.out, "--out")
    check_output(asked.out, "--out")
    for label in asked.labels:
        _check_text("--labels", label)
    if asked.title is not None:
        _check_text("--title", asked.title)
    if len(asked.runs) == 1 and asked.runs[0].suffix == ".json":
        return _redraw(asked)
    places = [path.resolve() for path in asked.runs]
    twice = [str(path) for path in asked.runs if places.count(path.resolve()) > 1]
    if twice:
        raise UserError(f"A run counts once; the same one is {' and '.join(twice)}.")
    runs = [Run(path) for path in asked.runs]
    groups: dict[str, list[Run]] = {}
    labels = _labels([run.manifest for run in runs])
    for run, label in zip(runs, labels, strict=True):
        groups.setdefault(label, []).append(run)
    if asked.labels:
        _check_labels(asked.labels, list(groups))
        groups = dict(zip(asked.labels, groups.values(), strict=True))
    compare(
        groups,
        asked.out,
        metric=asked.metric,
        last=asked.last,
        title=asked.title,
        panels=asked.panels,
        middle=asked.middle,
    )
    return 0


def _check_text(flag: str, text: str) -> None:
    """Refuses what cannot be drawn: bytes that are no text, and broken formulas."""
    # Slow to import.
    from matplotlib.mathtext import MathTextParser

    try:
        text.encode()
        MathTextParser("path").parse(text)
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{flag} {text!a} cannot be drawn: {reason}") from error


def _check_labels(labels: Sequence[str], groups: Sequence[str]) -> None:
    if len(labels) != len(groups) or len(set(labels)) != len(labels):
        raise UserError(
            f"--labels must be {len(groups)} different names, for: {'; '.join(groups)}."
        )


def _redraw(asked: CompareArgs) -> int:
    """Draws what a .json has."""
    (path,) = asked.runs
    try:
        content = json.loads(path.read_text())
        summaries, metric = content["groups"], content["metric"]
        curves = [one["curves"] for one in summaries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not from this command: {error!r}.") from error
    if asked.labels:
        _check_labels(asked.labels, [one["runs"] for one in summaries])
        for one, label in zip(summaries, asked.labels, strict=True):
            one["runs"] = label
    title = content.get("title") if asked.title is None else asked.title
    draw_comparison(summaries, metric, asked.out, title=title, panels=asked.panels)
    print(f"Drawn: {asked.out}, {len(curves)} groups of {path}")
    return 0


def compare(
    groups: Mapping[str, Sequence[Run]],
    out: Path,
    *,
    metric: str,
    last: int,
    title: str | None = None,
    panels: Panels = "both",
    middle: Middle = "iqm",
    **more: Any,
) -> None:
    """Prints and draws what groups of runs came to.

    Args:
        groups: Runs by name of the group.
        out: The picture to write; a .json beside it gets the numbers.
        metric: Which column of the metrics to compare.
        last: Rows at the end of a run over whose mean it is judged.
        title: What stands above; the task, if it is one, unless given.
        panels: Against what to draw.
        middle: What is shown of the seeds of a group.
        **more: What the .json says too.

    Raises:
        UserError: If a run has no such metric.
        OSError: If a file cannot be written.
    """
    curves = {
        label: [read_curve(run, metric) for run in group]
        for label, group in groups.items()
    }
    summaries = [
        summarise(label, group, last, middle=middle) for label, group in curves.items()
    ]
    print(comparison_table(summaries, metric))
    settings = [run.manifest.settings for runs in groups.values() for run in runs]
    tasks = {str(own.get("env")) for own in settings}
    if title is None and len(tasks) == 1:
        (title,) = tasks
    draw_comparison(summaries, metric, out, title=title, panels=panels)
    content = {"metric": metric, "middle": middle, "title": title, **more}
    write_json(out.with_suffix(".json"), content | {"groups": summaries})
    print(f"Drawn: {out}")


def _labels(manifests: Sequence[Manifest]) -> list[str]:
    """Names of runs: algorithms, presets, and settings in which runs of one differ.

    The task's own settings count wherever they differ; others, such as rates, mean
    different things to different algorithms.
    """

    def kind(manifest: Manifest) -> tuple[str, str | None]:
        return manifest.algorithm, manifest.settings.get("preset")

    algorithms = {manifest.algorithm for manifest in manifests}

    def label(manifest: Manifest) -> str:
        own = manifest.settings
        peers = [one for one in manifests if kind(one) == kind(manifest)]

        def differs(name: str) -> bool:
            among = manifests if name in _OF_THE_TASK else peers
            return len({repr(one.settings.get(name)) for one in among}) > 1

        presets = {kind(x)[1] for x in manifests if x.algorithm == manifest.algorithm}
        parts = [manifest.algorithm] if len(algorithms) > 1 else []
        parts += [f"preset {own['preset']}"] if len(presets) > 1 else []
        names = [name for name in own if name not in _LEFT_OUT and differs(name)]
        parts += [f"{name} {_plain(own[name])}" for name in names]
        return ", ".join(parts) or str(own.get("env", "run"))

    return [label(manifest) for manifest in manifests]


def _plain(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    sys.exit(main())
