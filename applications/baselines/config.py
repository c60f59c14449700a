"""The settings of all baselines: one command line, defaults as the algorithm has."""

import dataclasses
from typing import Annotated, Any, Literal, TypeAlias

from applications.settings import (
    AtLeast,
    AtMost,
    check_settings,
    Count,
    flag,
    OptionalCount,
    Positive,
    UserError,
)
from applications.training import RunSettings


Algorithm: TypeAlias = Literal["ars", "openes", "brax-ars", "ppo", "sac", "ddpg"]
OptionalWidths: TypeAlias = Annotated[tuple[int, ...] | None, AtLeast(1)]
OptionalRate: TypeAlias = Annotated[float | None, Positive()]
OptionalShare: TypeAlias = Annotated[float | None, Positive(), AtMost(1)]
OptionalCost: TypeAlias = Annotated[float | None, AtLeast(0)]

# Each algorithm's own settings. What is not in its list it has no use for.
_POPULATION = {"episodes": 1, "chunk": None}
_DEFAULTS: dict[str, dict[str, Any]] = {
    # Mania et al. (2018), for Ant; Brax has the same.
    "ars": {
        **_POPULATION,
        "num_envs": 120,
        "hidden": (),
        "learning_rate": 0.015,
        "noise_scale": 0.025,
        "top": 20,
    },
    # Salimans et al. (2017) have Adam at 0.01 and noise of 0.02 for wider networks.
    "openes": {
        **_POPULATION,
        "num_envs": 128,
        "hidden": (16, 16),
        "learning_rate": 0.05,
        "noise_scale": 0.1,
    },
    "brax-ars": {
        "num_envs": 120,
        "iterations": 20,
        "learning_rate": 0.015,
        "noise_scale": 0.025,
        "top": 20,
    },
    "ppo": {
        "num_envs": 256,
        "iterations": 20,
        "hidden": (64, 64),
        "critic_hidden": (128, 128),
        "learning_rate": 3e-4,
        "discount": 0.99,
        "unroll": 16,
        "minibatches": 8,
        "updates": 4,
        "gae_lambda": 0.95,
        "ratio_clip": 0.2,
        "entropy_cost": 1e-3,
        "critic_cost": 0.5,
        "max_grad_norm": 1.0,
        "reward_scale": 1.0,
    },
    "sac": {
        "num_envs": 16,
        "iterations": 20,
        "hidden": (256, 256),
        "learning_rate": 3e-4,
        "discount": 0.99,
        "batch_size": 256,
        "buffer": 1_000_000,
        "warm_up": 8192,
        "updates": 8,
        "target_rate": 0.005,
        "reward_scale": 1.0,
    },
    "ddpg": {
        "iterations": 20,
        "hidden": (256, 256),
        "learning_rate": 1e-3,
        "noise_scale": 0.1,
        "discount": 0.99,
        "batch_size": 256,
        "buffer": 1_000_000,
        "warm_up": 1000,
        "target_rate": 0.005,
    },
}
_OWN = frozenset(name for own in _DEFAULTS.values() for name in own)
_RESUMABLE = ("ars", "openes")
_OF_BRAX = ("brax-ars", "ppo", "sac")


