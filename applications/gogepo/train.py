"""``python -m applications.gogepo.train``: trains, and leaves a run directory."""

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from applications.envs import resolve_physics
from applications.gogepo._snapshots import keep_snapshot
from applications.gogepo.algorithm import GoGePo, State
from applications.gogepo.config import Config
from applications.rollout import own_copy
from applications.runs import (
    evaluate_policy,
    exit_on_user_error,
    expect_losses,
    fixed,
    Interrupt,
    is_main,
    key_for,
    load_state,
    loop,
    make_task,
    new_directory,
    on_all,
    on_main,
    parse_settings,
    plot_returns,
    Progress,
    Purpose,
    recorded,
    Run,
    save_policy,
    share,
    share_arrays,
)


_PROG = "python -m applications.gogepo.train"


@exit_on_user_error
def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says.

    Args:
        arguments: The command line; the program's own unless given.

    Returns:
        The exit code: 0, or 2 for input that cannot be used.
    """
    with Interrupt() as interrupt, contextlib.ExitStack() as stack:
        config, resumed = parse_settings(Config, arguments, prog=_PROG)
        # Results belong to an engine: a run keeps the one that it began with.
        physics = share(resolve_physics(config.physics))
        config = dataclasses.replace(config.resolved(), physics=physics)
        task = on_all(lambda: make_task(config, as_trained=True))
        algorithm = on_all(lambda: GoGePo(task, config))
        key = key_for(config.seed, Purpose.TRAIN)
        state = eqx.filter_jit(lambda key: algorithm.init(key=key))(key)
        opened = on_main(lambda: _open(resumed, state, config, stack))
        run, state, progress = opened or (None, state, Progress())
        state = share_arrays(state)
        progress = Progress(**share(dataclasses.asdict(progress)))
        directory = share(None if run is None else str(run.directory))
        expect_losses(config, directory)
        if is_main():
            _introduce(algorithm, state)

        def save(state: State) -> None:
            assert run is not None
            state = own_copy(state)
            save_policy(run, config, algorithm.policy(state.model))
            keep_snapshot(run, config, state)

        state, progress, rows = loop(
            run,
            algorithm.compile,
            state,
            progress,
            iterations=config.own["iterations"],
            checkpoint_every=config.own["checkpoint_every"],
            config=fixed(config),
            save=save,
            describe=_describe,
            must_be_finite=("critic_loss", "generator_loss"),
            interrupt=interrupt,
        )
        if run is not None:
            _finish(run, algorithm, own_copy(state), progress, rows)
    return 0


def _open(
    resumed: Run | None, state: State, config: Config, stack: contextlib.ExitStack
) -> tuple[Run, State, Progress]:
    """The run's directory, kept from others, and where the run stands."""
    if resumed is not None:
        stack.enter_context(resumed.locked())
        return resumed, *load_state(resumed, state, config, "iterations")
    directory = config.run_dir or new_directory(Path("runs") / "gogepo", config)
    run = Run.create(directory, recorded(config))
    stack.enter_context(run.locked())
    return run, state, Progress()


def _finish(
    run: Run, algorithm: GoGePo, state: State, progress: Progress, rows: list[Any]
) -> None:
    """Draws the run and, once it is done, evaluates its policy."""
    config = algorithm.config
    if rows:
        title = f"GoGePo on {config.env}, {config.num_envs} environments"
        plot_returns(rows, run.plot, title=title)
    if progress.iteration < config.own["iterations"]:
        print(
            f"Stopped after iteration {progress.iteration}. Go on with: "
            f"{_PROG} --resume {run.directory}"
        )
        return
    print("The policy for the best outcome so far:")
    evaluate_policy(run, config, algorithm.policy(state.model))
    print(
        "All commands: python -m applications.gogepo.evaluate "
        f"{run.directory}\nOne policy: python -m applications.gogepo.generate "
        f"{run.directory} --command {float(state.model.outcomes.best[0]):g}"
    )


def _introduce(algorithm: GoGePo, state: State) -> None:
    """Says what follows from the settings, before the compiler is let loose."""
    config = algorithm.config

    def size(tree: Any) -> int:
        return sum(
            leaf.size for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))
        )

    model = state.model
    print(
        f"{config.env}: policies of {algorithm.view.space.size} weights, generator "
        f"({config.generator}) of {size(model.generator):,}, evaluator "
        f"({config.representation}) of {size(model.value):,}, {config.num_envs} "
        f"environments, archive of {state.archive.capacity}, on "
        f"{jax.devices()[0].platform}.\nCompiling ...",
        flush=True,
    )


def _describe(row: dict) -> str:
    def show(name: str, pattern: str) -> str:
        return "-" if row[name] is None else format(row[name], pattern)

    return (
        f"best {show('command_best', '.1f')}  return there "
        f"{show('return_policy', '.1f')}  commands off by "
        f"{show('command_error', '.1f')}, correlation "
        f"{show('command_correlation', '+.2f')}  "
        f"{show('steps_per_second', ',.0f')} steps/s"
    )


if __name__ == "__main__":
    sys.exit(main())
