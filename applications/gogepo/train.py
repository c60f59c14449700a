"""``python -m applications.gogepo.train``: trains, and leaves a run directory."""

import sys
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax

from applications.gogepo._runs import COMMAND_LINE, keep_snapshot
from applications.gogepo.algorithm import GoGePo, State
from applications.training import (
    exit_on_user_error,
    keep_compiled,
    parse_settings,
    Row,
    shown,
    train,
    without_display,
)


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    settings, resumed = parse_settings(COMMAND_LINE, arguments)
    done = train(
        GoGePo,
        settings,
        resumed=resumed,
        summarise_start=_summarise_start,
        format_row=_format_row,
        must_be_finite=("critic_loss", "generator_loss"),
        on_save=keep_snapshot,
    )
    if done is not None:
        run, _, state = done
        best = " ".join(
            f"{number:g}" for number in state.learned.outcomes.best.tolist()
        )
        print(
            f"That was the policy for the best outcome so far, {best}.\n"
            f"All commands: python -m applications.gogepo.evaluate {run.directory}\n"
            f"One policy: python -m applications.gogepo.generate {run.directory} "
            f"--command {best}"
        )
    return 0


def _summarise_start(search: GoGePo, state: State) -> str:
    def size(tree: Any) -> int:
        arrays = eqx.filter(tree, eqx.is_array)
        return sum(leaf.size for leaf in jax.tree.leaves(arrays))

    config, learned = search.config, state.learned
    return (
        f"policies of {search.view.space.size} weights, generator "
        f"({config.generator}) of {size(learned.generator):,}, evaluator "
        f"({config.representation}) of {size(learned.value):,}, {config.num_envs} "
        f"environments, archive of {learned.archive.capacity}"
    )


def _format_row(row: Row) -> str:
    return (
        f"best {shown(row, 'command_best', '.1f')}  return there "
        f"{shown(row, 'return_policy', '.1f')}  commands off by "
        f"{shown(row, 'command_error', '.1f')}, correlation "
        f"{shown(row, 'command_correlation', '+.2f')}  "
        f"{shown(row, 'steps_per_second', ',.0f')} steps/s"
    )


if __name__ == "__main__":
    keep_compiled()
    without_display()
    sys.exit(main())
