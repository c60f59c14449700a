"""Settings of the algorithms; the docstrings of fields are the help of their flags.

Defaults are for swimmer. `PRESETS` holds the settings of the released code too.
"""

import dataclasses
from typing import Annotated, ClassVar, Literal, TypeAlias

from applications.policies import check_policy
from applications.settings import (
    AtLeast,
    AtMost,
    check_settings,
    Count,
    flag,
    OptionalCount,
    Rate,
    UserError,
    Widths,
)
from applications.values import (
    check_representation,
    EncoderOptions,
    NoiseSchedule,
    parts_of,
    Representation,
    Schedule,
)


CriticName: TypeAlias = Literal["pavf", "psvf", "pssvf"]
PolicyKind: TypeAlias = Literal["deterministic", "stochastic"]
PolicyGradient: TypeAlias = Literal["pathwise", "likelihood-ratio"]
Importance: TypeAlias = Literal["clip", "self-normalised", "none"]
Share: TypeAlias = Annotated[float, AtLeast(0), AtMost(1)]
Scale: TypeAlias = Annotated[float, AtLeast(0)]


@dataclasses.dataclass(frozen=True)
class Config:
    """Trains a value of steps that may read policies, and a policy that ascends it.

    A run is a directory; its path is printed at the end.
    """

    critic: CriticName = "pavf"
    """What is learned: Q(s, a, θ) (pavf), V(s, θ) (psvf), or V(θ) of whole episodes
    (pssvf)."""

    representation: Representation = "none"
    """What the critic reads of a policy: nothing (none: Q(s, a), an actor-critic), its
    weights (flat, statistics, equivariant, ...), its answers to learned states
    (probing, ...), or what an encoder of your own makes of it (package.module:Factory).
    Several are put together by a plus: flat+probing."""

    inputs: Literal["noise", "raw"] = "noise"
    """Whether what is read of a policy is compared with the unperturbed one, in units
    of the perturbations, or read as it is."""

    policy_kind: PolicyKind = "deterministic"
    """Whether the policy is a function or a distribution: normal, squashed by tanh, for
    continuous actions, and categorical for discrete ones."""

    policy: str = "mlp"
    """What deterministic policies are: mlp, a perceptron with hidden units of tanh, or
    one of your own (package.module:Factory)."""

    hidden: Widths = ()
    """Width of each hidden layer of the policy; none for a linear one."""

    start: Literal["drawn", "zero"] = "zero"
    """Whether the policy starts as drawn or with weights of 0 in its last layer, so
    that it does the same in all states."""

    policy_std: Rate = 0.6
    """Standard deviation of a stochastic policy at the start, before tanh."""

    normalise: bool = True
    """Standardise observations by running statistics."""

    steps: Count = 250_000
    """Control steps to train for. May be raised when a run is resumed."""

    num_envs: Count = 32
    """Parallel environments, each with a perturbed policy of its own."""

    segment: Count = 50
    """Control steps of each environment between two rounds of learning."""

    rounds: Count = 10
    """Such rounds in an iteration: a row of metrics, an evaluation."""

    redraw: Literal["segment", "episode"] = "segment"
    """Whether perturbed policies are drawn anew after each segment, or at the end of
    the segment in which their episode ends."""

    noise_scale: Scale = 0.3
    """Scale σ of the normal noise on weights."""

    action_noise: Scale = 0.1
    """Scale of the normal noise on continuous actions of deterministic policies, in
    halves of their range."""

    noise_schedule: NoiseSchedule = "constant"
    """How both scales go to --noise-end times theirs over the run; constant keeps
    them."""

    noise_end: Scale = 0.1
    """The share of the noise that is left at the end, unless it stays."""

    discount: Annotated[float, AtLeast(0), AtMost(1)] = 0.998
    """Discount γ of a step."""

    lambda_: Share = 0.95
    """Trace λ of the targets, along segments: 0 for one-step TD, 1 for what was earned
    to the segment's end."""

    corrected: bool = False
    """Correct these targets for what the evaluated policy would have done: Q(λ)."""

    relabel: bool = False
    """Evaluate policies around the present one, and not those that acted."""

    theta_noise: Scale = 0.0
    """Scale of noise on the weights that the critic is shown when it is fitted, in
    units of --noise-scale."""

    scale_rewards: bool = True
    """Learn rewards times (1 - γ) by the root mean square of what a step earns in the
    mean over a segment, so that values are about 1."""

    replay: Count = 1_000_000
    """Control steps that are kept; with pssvf, policies."""

    steps_per_update: Count = 16
    """Control steps for each update of the critic; not of pssvf."""

    batch_segments: Count = 16
    """Segments in a batch of the critic; with pssvf, episodes."""

    batch_steps: OptionalCount = None
    """Steps of each of them, one after the other. All unless given."""

    critic_updates: Count = 10
    """With pssvf: updates of V in an iteration."""

    policy_updates: Count = 10
    """With pssvf: steps up V in an iteration."""

    policy_delay: Count = 2
    """Updates of the critic for each of the policy; not of pssvf."""

    policy_states: OptionalCount = None
    """States in a step of the policy, each drawn by itself. A batch as the critic's
    unless given."""

    critic_width: Count = 128
    """Width of the critic's hidden layers."""

    critic_depth: Count = 2
    """Number of the critic's hidden layers."""

    critic_norm: bool = True
    """Normalise the critic's hidden layers."""

    critic_lr: Rate = 1e-3
    """Adam's learning rate for the critic."""

    policy_lr: Rate = 1e-3
    """Adam's learning rate for the policy, at the start."""

    policy_lr_schedule: Schedule = "constant"
    """How that rate goes to zero over the run; constant keeps it."""

    target_rate: Share = 0.01
    """How fast the target network follows the critic; 1 for none."""

    ensemble: Count = 1
    """Differently drawn critics."""

    ensemble_value: Literal["mean", "min"] = "min"
    """What their targets have of several critics; the policy ascends the mean."""

    target_policy: bool = False
    """Let targets have the actions of a copy of the policy that follows it as the
    target network follows the critic; with --representation none or --relabel."""

    target_noise: Scale = 0.0
    """Scale of normal noise on the actions in targets, in halves of their range."""

    target_noise_clip: Scale = 0.5
    """Largest such noise."""

    theta_term: Scale = 0.2
    """Weight of the value's gradient in its θ, beside that by way of the actions."""

    policy_gradient: PolicyGradient = "pathwise"
    """Of stochastic policies: whether the gradient goes through actions that are drawn
    anew (of discrete ones, over all), or weighs those that were taken."""

    importance: Importance = "clip"
    """What likelihood ratios are weighed by: themselves up to --importance-clip, their
    share of the batch's sum, or not at all."""

    importance_clip: Rate = 4.0
    """Largest importance weight."""

    baseline: bool = True
    """Take off the value of the policy's mean action where likelihood ratios are
    weighed."""

    eval_episodes: Count = 1
    """Extra episodes of the unperturbed policy, to watch it; not learned from."""

    fresh_policies: Annotated[int, AtLeast(0)] = 32
    """Fresh perturbed policies, with whose returns values are correlated; not learned
    from."""

    fresh_every: Count = 10
    """Iterations from one such test to the next."""

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

    # Of pssvf's rollouts: what is no flag here.
    episodes: ClassVar[int] = 1
    chunk: ClassVar[int | None] = None
    visits: ClassVar[int] = 0
    common_starts: ClassVar[bool] = False

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)
        check_policy(self.policy)
        if self.reads_policies:
            check_representation(self.representation)
        self._check_critic()
        self._check_policy()
        if self.batch_steps is not None and self.batch_steps > self.segment:
            raise UserError(
                f"--batch-steps {self.batch_steps} is more than a segment's "
                f"{self.segment}: lower it, or raise --segment."
            )
        if self.critic != "pssvf":
            self._check_sizes()

    def _check_critic(self) -> None:
        if self.critic != "pavf" and not self.reads_policies:
            raise UserError(
                f"--critic {self.critic} has no gradient but that in θ: add "
                "--representation flat, or --critic pavf."
            )
        if self.critic == "pssvf":
            if self.policy_kind == "stochastic":
                raise UserError(
                    "--critic pssvf is of deterministic policies: drop it or "
                    "--policy-kind stochastic."
                )
            return
        for name in ("relabel", "corrected", "target_policy"):
            if self.critic == "psvf" and getattr(self, name):
                raise UserError(
                    f"{flag(name)} needs a value of actions: drop it, or "
                    "add --critic pavf."
                )
        if self.critic == "psvf" and not self.theta_term:
            raise UserError(
                "--theta-term 0 leaves --critic psvf without a gradient: raise it."
            )
        if self.relabel and not self.reads_policies:
            raise UserError(
                "--relabel is of the policies that the critic reads: drop it, or add "
                "--representation flat."
            )
        if self.target_policy and self.reads_policies and not self.relabel:
            raise UserError(
                "--target-policy would not be the policy that the critic reads: drop "
                "it, or add --relabel."
            )
        if self.target_noise and (
            self.critic == "psvf" or self.policy_kind == "stochastic"
        ):
            raise UserError(
                "--target-noise is of Q(s, a) and deterministic policies: drop it."
            )

    def _check_policy(self) -> None:
        if self.policy_kind == "stochastic" and self.policy != "mlp":
            raise UserError(
                "--policy-kind stochastic is of perceptrons: drop it or --policy."
            )
        if self.policy_kind == "deterministic":
            if self.policy_gradient == "likelihood-ratio":
                raise UserError(
                    "--policy-gradient likelihood-ratio needs a distribution: add "
                    "--policy-kind stochastic."
                )
            if not self.noise_scale and not self.action_noise:
                raise UserError(
                    "Without noise nothing is found out: raise --noise-scale or "
                    "--action-noise."
                )
        if self.reads_policies and not self.noise_scale:
            raise UserError(
                "--noise-scale 0 makes all policies the same, and there is nothing to "
                "read of them: raise it, or add --representation none."
            )
        if self.policy_gradient == "likelihood-ratio" and self.critic == "psvf":
            raise UserError(
                "--policy-gradient is of Q(s, a, θ): drop it, or add --critic pavf."
            )

    def _check_sizes(self) -> None:
        taken = self.num_envs * self.segment
        if self.steps_per_update * self.policy_delay > taken:
            raise UserError(
                f"--steps-per-update {self.steps_per_update} times --policy-delay "
                f"{self.policy_delay} is more than the {taken} steps of a round: lower "
                "one of them."
            )
        if self.replay < taken:
            raise UserError(
                f"--replay {self.replay} does not hold the {taken} steps of a round: "
                "raise it."
            )

    @property
    def reads_policies(self) -> bool:
        """Whether the critic reads policies."""
        return self.representation != "none"

    @property
    def keeps_policies(self) -> bool:
        """Whether the replay has the policies that acted."""
        return self.reads_policies and not self.relabel

    @property
    def observes(self) -> bool:
        """Whether the critic reads answers in observed states."""
        return "answers" in parts_of(self.representation)

    @property
    def updates(self) -> int:
        """Updates of the policy in a round."""
        taken = self.num_envs * self.segment
        return taken // (self.steps_per_update * self.policy_delay)

    @property
    def all_rounds(self) -> int:
        """Rounds of the whole run."""
        return -(-self.steps // (self.num_envs * self.segment))

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
            inputs=self.inputs,
            bounded=True,
        )


