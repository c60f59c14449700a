"""Which command trains which algorithm."""

import dataclasses
import shlex
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Trainer:
    """The command that trains an algorithm.

    Attributes:
        module: What `python -m` is given.
        flags: Flags that choose the algorithm there.
    """

    module: str
    flags: tuple[str, ...] = ()


TRAINERS = {
    "epvf": Trainer("applications.epvf.train"),
    "gogepo": Trainer("applications.gogepo.train"),
    "pvf": Trainer("applications.pvf.train"),
    **{
        name: Trainer("applications.baselines.train", ("--algorithm", name))
        for name in (
            *("ars", "openes", "cma-es", "sep-cma-es", "snes", "map-elites"),
            *("brax-ars", "ppo", "sac", "ddpg", "sb3-ppo", "sb3-sac"),
        )
    },
}


def resume_command(algorithm: str, directory: Path) -> str:
    """Names the command that goes on with a run.

    Args:
        algorithm: The run's algorithm.
        directory: The run's directory.

    Returns:
        The command, quoted for a shell; of an algorithm that is not known here, no
        more than its flag.
    """
    trainer = TRAINERS.get(algorithm)
    start = "" if trainer is None else f"python -m {trainer.module} "
    return f"{start}--resume {shlex.quote(str(directory))}"
