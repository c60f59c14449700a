"""Settings of the algorithm; the docstrings of fields are the help of their flags.

Defaults are one recipe for all tasks. `PRESETS` holds the settings of the paper.
"""

import dataclasses
from typing import Annotated, Literal

from applications.policies import check_policy
from applications.search import NoiseLaw, NoiseShape
from applications.settings import (
    AtLeast,
    AtMost,
    check_settings,
    Count,
    OptionalCount,
    OptionalLevels,
    OptionalRate,
    Positive,
    Rate,
    UserError,
    Widths,
)
from applications.values import (
    check_representation,
    CriticKind,
    CriticStart,
    Direction,
    EncoderOptions,
    InputScale,
    NoiseSchedule,
    parts_of,
    Representation,
    Schedule,
    TargetKind,
)


# Observations that an iteration hands back, about; there is at least one of an episode.
_VISITS = 1024


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a value function over policies, V(θ), and a policy that ascends it.

    The defaults are one recipe for all tasks on a CPU. A run is a directory; its path
    is printed at the end.
    """

    num_envs: Count = 32
    """Parallel environments: policies tried in each iteration."""

    iterations: Count = 40
    """Iterations of the whole run. May be raised when a run is resumed."""

    representation: Representation = "answers"
    """What the critic reads: what the policy does in states that were observed
    (answers) or in learned ones (probing, generated-probing, interactive-probing), its
    weights (flat, statistics, equivariant, transformer, graph, scale-graph,
    forward-graph), or what an encoder of your own makes of the policy
    (package.module:Factory). Several are put together by a plus: answers+flat."""

    inputs: InputScale = "noise"
    """What the critic's inputs are standardised by: the unperturbed policy and the
    perturbations, mean and deviation of the archive, or nothing (raw)."""

    bounded_answers: bool = True
    """Read probabilities of discrete actions, and not preferences."""

    num_states: Count = 96
    """Observed states that the policy is shown."""

    state_iterations: Count = 4
    """Of how many of the last iterations these are."""

    policy: str = "mlp"
    """What policies are: mlp, a perceptron with hidden units of tanh, or one of your
    own (package.module:Factory)."""

    hidden: Widths = ()
    """Width of each hidden layer of the policy; none for a linear one."""

    action_levels: OptionalLevels = None
    """Round what the policy puts out to so many values, evenly from end to end of the
    range of an action: 3 are full reverse, nothing and full ahead. V reads what it was
    before. Not rounded unless given."""

    sizes: Widths = ()
    """Hidden widths of different policies, in turn, up to --hidden; with many."""

    start: Literal["drawn", "zero"] = "zero"
    """Whether the policy starts as drawn or with weights of 0 in its last layer, so
    that it does the same in all states."""

    policies: Literal["one", "many"] = "one"
    """Improve one policy, or as many differently initialised ones as environments."""

    step: Literal["trust", "adam"] = "trust"
    """How the policy ascends V: until what it does has changed by --trust-radius, or by
    gradient steps of Adam, --policy-updates in each iteration, as in the paper."""

    direction: Direction = "raw"
    """Where a trusted step goes: along the gradient, by steps of Adam that starts anew,
    or along the natural gradient."""

    trust_radius: Rate = 0.3
    """How far a trusted step goes at most: change of what the policy does, in units of
    the change that a perturbation makes."""

    trust_schedule: Schedule = "constant"
    """How that radius goes to zero over the run; constant keeps it."""

    step_limit: Rate = 1.0
    """How far it may go at most: root mean square change of a weight, in units of the
    perturbation."""

    optimism: Annotated[float, AtLeast(0)] = 0.25
    """Ascend V + optimism x deviation, with a kernel or an ensemble, which say how sure
    V is. A single perceptron does not, and so ascends V."""

    largest_deviation: OptionalRate = None
    """Stop a trusted step where V's deviation, of 1 at most, is larger. Only where V
    says how sure it is, with a kernel or an ensemble; not asked unless given."""

    policy_lr: Rate = 1e-2
    """Adam's learning rate for the policy, at the start."""

    policy_lr_schedule: Schedule = "linear"
    """How that rate goes to zero over the run; constant keeps it."""

    policy_updates: Count = 10
    """Gradient steps up V in each iteration."""

    clip: Literal["policy", "perturbed", "none"] = "none"
    """What to clip: weights after each policy step, perturbed ones too, or nothing."""

    weight_clip: Rate = 1.0
    """Largest magnitude that a clipped weight keeps."""

    noise: NoiseLaw = "gaussian"
    """Law of the perturbations, on [-1, 1] or standard normal, before scaling. Those of
    low rank are products of standard normal factors."""

    perturbation: Literal["full", "low-rank"] = "full"
    """Perturb every weight by itself, or add a matrix of low rank to each layer's
    weights: then policies share the large products, and the archive is small."""

    rank: Count = 1
    """Rank of these matrices."""

    noise_scale: Rate = 1.5
    """Scale of the perturbations, at the start."""

    noise_unit: Literal["weight", "policy"] = "policy"
    """Whether that is the scale of each weight, or of a whole policy, whose weights
    share it: each has it over their number to the power of 2/3."""

    noise_adaptation: Literal["none", "success"] = "none"
    """Whether perturbations widen while more than a fifth of them do better than the
    policy itself, and narrow while fewer do (Rechenberg's rule), by a factor beside the
    schedule's."""

    noise_shape: NoiseShape = "common"
    """Whether that scale is the same for all weights, or in units of each weight's
    magnitude, or of the root mean square of the weights of each array."""

    antithetic: bool = True
    """Perturb in pairs, of which the second is the opposite of the first."""

    common_starts: bool = False
    """Let all policies of an iteration start from the same states."""

    noise_schedule: NoiseSchedule = "constant"
    """How that scale goes to --noise-end; constant keeps it."""

    noise_end: Annotated[float, AtLeast(0)] = 0.5
    """Scale of the perturbations at the end, unless it stays."""

    noise_until: Annotated[float, Positive(), AtMost(1)] = 1.0
    """Share of the iterations after which the scale is --noise-end."""

    average: Annotated[float, AtLeast(0)] = 0.1
    """Over which last part of the iterations so far policies are averaged. The average
    is the policy that a run stands for, evaluates and writes; perturbed is the newest
    one. With 0 both are the same."""

    normalise: bool = True
    """Standardise observations by running statistics over the whole population."""

    episodes: Count = 1
    """Episodes of each perturbed policy in each iteration."""

    eval_episodes: Count = 8
    """Extra rollouts of the run's policy, to watch it; not learned from."""

    chunk: OptionalCount = None
    """Policies simulated at once, to bound the memory. All of them unless given."""

    archive: Count = 16
    """Size of the archive as a multiple of the number of environments."""

    batch_size: OptionalCount = None
    """Batch of the critic. The number of environments unless given."""

    critic: CriticKind = "kernel"
    """How V is fitted: by gradient steps on a perceptron, or in closed form, as a
    Gaussian process, for which probes and encoders stay as they were drawn."""

    kernel_points: Count = 1024
    """Policies of the archive that the kernel reads, at most."""

    kernel_scale: OptionalRate = 1.0
    """Scale of the kernel, in units of the spread of perturbations. That with the least
    leave-one-out error if None."""

    kernel_noise: OptionalRate = 0.5
    """Variance of the noise in the targets, whose own is 1. That with the least
    leave-one-out error if None."""

    critic_start: CriticStart = "warm"
    """Whether the perceptron's fit goes on from the last one or from a new draw."""

    ensemble: Count = 1
    """Differently drawn perceptrons, of whose values the mean is taken."""

    critic_width: Count = 256
    """Width of the critic's hidden layers."""

    critic_depth: Annotated[int, AtLeast(0)] = 2
    """Number of the critic's hidden layers."""

    critic_lr: Rate = 1e-3
    """Adam's learning rate for the critic."""

    critic_updates: Count = 20
    """Gradient steps on the critic in each iteration."""

    targets: TargetKind = "rank"
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
        check_representation(self.representation, observes=True)
        check_policy(self.policy, self.action_levels)
        if (
            "interactive-probing" in parts_of(self.representation)
            and self.num_probes % self.probe_rounds
        ):
            raise UserError(
                f"--num-probes {self.num_probes} cannot be shared out among "
                f"--probe-rounds {self.probe_rounds}."
            )
        if self.sizes and self.policy != "mlp":
            raise UserError("--sizes are of perceptrons: drop --sizes or --policy.")
        if self.sizes and self.policies != "many":
            raise UserError("--sizes are of several policies: add --policies many.")
        if self.sizes and max(self.sizes) > min(self.hidden, default=0):
            raise UserError(
                f"--sizes {max(self.sizes)} is wider than --hidden "
                f"{min(self.hidden, default=0)}. Widen --hidden."
            )
        if self.noise_shape != "common" and self.noise_unit == "policy":
            raise UserError(
                f"--noise-shape {self.noise_shape} has units of its own: drop it, or "
                "add --noise-unit weight --noise-scale 0.1."
            )
        if self.noise_schedule == "geometric" and not self.noise_end:
            raise UserError(
                "--noise-schedule geometric needs a --noise-end above 0, such as 0.05."
            )
        capacity = self.archive * self.num_envs
        if self.batch_size is not None and self.batch_size > capacity:
            raise UserError(
                f"--batch-size {self.batch_size} is more than the {capacity} policies "
                "that the archive can hold. Lower it, or raise --archive."
            )
        self._check_critic()
        if self.perturbation == "low-rank":
            self._check_low_rank()

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
        if self.noise_shape != "common":
            raise UserError(
                "--perturbation low-rank has one scale for all weights: drop it or "
                f"--noise-shape {self.noise_shape}."
            )

    def _check_critic(self) -> None:
        if self.critic == "kernel" and self.start_states:
            raise UserError(
                "--critic kernel is V of policies alone: drop --start-states, or add "
                "--critic perceptron."
            )
        if self.critic == "kernel" and self.ensemble > 1:
            raise UserError(
                "--ensemble is of perceptrons: drop it, or add --critic perceptron."
            )
        # The default counts for nothing there; another number was meant.
        if self.optimism not in (0, Config.optimism) and not self.is_sure:
            raise UserError(
                f"--optimism {self.optimism} needs a V that says how sure it is: add "
                "--critic kernel or --ensemble 5, or drop it."
            )
        if self.policies == "many" and self.scales_weights and self.inputs == "noise":
            raise UserError(
                "--inputs noise compares weights with those of one policy: add "
                "--inputs archive, or drop --policies many."
            )

    @property
    def is_sure(self) -> bool:
        """Whether V says how sure it is."""
        return self.critic == "kernel" or self.ensemble > 1

    @property
    def scales_weights(self) -> bool:
        """Whether the critic reads weights."""
        parts = parts_of(self.representation)
        return any(x != "answers" and "probing" not in x for x in parts)

    @property
    def visits(self) -> int:
        """Observations that are handed back of each episode."""
        if not self.observes:
            return 0
        return max(_VISITS // (self.num_envs * self.episodes), 1)

    @property
    def observes(self) -> bool:
        """Whether anything depends on observed states."""
        return self.step == "trust" or "answers" in parts_of(self.representation)

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
            states=self.num_states,
            inputs=self.inputs,
            bounded=self.bounded_answers,
        )

    @property
    def resolved_batch_size(self) -> int:
        """Batch of the critic."""
        return self.num_envs if self.batch_size is None else self.batch_size


# What Bohlinger and Peters (2025) describe, at the sizes of a CPU.
_PAPER = Config(
    num_envs=128,
    representation="flat",
    inputs="raw",
    bounded_answers=False,
    step="adam",
    clip="policy",
    noise="uniform",
    noise_unit="weight",
    noise_scale=0.3,
    average=0.0,
    optimism=0.0,
    iterations=100,
    hidden=(16, 16),
    normalise=False,
    antithetic=False,
    start="drawn",
    archive=4,
    critic="perceptron",
    targets="standard",
)

PRESETS = {
    "recipe": Config(),
    "paper": _PAPER,
    # The paper's Ant, to be learned on `--env ant`: as many environments as a CPU has
    # use for, of which each tells little.
    "ant": Config(
        num_envs=256,
        iterations=2000,
        eval_episodes=1,
        archive=4,
        trust_radius=0.6,
        optimism=0.0,
        noise_unit="weight",
        noise_scale=0.2,
        noise_schedule="geometric",
        noise_end=0.05,
        average=0.0,
    ),
}
