"""A population of policies in, one return for each episode out."""

from applications.rollout._rollout import (
    Episode as Episode,
    evaluate as evaluate,
    rollout as rollout,
    run_episode as run_episode,
)
