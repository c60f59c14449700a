"""A population of policies in, one return for each episode out, on all devices."""

from applications.rollout._devices import (
    gather_parts as gather_parts,
    mesh_of as mesh_of,
    on_all_devices as on_all_devices,
    own_copy as own_copy,
    replicate as replicate,
)
from applications.rollout._jax_engine import JAXEngine as JAXEngine
from applications.rollout._jax_rollout import (
    rollout as rollout,
    run_episode as run_episode,
)
from applications.rollout._population import (
    count_policies as count_policies,
    SharedPopulation as SharedPopulation,
    take_policies as take_policies,
)
from applications.rollout.engine import (
    AbstractEngine as AbstractEngine,
    AbstractUnroll as AbstractUnroll,
    compile_rollout as compile_rollout,
    engine_for as engine_for,
    evaluate as evaluate,
    Metrics as Metrics,
    Proposal as Proposal,
    register_engine as register_engine,
)
from applications.rollout.episode import (
    Episode as Episode,
    EpisodeTally as EpisodeTally,
)
from applications.rollout.options import RolloutOptions as RolloutOptions
from applications.rollout.transitions import (
    FinishedEpisodes as FinishedEpisodes,
    Transitions as Transitions,
    Unrolled as Unrolled,
)
from applications.rollout.visits import Visits as Visits
