import numpy as np

from applications.rollout import Episode
from applications.runs._files import write_json
from applications.runs._run import Run


EVALUATION_EPISODES = 100


def write_evaluation(run: Run, episodes: Episode) -> None:
    """Writes and prints what the policy of a run returned at its end.

    Args:
        run: The run.
        episodes: Fresh episodes of its policy.

    Raises:
        OSError: If the file cannot be written.
    """
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
