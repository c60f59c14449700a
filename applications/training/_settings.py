"""Settings that every trainer has."""

import dataclasses
import typing
from pathlib import Path

from applications.envs import Integrator, PhysicsEngine
from applications.settings import AtLeast, Count, OptionalCount, Seed


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What every trainer can be told; each adds its own fields."""

    env: str = "cartpole"
    """Task to learn: ant, ant_servo, ant_v5, cartpole, half_cheetah, hopper,
    inverted_double_pendulum, inverted_pendulum, lqr, mountain_car_continuous, reacher,
    swimmer or walker2d."""

    physics: PhysicsEngine = "auto"
    """What steps MuJoCo tasks: mjx in JAX, or mujoco in C, which auto takes on CPUs."""

    horizon: OptionalCount = None
    """Time limit of an episode in control steps. The task's own unless given."""

    integrator: Integrator | None = None
    """How MuJoCo tasks are integrated. The task's own way unless given."""

    survival_bonus: bool = True
    """Learn from the reward for not falling too. Evaluation always counts it."""

    num_envs: Count = 128
    """Parallel environments: policies tried in each iteration."""

    iterations: Count = 100
    """Iterations of the whole run. May be raised when a run is resumed."""

    seed: Seed = 0
    """Seed of all randomness."""

    run_dir: Path | None = None
    """Directory for the run; it must not exist. Otherwise a new one in runs."""

    resume: Path | None = None
    """Directory of a run to continue. Its settings stay; --iterations may be raised."""

    checkpoint_every: Count = 10
    """Iterations from one checkpoint to the next."""

    coordinator: str | None = None
    """HOST:PORT at which several processes meet, on the machine of process 0."""

    num_processes: OptionalCount = None
    """How many processes train together. One, or what SLURM says, unless given."""

    process_id: typing.Annotated[int | None, AtLeast(0)] = None
    """Which of them this one is, counted from 0."""

    heartbeat: typing.Annotated[int, AtLeast(5)] = 30
    """Seconds without a sign of life after which a process counts as lost."""
