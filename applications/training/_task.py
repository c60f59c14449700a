"""The task of a run's settings, and its policy in it."""

from pathlib import Path
from typing import Any

import numpy as np

from applications.envs import AbstractEnvironment, make
from applications.policies import MLPPolicy, write_policy
from applications.rollout import evaluate
from applications.settings import UserError
from applications.training._files import write_atomically, write_json
from applications.training._keys import key_for, Purpose
from applications.training._run import Run
from applications.training._settings import RunSettings


_EVALUATION_EPISODES = 100


def make_task(settings: RunSettings, *, as_trained: bool) -> AbstractEnvironment:
    """Builds the task of a run.

    Args:
        settings: The run's settings.
        as_trained: With the reward that is learned from; otherwise with the whole one,
            by which policies are judged.

    Returns:
        The task.

    Raises:
        UserError: If the settings do not fit the task.
    """
    options = _options(settings)
    if as_trained and not settings.survival_bonus:
        options["survival_bonus"] = False
    try:
        return make(settings.env, physics=settings.physics, **options)
    except ValueError as error:
        raise UserError(str(error)) from error


def save_policy(
    run: Run, settings: RunSettings, policy: MLPPolicy, *, path: Path | None = None
) -> None:
    """Writes the policy of a run, with what it takes to run it again.

    Args:
        run: The run.
        settings: Its settings, the engine resolved.
        policy: The policy.
        path: Where to; the run's own place unless given.

    Raises:
        OSError: If it cannot be written.
    """
    options = _options(settings) | {"physics": settings.physics}
    write_atomically(
        path or run.policy,
        lambda file: write_policy(
            file, policy, task=settings.env, task_options=options
        ),
    )


def evaluate_policy(run: Run, settings: RunSettings, policy: MLPPolicy) -> None:
    """Runs the policy of a run at its end, writes and prints what it returns.

    Args:
        run: The run.
        settings: Its settings, the engine resolved.
        policy: The policy.

    Raises:
        OSError: If it cannot be written.
    """
    episodes = evaluate(
        make_task(settings, as_trained=False),
        policy,
        _EVALUATION_EPISODES,
        key=key_for(settings.seed, Purpose.EVALUATE),
    )
    returns = np.asarray(episodes.total_reward)
    write_json(
        run.evaluation,
        {
            "mean": returns.mean().item(),
            "std": returns.std().item(),
            "returns": returns.tolist(),
            "lengths": episodes.length.tolist(),
        },
    )
    print(
        f"Mean return of {len(returns)} fresh evaluation episodes: "
        f"{returns.mean():.1f} (standard deviation {returns.std():.1f})"
    )
    print(f"Run directory: {run.directory}")


def _options(settings: RunSettings) -> dict[str, Any]:
    given = {"horizon": settings.horizon, "integrator": settings.integrator}
    return {name: value for name, value in given.items() if value is not None}
