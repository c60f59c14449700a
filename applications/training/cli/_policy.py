"""The policy of a run: written with its task, and evaluated at the end."""

from pathlib import Path
from typing import Any

import numpy as np

from applications.envs import AbstractEnvironment
from applications.policies import AbstractPolicy, read_policy, write_policy
from applications.rollout import evaluate
from applications.settings import UserError
from applications.training.cli._settings import RunSettings
from applications.training.loop import key_for, Purpose
from applications.training.storage import Run, write_atomically, write_json


_EVALUATION_EPISODES = 100


def open_policy(path: Path) -> tuple[AbstractEnvironment, AbstractPolicy]:
    """Reads the policy of a run or of a file, for a command.

    Args:
        path: Directory of a run, or a policy file.

    Returns:
        The task and the policy.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    if path.is_dir():
        path = Run(path).policy
        if not path.is_file():
            raise UserError(
                f"{path} is not there: the run has not come to its first checkpoint."
            )
    try:
        return read_policy(path)
    except ValueError as error:
        raise UserError(str(error)) from error


def save_policy(
    run: Run,
    settings: RunSettings[Any],
    policy: AbstractPolicy,
    *,
    path: Path | None = None,
    variant: float | None = None,
) -> None:
    """Writes the policy of a run, with what it takes to run it again.

    Args:
        run: The run.
        settings: Its settings, the engine resolved.
        policy: The policy.
        path: Where to; the run's own place unless given.
        variant: The variant of the task that it acts in, as `make` has it.

    Raises:
        OSError: If it cannot be written.
    """
    task, options = settings.task, settings.task.options
    if variant is not None:
        options |= {"variant": variant}
    write_atomically(
        path or run.policy,
        lambda file: write_policy(
            file,
            policy,
            task=task.env,
            task_options=options,
            factory=getattr(settings.algorithm, "policy", "mlp"),
            # Linear where there is no such setting.
            hidden=getattr(settings.algorithm, "hidden", ()),
        ),
    )


def evaluate_policy(
    run: Run, settings: RunSettings[Any], policy: AbstractPolicy
) -> None:
    """Evaluates the policy of a run at its end; writes and prints what it returns.

    An episode that broke off at a number that is not finite is counted, and otherwise
    left out; without any other the mean is null.

    Args:
        run: The run.
        settings: Its settings, the engine resolved.
        policy: The policy.

    Raises:
        OSError: If it cannot be written.
    """
    episodes = evaluate(
        settings.task.make(as_trained=False),
        policy,
        _EVALUATION_EPISODES,
        key=key_for(settings.launch.seed, Purpose.EVALUATE),
    )
    sound = np.asarray(episodes.valid)
    returns = np.asarray(episodes.total_reward)[sound]
    broken = int((~sound).sum())
    write_json(
        run.evaluation,
        {
            "outcome": settings.task.outcome,
            "mean": returns.mean().item() if returns.size else None,
            "std": returns.std().item() if returns.size else None,
            "returns": returns.tolist(),
            "lengths": np.asarray(episodes.length)[sound].tolist(),
            "broken": broken,
        },
    )
    worth = settings.task.outcome
    worth = "return" if worth == "reward" else worth
    if returns.size:
        print(
            f"Mean {worth} of {len(returns)} fresh evaluation episodes: "
            f"{returns.mean():.1f} (standard deviation {returns.std():.1f})"
        )
    if broken:
        print(f"{broken} more broke off at a number that is not finite.")
    print(f"Run directory: {run.directory}")
