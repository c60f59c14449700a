"""The settings of a run: a frozen dataclass, of which `tyro` makes the command line."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, TypeAlias

import optax

from applications.runs import UserError


Schedule: TypeAlias = Literal["constant", "linear", "cosine"]

# What may differ between a checkpoint and the run that goes on from it.
_FREE = frozenset({"run_dir", "resume", "iterations", "checkpoint_every"})


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a value function over policies, V(θ), and a policy that ascends it.

    The defaults are for cartpole on a CPU. A run is a directory; its path is printed
    at the end.
    """

    env: str = "cartpole"
    """Task to learn. An unknown name lists the known ones."""

    num_envs: int = 128
    """Parallel environments: perturbed policies tried in each iteration."""

    iterations: int = 100
    """Iterations of the whole run. May be raised when a run is resumed."""

    seed: int = 0
    """Seed of all randomness."""

    representation: Literal["flat", "probing"] = "flat"
    """What the critic reads: a policy's weights, or its answers to learned states."""

    run_dir: Path | None = None
    """Directory for the run; it must not exist. Otherwise a new one in runs/epvf."""

    resume: Path | None = None
    """Directory of a run to continue, with the settings that it has."""

    hidden: tuple[int, ...] = (16, 16)
    """Width of each hidden layer of the policy."""

    policies: Literal["one", "many"] = "one"
    """Improve one policy, or as many differently initialised ones as environments."""

    policy_lr: float = 1e-2
    """Adam's learning rate for the policy, at the start."""

    policy_lr_schedule: Schedule = "linear"
    """How that rate goes to zero over the run; constant keeps it."""

    policy_updates: int = 10
    """Gradient steps up V in each iteration."""

    clip: Literal["policy", "perturbed", "none"] = "policy"
    """What to clip: weights after each policy step, perturbed ones too, or nothing."""

    weight_clip: float = 1.0
    """Largest magnitude that a clipped weight keeps."""

    noise: Literal["uniform", "gaussian"] = "uniform"
    """Law of the perturbations, on [-1, 1] or standard normal, before scaling."""

    noise_scale: float = 0.3
    """Scale of the perturbations, at the start."""

    noise_schedule: Schedule = "constant"
    """How that scale goes to zero over the run; constant keeps it."""

    horizon: int | None = None
    """Time limit of an episode in control steps. The task's own unless given."""

    episodes: int = 1
    """Episodes of each perturbed policy in each iteration."""

    watch_episodes: int = 8
    """Extra rollouts of the unperturbed policy, to watch it; not learned from."""

    chunk: int | None = None
    """Policies simulated at once, to bound the memory. All of them unless given."""

    archive: int = 4
    """Size of the archive as a multiple of the number of environments."""

    batch_size: int | None = None
    """Batch of the critic. The number of environments unless given."""

    critic_width: int = 256
    """Width of the critic's hidden layers."""

    critic_depth: int = 2
    """Number of the critic's hidden layers."""

    critic_lr: float = 1e-3
    """Adam's learning rate for the critic."""

    critic_updates: int = 20
    """Gradient steps on the critic in each iteration."""

    targets: Literal["standard", "rank"] = "standard"
    """What the critic learns: standardised returns, or their ranks in the archive."""

    start_states: bool = False
    """Condition the critic on the start state too: V(s, θ)."""

    num_probes: int = 16
    """Learned probing states of the probing representation."""

    probe_scale: float = 1.0
    """Standard deviation of the probing states at the start."""

    checkpoint_every: int = 10
    """Iterations from one checkpoint to the next."""

    def __post_init__(self):
        """Checks every number.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        at_least_one = (
            "num_envs",
            "iterations",
            "policy_updates",
            "horizon",
            "episodes",
            "watch_episodes",
            "chunk",
            "archive",
            "batch_size",
            "critic_width",
            "critic_updates",
            "num_probes",
            "checkpoint_every",
        )
        for name in at_least_one:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{_flag(name)} must be at least 1; got {value}.")
        for name in ("seed", "critic_depth"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"{_flag(name)} must not be negative; got {getattr(self, name)}."
                )
        for width in self.hidden:
            if width < 1:
                raise UserError(f"--hidden must be widths of 1 or more; got {width}.")
        for name in (
            "policy_lr",
            "weight_clip",
            "noise_scale",
            "critic_lr",
            "probe_scale",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(
                    f"{_flag(name)} must be positive and finite; got {value}."
                )
        capacity = self.archive * self.num_envs
        if self.batch_size is not None and self.batch_size > capacity:
            raise UserError(
                f"--batch-size {self.batch_size} is more than the {capacity} policies "
                "that the archive can hold. Lower it, or raise --archive."
            )

    @property
    def resolved_batch_size(self) -> int:
        """Batch of the critic."""
        return self.num_envs if self.batch_size is None else self.batch_size

    def schedule(self, start: float, kind: Schedule, updates: int) -> optax.Schedule:
        """A rate over the whole run.

        Args:
            start: Its first value.
            kind: How it goes on.
            updates: How often in each iteration it is asked.

        Returns:
            From the number of updates so far to the rate.
        """
        steps = self.iterations * updates
        if kind == "constant":
            return optax.constant_schedule(start)
        if kind == "linear":
            return optax.linear_schedule(start, 0.0, steps)
        return optax.cosine_decay_schedule(start, steps)

    def to_json(self) -> dict[str, Any]:
        """All settings, as JSON knows them."""
        settings = dataclasses.asdict(self) | {"hidden": list(self.hidden)}
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in settings.items()
        }

    def fixed(self) -> dict[str, Any]:
        """The settings that a checkpoint and its run must agree on."""
        return {k: v for k, v in self.to_json().items() if k not in _FREE}

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "Config":
        """Inverse of `to_json`.

        Args:
            settings: The settings; those left out have their defaults.

        Returns:
            The config.

        Raises:
            UserError: If there is a setting of an unknown name, or a bad value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise UserError(f"Unknown settings: {', '.join(unknown)}.")
        values = dict(settings)
        for name in ("run_dir", "resume"):
            if values.get(name) is not None:
                values[name] = Path(values[name])
        if "hidden" in values:
            values["hidden"] = tuple(values["hidden"])
        return cls(**values)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
