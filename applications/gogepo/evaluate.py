"""``python -m applications.gogepo.evaluate DIR``: what is done of what is commanded."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import numpy as np
import tyro

from applications.gogepo._curve import (
    answers_of,
    archive_error,
    commands_between,
    compile_curve,
    under_conditions,
)
from applications.gogepo._runs import (
    draw_commands,
    draw_conditions,
    draw_policies,
    open_run,
    snapshots,
)
from applications.gogepo.algorithm import GoGePo, State
from applications.settings import AtLeast, check_settings, Count, Seed, UserError
from applications.training import (
    check_directory,
    exit_on_user_error,
    key_for,
    load_checkpoint,
    Purpose,
    Run,
    save_figure,
    write_json,
)


_PROG = "python -m applications.gogepo.evaluate"
# Policies on the generator's path.
_PATH_POLICIES = 101


@dataclasses.dataclass(frozen=True)
class EvaluateArgs:
    """Commands what a run has learned, and draws what was done against it."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of a run."""

    commands: Annotated[int, AtLeast(2)] = 21
    """How many commands, evenly over the range from the least to the best outcome."""

    low: float | None = None
    """The first of them. The least outcome that the run has seen unless given."""

    high: float | None = None
    """The last of them. The best outcome that the run has seen unless given."""

    conditions: Annotated[int, AtLeast(2)] = 5
    """Where a command has a size or a variant too: how many of them, from end to end of
    their range. Each has all commands."""

    episodes: Count = 10
    """Episodes for each command."""

    seed: Seed = 0
    """Seed of the start states, and of latents."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Examines as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(EvaluateArgs, prog=_PROG, args=arguments)
    check_settings(asked)
    if asked.low is not None and asked.high is not None and asked.low >= asked.high:
        raise UserError(f"--low {asked.low} must be below --high {asked.high}.")
    check_directory(asked.path, "DIR")
    opened = open_run(asked.path)
    run, algorithm = opened.run, opened.search
    models = snapshots(opened)
    last = list(models.values())[-1]
    commands = commands_between(
        last.outcomes, asked.commands, low=asked.low, high=asked.high
    )
    condition = algorithm.commands.condition
    if condition is not None:
        commands = under_conditions(condition, commands, asked.conditions)
    key = key_for(asked.seed, Purpose.EVALUATE)
    curve_of = compile_curve(algorithm, commands, episodes=asked.episodes, key=key)
    curves = []
    state, progress, notes = load_checkpoint(
        run.checkpoints, opened.form, opened.checkpoint_settings
    )
    for note in notes:
        print(note, file=sys.stderr)
    if not progress.iteration:
        raise UserError(f"{run.checkpoints} is empty: no archive to draw policies of.")
    for iteration, model in models.items():
        curves.append({"iteration": iteration, **curve_of(model)})
        print(_summary(curves[-1]), flush=True)
    nearest = archive_error(commands, state.learned.archive, condition)
    print(f"The nearest policies of the archive would be off by {nearest:.1f}.")
    more = {}
    if condition is not None:
        told_one = compile_curve(
            algorithm, commands, episodes=asked.episodes, told=condition.own, key=key
        )
        more["told_one"] = told_one(last)
        print(
            f"With a {condition.name} of {condition.own:g} in every command it would "
            f"be off by {more['told_one']['mean_error']:.1f}."
        )
    write_json(
        run.directory / "commands.json",
        {
            "names": algorithm.commands.names,
            "episodes": asked.episodes,
            "archive_error": nearest,
            **{k: v for k, v in curves[-1].items() if k != "iteration"},
            **more,
            "snapshots": curves,
        },
    )
    names = algorithm.commands.names
    if condition is None:
        picture = draw_commands(curves, names)
    else:
        picture = draw_conditions(curves[-1], names)
    _save(picture, run, "commands.png")
    _save(_policies(algorithm, state), run, "policies.png")
    for name in ("commands.json", "commands.png", "policies.png"):
        print(f"Written: {run.directory / name}")
    return 0


def _summary(curve: dict[str, Any]) -> str:
    correlation, share = curve["rank_correlation"], curve["relative_error"]
    shown = "-" if correlation is None else f"{correlation:.3f}"
    of_range = "" if share is None else f" ({share:.0%} of the range)"
    return (
        f"Iteration {curve['iteration']}: rank correlation of commanded and achieved "
        f"{shown}, off by {curve['mean_error']:.1f} on average{of_range}, best "
        f"achieved {curve['best_achieved']:.1f}"
    )


def _policies(algorithm: GoGePo, state: State) -> Any:
    """Policies by their answers: those of the archive, and those on command."""
    model = algorithm.model(state)
    commands = model.outcomes.between(_PATH_POLICIES)
    condition = algorithm.commands.condition
    if condition is not None:
        commands = commands.at[:, -1].set(condition.own)
    answers = eqx.filter_jit(lambda weights: answers_of(algorithm, model, weights))
    path = answers(algorithm.generate(model, commands))
    there = np.asarray(
        state.learned.archive.filled & state.learned.archive.entries.valid
    )
    tried = np.asarray(answers(state.learned.archive.entries.weights))[there]
    outcomes = np.asarray(state.learned.archive.entries.outcome[:, 0])[there]
    return draw_policies(
        tried,
        outcomes,
        np.asarray(path),
        np.asarray(commands[:, 0]),
        algorithm.commands.names[0],
    )


def _save(figure: Any, run: Run, name: str) -> None:
    save_figure(figure, run.directory / name)


if __name__ == "__main__":
    sys.exit(main())
