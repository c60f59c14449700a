"""Settings of the algorithm; the docstrings of fields are the help of their flags."""

import dataclasses
from typing import Annotated, Literal

from applications.policies import check_policy
from applications.search import NoiseLaw
from applications.settings import (
    AtLeast,
    check_settings,
    Count,
    OptionalCount,
    Rate,
    UserError,
    Widths,
)
from applications.values import (
    check_representation,
    EncoderOptions,
    Representation,
    Schedule,
    TargetKind,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a value function over policies, V(θ), and a policy that ascends it.

    The defaults are for cartpole on a CPU. A run is a directory; its path is printed
    at the end.
    """

    num_envs: Count = 128
    """Parallel environments: policies tried in each iteration."""

    iterations: Count = 100
    """Iterations of the whole run. May be raised when a run is resumed."""

    representation: Representation = "flat"
    """What the critic reads: weights (flat, statistics, equivariant, transformer,
    graph, scale-graph, forward-graph), answers to probing states (probing,
    generated-probing, interactive-probing), or what an encoder of your own makes of the
    policy (package.module:Factory)."""

    policy: str = "mlp"
    """What policies are: mlp, a perceptron with hidden units of tanh, or one of your
    own (package.module:Factory)."""

    hidden: Widths = (16, 16)
    """Width of each hidden layer of the policy."""

    sizes: Widths = ()
    """Hidden widths of different policies, in turn, up to --hidden; with many."""

    policies: Literal["one", "many"] = "one"
    """Improve one policy, or as many differently initialised ones as environments."""

    policy_lr: Rate = 1e-2
    """Adam's learning rate for the policy, at the start."""

    policy_lr_schedule: Schedule = "linear"
    """How that rate goes to zero over the run; constant keeps it."""

    policy_updates: Count = 10
    """Gradient steps up V in each iteration."""

    clip: Literal["policy", "perturbed", "none"] = "policy"
    """What to clip: weights after each policy step, perturbed ones too, or nothing."""

    weight_clip: Rate = 1.0
    """Largest magnitude that a clipped weight keeps."""

    noise: NoiseLaw = "uniform"
    """Law of the perturbations, on [-1, 1] or standard normal, before scaling. Those of
    low rank are products of standard normal factors."""

    perturbation: Literal["full", "low-rank"] = "full"
    """Perturb every weight by itself, or add a matrix of low rank to each layer's
    weights: then policies share the large products, and the archive is small."""

    rank: Count = 1
    """Rank of these matrices."""

    noise_scale: Rate = 0.3
    """Scale of the perturbations, at the start."""

    noise_schedule: Schedule = "constant"
    """How that scale goes to zero over the run; constant keeps it."""

    normalise: bool = False
    """Standardise observations by running statistics over the whole population."""

    episodes: Count = 1
    """Episodes of each perturbed policy in each iteration."""

    eval_episodes: Count = 8
    """Extra rollouts of the unperturbed policy, to watch it; not learned from."""

    chunk: OptionalCount = None
    """Policies simulated at once, to bound the memory. All of them unless given."""

    archive: Count = 4
    """Size of the archive as a multiple of the number of environments."""

    batch_size: OptionalCount = None
    """Batch of the critic. The number of environments unless given."""

    critic_width: Count = 256
    """Width of the critic's hidden layers."""

    critic_depth: Annotated[int, AtLeast(0)] = 2
    """Number of the critic's hidden layers."""

    critic_lr: Rate = 1e-3
    """Adam's learning rate for the critic."""

    critic_updates: Count = 20
    """Gradient steps on the critic in each iteration."""

    targets: TargetKind = "standard"
    """What the critic learns: standardised returns, or their ranks in the archive."""

    start_states: bool = False
    """Condition the critic on the start state too: V(s, θ)."""

    num_probes: Count = 16
    """Learned probing states of the probing representations."""

    probe_rounds: Count = 4
    """Rounds in which interactive probing shows them."""

    probe_scale: Rate = 1.0
    """Standard deviation of the probing states at the start."""

    encoder_features: Count = 64
    """Length of the vector that encoders of weights give the critic; flat gives all."""

    encoder_channels: Count = 8
    """Channels of its states."""

    encoder_layers: Count = 2
    """How many layers or rounds of messages it has."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)
        check_representation(self.representation)
        check_policy(self.policy)
        if (
            self.representation == "interactive-probing"
            and self.num_probes % self.probe_rounds
        ):
            raise UserError(
                f"--num-probes {self.num_probes} cannot be shared out among "
                f"--probe-rounds {self.probe_rounds}."
            )
        if self.perturbation == "low-rank":
            self._check_low_rank()
        if self.sizes and self.policy != "mlp":
            raise UserError("--sizes are of perceptrons: drop --sizes or --policy.")
        if self.sizes and self.policies != "many":
            raise UserError("--sizes are of several policies: add --policies many.")
        if self.sizes and max(self.sizes) > min(self.hidden, default=0):
            raise UserError(
                f"--sizes {max(self.sizes)} is wider than --hidden "
                f"{min(self.hidden, default=0)}. Widen --hidden."
            )
        capacity = self.archive * self.num_envs
        if self.batch_size is not None and self.batch_size > capacity:
            raise UserError(
                f"--batch-size {self.batch_size} is more than the {capacity} policies "
                "that the archive can hold. Lower it, or raise --archive."
            )

    def _check_low_rank(self) -> None:
        if self.policy != "mlp":
            raise UserError(
                "--perturbation low-rank is of perceptrons: drop it or --policy."
            )
        if self.policies != "one":
            raise UserError(
                "--perturbation low-rank needs one policy that all share: drop it or "
                "--policies many."
            )
        if self.clip == "perturbed":
            raise UserError(
                "--clip perturbed would need all weights of each policy: add --clip "
                "policy, or drop --perturbation low-rank."
            )

    @property
    def num_policies(self) -> int:
        """Policies that are improved."""
        return self.num_envs if self.policies == "many" else 1

    @property
    def all_hidden(self) -> tuple[tuple[int, ...], ...]:
        """Widths of the hidden layers of each kind of policy."""
        if not self.sizes:
            return (self.hidden,)
        return tuple(len(self.hidden) * (size,) for size in self.sizes)

    @property
    def encoder_options(self) -> EncoderOptions:
        """Sizes of the encoder."""
        return EncoderOptions(
            features=self.encoder_features,
            channels=self.encoder_channels,
            layers=self.encoder_layers,
            probes=self.num_probes,
            rounds=self.probe_rounds,
            probe_scale=self.probe_scale,
        )

    @property
    def resolved_batch_size(self) -> int:
        """Batch of the critic."""
        return self.num_envs if self.batch_size is None else self.batch_size
