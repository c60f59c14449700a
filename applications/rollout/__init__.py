"""A population of policies in, one return for each episode out, on all devices."""

from applications.rollout._devices import own_copy as own_copy
from applications.rollout._iteration import compile_iteration as compile_iteration
from applications.rollout._rollout import (
    Episode as Episode,
    evaluate as evaluate,
    evaluate_population as evaluate_population,
    rollout as rollout,
    run_episode as run_episode,
)
