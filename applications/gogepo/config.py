"""Settings of the algorithm; the docstrings of fields are the help of their flags."""

import dataclasses
from typing import Annotated, ClassVar, Literal, TypeAlias

from applications.gogepo._commands import CommandKind
from applications.gogepo._exploring import Strategy
from applications.policies import check_policy
from applications.settings import (
    AtLeast,
    AtMost,
    check_settings,
    Count,
    OptionalCount,
    Positive,
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


GeneratorKind: TypeAlias = Literal["slice", "chunked", "mlp", "latent"]
CommandScale: TypeAlias = Literal["range", "seen", "quantile"]
# Observations of an iteration that the climber is handed, about.
_VISITS = 1024
OptionalRate: TypeAlias = Annotated[float | None, Positive()]


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a generator that writes a policy for any return commanded.

    Presets: vectorised, many episodes an iteration, and sequential, one, with the
    settings of the released code. A run is a directory; its path is printed at the end.
    """

    num_envs: Count = 64
    """Parallel environments: policies tried in each iteration."""

    iterations: Count = 150
    """Iterations of the whole run. May be raised when a run is resumed."""

    command_kind: CommandKind = "return"
    """What is commanded: the return; return and length of the episode; mean speed;
    speed and return; the return, of a policy with so many units in each hidden layer
    (return-size); or the return, in a variant of the task (return-variant)."""

    low: float | None = None
    """Least return, or speed, that is ever commanded. The task's own unless given."""

    high: float | None = None
    """The largest one. Neither of them bounds what is learned from."""

    command_scale: CommandScale = "seen"
    """What the generator standardises commands by: the range of commands; mean and
    deviation of all outcomes that it has seen (seen), which grow with them; or the
    share of the archive's outcomes that are less (quantile)."""

    climb: Annotated[float, AtLeast(0), AtMost(1)] = 0.5
    """Share of the environments whose policies are perturbations of one that climbs a
    value function of its own, as EPVF does by default."""

    strategy: Strategy = "top"
    """What is commanded to explore: best so far plus drive for all (best); the half of
    them, others over what has been seen (spread); the same, but beyond the mean of the
    archive's top tenth, by its deviation if that is more than the drive (top); or
    anything in range (uniform)."""

    drive: OptionalRate = None
    """How far beyond the best so far (best, spread), or at least beyond the mean of the
    top (top). A twentieth of the range unless given."""

    noise_scale: Annotated[float, Positive()] = 0.1
    """Standard deviation of the noise on generated weights, at the start."""

    noise_schedule: Schedule = "constant"
    """How that goes to zero over the run; constant keeps it."""

    normalise: bool = True
    """Standardise observations by running statistics."""

    policy: str = "mlp"
    """What policies are: mlp, a perceptron with hidden units of tanh, or one of your
    own (package.module:Factory)."""

    hidden: Widths = (16, 16)
    """Width of each hidden layer of the policies."""

    generator: GeneratorKind = "slice"
    """What writes policies: slice by slice, in chunks, all at once; or from a latent,
    a different one for each draw."""

    generator_width: Count = 256
    """Width of its hidden layers."""

    generator_depth: Count = 2
    """Number of its hidden layers."""

    embedding_size: Count = 8
    """Length of the learned embedding of a slice or chunk."""

    slice_size: Count = 16
    """Length of a slice along both axes."""

    latent_size: Count = 4
    """Length of the latent (latent)."""

    elbo_weight: Annotated[float, AtLeast(0)] = 1.0
    """Weight of the negative evidence lower bound in the loss (latent)."""

    generator_lr: Rate = 3e-4
    """Adam's learning rate for the generator."""

    generator_updates: Count = 20
    """Gradient steps on the generator in each iteration."""

    average: Annotated[float, AtLeast(0)] = 0.0
    """Over which last part of the iterations so far generators are averaged. The
    average writes the policies that are watched and kept; the newest one explores.
    With 0 both are the same."""

    loss: Literal["evaluator", "weights", "both"] = "both"
    """What the generator learns from: what the evaluator says of its policies; without
    one, the weights of policies that did what is commanded (UDRLPG); or the sum of
    both."""

    representation: Representation = "probing"
    """What the evaluator reads: weights (flat, statistics, equivariant, transformer,
    graph, scale-graph, forward-graph), answers to probing states (probing,
    generated-probing, interactive-probing), or what an encoder of your own makes of the
    policy (package.module:Factory)."""

    num_probes: Count = 32
    """Learned probing states of the probing representations."""

    probe_rounds: Count = 4
    """Rounds in which interactive probing shows them."""

    probe_scale: Annotated[float, Positive()] = 1.0
    """Standard deviation of the probing states at the start."""

    encoder_features: Count = 64
    """Length of the vector that encoders of weights give the evaluator."""

    encoder_channels: Count = 8
    """Channels of their states."""

    encoder_layers: Count = 2
    """How many layers or rounds of messages they have."""

    targets: TargetKind = "standard"
    """What the evaluator learns, and the generator's errors are measured in:
    standardised outcomes, or their ranks in the archive."""

    critic_width: Count = 256
    """Width of the evaluator's hidden layers."""

    critic_depth: Annotated[int, AtLeast(0)] = 2
    """Number of the evaluator's hidden layers."""

    critic_lr: Rate = 1e-3
    """Adam's learning rate for the evaluator."""

    critic_updates: Count = 20
    """Gradient steps on the evaluator in each iteration."""

    archive: Count = 100
    """Size of the archive as a multiple of the number of environments."""

    batch_size: Count = 128
    """Policies in a gradient step, of evaluator and generator."""

    recency: Annotated[float, AtLeast(0)] = 1.1
    """The k-th last batch is learned from in proportion to 1 / k to this power."""

    evenly: Annotated[float, AtLeast(0), AtMost(1)] = 0.5
    """Share of what is learned from that is drawn evenly over the range of outcomes,
    whenever it was done, so that what is rare is not forgotten."""

    episodes: Count = 1
    """Episodes of each policy in each iteration; it is judged by their mean."""

    eval_episodes: Count = 11
    """Extra policies without noise, for commands from the least to the best outcome so
    far, to watch; not learned from."""

    chunk: OptionalCount = None
    """Policies simulated at once, to bound the memory. All of them unless given."""

    snapshots: Count = 5
    """How many times over the run the generator is kept, to be compared."""

    # No flag: each policy has starts of its own.
    common_starts: ClassVar[bool] = False

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
        if self.num_climbing == self.num_envs:
            raise UserError(
                f"--climb {self.climb} leaves no environment to commands. Lower it, or "
                "raise --num-envs."
            )
        if self.eval_episodes < 2:
            raise UserError(
                "--eval-episodes must be at least 2: the least and the best."
            )

    @property
    def num_climbing(self) -> int:
        """Environments of the climber."""
        return round(self.climb * self.num_envs)

    @property
    def visits(self) -> int:
        """Observations that are handed back of each episode, for the climber."""
        if not self.num_climbing:
            return 0
        return max(_VISITS // (self.num_climbing * self.episodes), 1)

    @property
    def encoder_options(self) -> EncoderOptions:
        """Sizes of the evaluator's encoder."""
        return EncoderOptions(
            features=self.encoder_features,
            channels=self.encoder_channels,
            layers=self.encoder_layers,
            probes=self.num_probes,
            rounds=self.probe_rounds,
            probe_scale=self.probe_scale,
        )


PRESETS = {
    "vectorised": Config(),
    # One episode an iteration, as in the released code.
    "sequential": Config(
        num_envs=1,
        iterations=3000,
        climb=0.0,
        evenly=0.0,
        loss="evaluator",
        hidden=(256, 256),
        archive=10_000,
        batch_size=16,
        strategy="best",
        command_scale="range",
        drive=20.0,
        generator_lr=2e-6,
        generator_updates=19,
        critic_lr=5e-3,
        critic_updates=4,
        num_probes=200,
    ),
}