# The code of Faccio et al. (2021) for PSVF: one environment, a policy an episode, one
# step of the policy and five of the critic every 50 steps, TD(0) without a target
# network.
_RELEASED = Config(
    critic="psvf",
    representation="flat",
    inputs="raw",
    start="drawn",
    steps=1_000_000,
    num_envs=1,
    segment=50,
    rounds=200,
    redraw="episode",
    noise_scale=1.0,
    action_noise=0.0,
    discount=0.999,
    lambda_=0.0,
    scale_rewards=False,
    replay=100_000,
    steps_per_update=10,
    batch_segments=128,
    batch_steps=1,
    policy_delay=5,
    policy_states=10_000,
    critic_width=512,
    critic_lr=1e-4,
    critic_norm=False,
    target_rate=1.0,
    theta_term=1.0,
    eval_episodes=10,
    fresh_policies=0,
)

PRESETS = {
    "vectorised": Config(),
    "released": _RELEASED,
    "released-pavf": dataclasses.replace(
        _RELEASED,
        critic="pavf",
        steps=100_000,
        rounds=20,
        discount=0.99,
        critic_lr=1e-3,
    ),
    # V(θ): an iteration is an episode.
    "released-pssvf": dataclasses.replace(
        _RELEASED,
        critic="pssvf",
        steps=100_000,
        replay=100_000,
        batch_segments=16,
        batch_steps=None,
        critic_width=64,
        critic_lr=1e-3,
        eval_episodes=1,
    ),
}
