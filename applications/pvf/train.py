"""``python -m applications.pvf.train``: trains, and leaves a run directory."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax

from applications.envs import AbstractEnvironment, TaskSettings
from applications.pvf.algorithm import PVF
from applications.pvf.config import Config, PRESETS
from applications.pvf.start_state import PSSVF
from applications.search import SearchState
from applications.training import (
    CommandLine,
    exit_on_user_error,
    keep_compiled,
    LaunchSettings,
    parse_settings,
    Row,
    RunSettings,
    shown,
    train,
    without_display,
)


# Of a sample: less than that is too few to learn from by likelihood ratios.
_FEW = 0.05

# Of presets: the tasks of the code that they are of, and how often a short iteration is
# kept.
_TASKS = {"released-pavf": "mountain_car_continuous", "released-pssvf": "cartpole"}
_CHECKPOINTS = {"released-pssvf": 200}

COMMAND_LINE = CommandLine(
    "python -m applications.pvf.train",
    {
        name: RunSettings(
            "pvf",
            TaskSettings(env=_TASKS.get(name, "swimmer")),
            config,
            LaunchSettings(checkpoint_every=_CHECKPOINTS.get(name, 5)),
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
        make_search,
        settings,
        resumed=resumed,
        limit="steps",
        summarise_start=_summarise_start,
        format_row=row_format(),
        must_be_finite=("critic_loss", "weight_norm"),
    )
    return 0


def make_search(task: AbstractEnvironment, config: Config) -> PVF | PSSVF:
    """Makes the algorithm that settings ask for.

    Args:
        task: What the policies act in.
        config: The settings.

    Returns:
        The algorithm.

    Raises:
        UserError: If the settings do not fit the task.
    """
    return PSSVF(task, config) if config.critic == "pssvf" else PVF(task, config)


def _summarise_start(search: PVF | PSSVF, state: SearchState[Any]) -> str:
    config, learned = search.config, state.learned
    value = learned.value if isinstance(search, PSSVF) else learned.critic.critics
    arrays = eqx.filter(value, eqx.is_array)
    critic = sum(leaf.size for leaf in jax.tree.leaves(arrays))
    return (
        f"policy of {search.view.space.size} weights, {config.critic} "
        f"({config.representation}) of {critic:,}, {config.num_envs} environments"
    )


def row_format() -> Callable[[Row], str]:
    """Makes what the progress line says of rows.

    Returns:
        From a row to text. It warns once if likelihood ratios leave little to learn
        from.
    """
    warned = False

    def format_row(row: Row) -> str:
        nonlocal warned
        effective = row.get("effective_sample_size")
        if effective is not None and effective < _FEW and not warned:
            warned = True
            print(
                f"The effective sample is {effective:.3f} of what is drawn: policies "
                "have moved too far from those that acted. Lower --noise-scale or "
                "--policy-lr, or add --policy-gradient pathwise.",
                file=sys.stderr,
                flush=True,
            )
        return (
            f"return {shown(row, 'return_policy', '.1f')}  "
            f"perturbed {shown(row, 'return_perturbed_mean', '.1f')}  "
            f"q {shown(row, 'q_mean', '.1f')}  "
            f"{shown(row, 'steps_per_second', ',.0f')} steps/s"
        )

    return format_row


if __name__ == "__main__":
    keep_compiled()
    without_display()
    sys.exit(main())
