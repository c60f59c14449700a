"""``python -m applications.epvf.train``: trains, and leaves a run directory."""

import sys
from collections.abc import Sequence

import equinox as eqx
import jax

from applications.envs import TaskSettings
from applications.epvf.algorithm import EPVF, Learned
from applications.epvf.config import PRESETS
from applications.search import SearchState
from applications.training import (
    CommandLine,
    exit_on_user_error,
    keep_compiled,
    parse_settings,
    Row,
    RunSettings,
    shown,
    train,
    without_display,
)


COMMAND_LINE = CommandLine(
    "python -m applications.epvf.train",
    {
        name: RunSettings(
            "epvf",
            TaskSettings(env="ant") if name == "ant" else TaskSettings(),
            config,
            preset=name,
        )
        for name, config in PRESETS.items()
    },
    selector="preset",
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
    train(
        EPVF,
        settings,
        resumed=resumed,
        summarise_start=_summarise_start,
        format_row=_format_row,
        must_be_finite=("critic_loss", "weight_norm"),
    )
    return 0


def _summarise_start(search: EPVF, state: SearchState[Learned]) -> str:
    config = search.config
    count, size = state.learned.policies.shape
    value = eqx.filter(state.learned.critic.value, eqx.is_array)
    critic = sum(leaf.size for leaf in jax.tree.leaves(value))
    return (
        f"{count} {'policy' if count == 1 else 'policies'} of {size} weights, critic "
        f"({config.representation}) of {critic:,}, {config.num_envs} environments, "
        f"archive of {state.learned.archive.capacity}"
    )


def _format_row(row: Row) -> str:
    return (
        f"return {shown(row, 'return_policy', '.1f')}  "
        f"perturbed {shown(row, 'return_perturbed_mean', '.1f')} "
        f"(max {shown(row, 'return_perturbed_max', '.1f')})  "
        f"correlation {shown(row, 'critic_correlation', '+.2f')}  "
        f"{shown(row, 'steps_per_second', ',.0f')} steps/s"
    )


if __name__ == "__main__":
    keep_compiled()
    without_display()
    sys.exit(main())
