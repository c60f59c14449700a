"""``python -m applications.gogepo.generate DIR --command C``: writes one policy."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import tyro

from applications.gogepo._runs import last_snapshot, open_run
from applications.gogepo.algorithm import GoGePo, Model
from applications.settings import check_settings, Seed, UserError
from applications.training import (
    check_output,
    exit_on_user_error,
    key_for,
    Purpose,
    save_policy,
)


_PROG = "python -m applications.gogepo.generate"


@dataclasses.dataclass(frozen=True)
class GenerateArgs:
    """Writes a policy that does what is commanded, as far as a run has learned to."""

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Directory of a run."""

    command: tuple[float, ...]
    """What the policy is to do: a return, or as many numbers as the run commands, such
    as a return and a size."""

    extrapolate: bool = False
    """Write for a command beyond what the run has seen too, which is a guess. Otherwise
    the nearest that it has seen is taken."""

    out: Path | None = None
    """The policy file. In the run's directory, named by the command, unless given."""

    seed: Seed = 0
    """Draws the latent, where the generator has one."""


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Generates as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    asked = tyro.cli(GenerateArgs, prog=_PROG, args=arguments)
    check_settings(asked)
    if asked.out is not None:
        check_output(asked.out, "--out")
    opened = open_run(asked.path)
    run, algorithm = opened.run, opened.search
    model = last_snapshot(opened)
    names = algorithm.commands.names
    if len(asked.command) != len(names):
        raise UserError(
            f"--command takes {len(names)} number{'s' * (len(names) > 1)} here "
            f"({', '.join(names)}); got {len(asked.command)}."
        )
    wanted, condition = asked.command, algorithm.commands.condition
    if condition is not None:
        condition.check(wanted[-1])
    nearest, warning = nearest_command(algorithm, model, wanted)
    if warning:
        if asked.extrapolate:
            warning += f" What is written for {wanted[0]:g} is a guess."
        else:
            wanted = nearest
            warning += f" Written for {wanted[0]:g}, the nearest; --extrapolate tries."
        print(warning, file=sys.stderr)
    command = jnp.asarray(wanted)
    variant = None if condition is None else condition.variant(wanted[-1])
    key = key_for(asked.seed, Purpose.REPLAY)
    policy = algorithm.write(model, command, key=key)
    told = "-".join(f"{number:g}" for number in wanted)
    out = asked.out or run.directory / f"policy-{told}.eqx"
    save_policy(run, opened.settings, policy, path=out, variant=variant)
    weights = algorithm.generate(model, command[None], key=key)
    expected = algorithm.predict(model, weights)[0]
    achieved = algorithm.commands.achieved
    for name, number in zip(names[:achieved], expected.tolist(), strict=False):
        print(f"The evaluator expects a {name} of {number:.1f}.")
    if condition is not None:
        print(condition.describe(wanted[-1]))
    print(f"Written: {out}\nTo see it: python -m applications.evaluate {out}")
    return 0


def nearest_command(
    algorithm: GoGePo, model: Model, command: tuple[float, ...]
) -> tuple[tuple[float, ...], str | None]:
    """The nearest command in the range that was learned from.

    Args:
        algorithm: The run's algorithm.
        model: What it learned.
        command: The command, of whose first number the range is known.

    Returns:
        The command, and a sentence that says how far it is out of reach, or None.
    """
    least, best = model.outcomes.least.item(), model.outcomes.best[0].item()
    first = min(max(command[0], least), best)
    if first == command[0]:
        return command, None
    name = algorithm.commands.names[0]
    away = abs(command[0] - first)
    return (first, *command[1:]), (
        f"Warning: the run has seen a {name} from {least:.1f} to {best:.1f}; "
        f"{command[0]:g} is {away:.1f} beyond."
    )


if __name__ == "__main__":
    sys.exit(main())