@dataclasses.dataclass(frozen=True)
class Config(RunSettings):
    """Trains a policy with an algorithm that EPVF is compared with.

    Settings that are None have defaults that depend on the algorithm. A run is a
    directory, of the same form as EPVF's; its path is printed at the end.
    """

    algorithm: Algorithm = "ars"
    """ars, openes (evosax), brax-ars, ppo, sac (Brax) or ddpg (Stable-Baselines3)."""

    steps: Count = 1_000_000
    """Control steps to train for. May be raised when a run is resumed."""

    num_envs: OptionalCount = None
    """Parallel environments; for ars and openes the policies tried in an iteration."""

    iterations: OptionalCount = None
    """Rows of metrics that the steps are divided into (not ars, openes)."""

    hidden: OptionalWidths = None
    """Width of each hidden layer of the policy."""

    normalise: bool = False
    """Standardise observations by running statistics (not ddpg)."""

    eval_episodes: Count = 8
    """Extra episodes of the policy itself, to watch it; not learned from."""

    learning_rate: OptionalRate = None
    """Step size; of Adam but for ars and brax-ars, which take plain steps."""

    noise_scale: OptionalRate = None
    """Standard deviation of the noise on weights; for ddpg on actions within 1."""

    top: OptionalCount = None
    """Of the directions that ars and brax-ars try, those that they learn from."""

    episodes: OptionalCount = None
    """Episodes of each policy in each iteration (ars, openes)."""

    chunk: OptionalCount = None
    """Policies simulated at once, to bound the memory (ars, openes)."""

    discount: OptionalShare = None
    """Discount of rewards (ppo, sac, ddpg)."""

    batch_size: OptionalCount = None
    """Transitions in a gradient step (sac, ddpg)."""

    buffer: OptionalCount = None
    """Transitions that are kept to learn from (sac, ddpg)."""

    warm_up: OptionalCount = None
    """Control steps before learning begins (sac, ddpg)."""

    updates: OptionalCount = None
    """Passes over each batch (ppo); gradient steps each time that all environments
    have made a step (sac)."""

    target_rate: OptionalShare = None
    """How far target networks follow in each gradient step (sac, ddpg)."""

    reward_scale: OptionalRate = None
    """Factor of rewards in learning (ppo, sac)."""

    critic_hidden: OptionalWidths = None
    """Width of each hidden layer of the critic (ppo). Others' are as the policy's."""

    unroll: OptionalCount = None
    """Control steps of each environment in a batch (ppo)."""

    minibatches: OptionalCount = None
    """Gradient steps in a pass; they share out the environments (ppo)."""

    gae_lambda: OptionalShare = None
    """Trace of the advantages (ppo)."""

    ratio_clip: OptionalRate = None
    """How far the probability ratio may go from 1 (ppo)."""

    entropy_cost: OptionalCost = None
    """Weight of the entropy (ppo)."""

    critic_cost: OptionalCost = None
    """Weight of the critic's loss, half a mean square (ppo)."""

    max_grad_norm: OptionalRate = None
    """Longest gradient (ppo)."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)
        own = _DEFAULTS[self.algorithm]
        for name in sorted(_OWN - own.keys()):
            if getattr(self, name) is not None:
                users = [other for other, its in _DEFAULTS.items() if name in its]
                raise UserError(
                    f"{flag(name)} is for {', '.join(users)}; {self.algorithm} has no "
                    "use for it. Drop it."
                )
        if self.resume is not None and not self.resumable:
            raise UserError(
                f"A run of {self.algorithm} cannot be resumed: its library does not "
                f"give its state away. Only {' and '.join(_RESUMABLE)} can. Start a "
                "new run."
            )
        self._check_sizes()
        if self.uses_brax and self.physics == "mujoco":
            raise UserError(
                f"--physics mujoco is not for {self.algorithm}: Brax needs the task in "
                "JAX. Drop it; closed-form tasks and MJX are."
            )
        if self.algorithm == "ddpg" and self.normalise:
            raise UserError("--normalise is not for ddpg. Drop it.")

    def _check_sizes(self) -> None:
        own = self.own
        if "noise_scale" in own and "num_envs" in own and own["num_envs"] % 2:
            raise UserError(
                f"--num-envs {own['num_envs']} is odd; directions are tried both ways."
            )
        if "top" in own and own["top"] > own["num_envs"] // 2:
            raise UserError(
                f"--top {own['top']} is more than the {own['num_envs'] // 2} "
                "directions, half of --num-envs."
            )
        if "minibatches" in own and own["num_envs"] % own["minibatches"]:
            raise UserError(
                f"--num-envs {own['num_envs']} cannot be shared out among "
                f"--minibatches {own['minibatches']}."
            )
        if "warm_up" in own and own["warm_up"] >= self.steps:
            raise UserError(
                f"--warm-up {own['warm_up']} leaves nothing of --steps {self.steps} to "
                "learn in. Lower it, or raise --steps."
            )

    @property
    def own(self) -> dict[str, Any]:
        """The algorithm's own settings, with its defaults where none were given."""
        given = {name: getattr(self, name) for name in _DEFAULTS[self.algorithm]}
        chosen = {name: value for name, value in given.items() if value is not None}
        return _DEFAULTS[self.algorithm] | chosen

    @property
    def resumable(self) -> bool:
        """Whether a run of the algorithm can be continued."""
        return self.algorithm in _RESUMABLE

    @property
    def uses_brax(self) -> bool:
        """Whether the algorithm is Brax's, and needs the task in JAX."""
        return self.algorithm in _OF_BRAX

    def resolved(self) -> "Config":
        """The settings with nothing left to a default of the algorithm."""
        return dataclasses.replace(self, **self.own)
