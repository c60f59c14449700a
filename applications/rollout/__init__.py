"""A population of policies in, one return for each episode out, on all devices."""

from applications.rollout._devices import own_copy as own_copy
from applications.rollout._iteration import (
    AbstractPolicySearch as AbstractPolicySearch,
    Metrics as Metrics,
)
from applications.rollout._rollout import (
    compile_rollout as compile_rollout,
    Episode as Episode,
    evaluate as evaluate,
    rollout as rollout,
    run_episode as run_episode,
)
