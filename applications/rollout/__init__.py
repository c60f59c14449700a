"""A population of policies in, one return for each episode out, on all devices."""

from applications.rollout._devices import (
    gather_parts as gather_parts,
    mesh_of_all as mesh_of_all,
    on_all_devices as on_all_devices,
    own_copy as own_copy,
    replicate as replicate,
)
from applications.rollout._rollout import (
    compile_rollout as compile_rollout,
    Episode as Episode,
    evaluate as evaluate,
    rollout as rollout,
    run_episode as run_episode,
)
