"""What evaluator and generator learn from the archive."""

from collections.abc import Callable
from typing import Any, final, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from applications.gogepo._commands import Commands
from applications.gogepo._evaluator import judge
from applications.gogepo._outcomes import PolicyRecord
from applications.gogepo.config import Config
from applications.policies import AbstractPolicy, FlatView
from applications.stores import Archive
from applications.values import (
    mean_of_valid,
    RankTargets,
    StandardTargets,
    TargetKind,
)
from wsl.encoders import EncodedMLP
from wsl.generators import AbstractGenerator, AnswerDistance, LatentGenerator


Draw: TypeAlias = Callable[[PRNGKeyArray], PolicyRecord]

# Standard normal observations on which latent generators compare policies.
_COMPARISON_STATES = 64
# Weight of the divergence in their evidence lower bound; ours.
_DIVERGENCE_WEIGHT = 1e-2


@final
class OutcomeTargets(eqx.Module):
    """From outcomes to what the evaluator learns, and back.

    Attributes:
        each: The targets of each number that is achieved, by what is in the archive.
    """

    each: StandardTargets | RankTargets

    def __init__(
        self,
        kind: TargetKind,
        archive: Archive[PolicyRecord],
        achieved: int | None = None,
    ):
        """Reads the outcomes.

        Args:
            kind: Standardised outcomes, or their ranks.
            archive: What was done.
            achieved: How many numbers of an outcome are achieved; all unless given.
        """
        make = StandardTargets if kind == "standard" else RankTargets
        there = archive.filled & archive.entries.valid
        outcomes = archive.entries.outcome.T[:achieved]
        self.each = jax.vmap(lambda outcome: make(outcome, there))(outcomes)

    def __call__(self, outcome: Float[Array, " outcomes"]) -> Float[Array, " achieved"]:
        """From an outcome to its target."""
        achieved = len(jax.tree.leaves(self.each)[0])
        one_by_one = jax.vmap(lambda one, number: one(number))
        return one_by_one(self.each, outcome[:achieved])

    def inverse(self, target: Float[Array, " achieved"]) -> Float[Array, " achieved"]:
        """From a target, or a prediction of one, to what is achieved."""
        return jax.vmap(lambda one, number: one.inverse(number))(self.each, target)


def evaluator_loss(
    commands: Commands,
    view: FlatView[AbstractPolicy],
    targets: OutcomeTargets,
    draw: Draw,
) -> Callable[[EncodedMLP, PRNGKeyArray], Float[Array, ""]]:
    """The mean squared error of V over a batch of policies.

    Args:
        commands: What can be commanded.
        view: From rows to policies.
        targets: What V is to say of outcomes.
        draw: Draws the batch.

    Returns:
        The loss, from V and a key that draws the batch.
    """

    def loss_of(value, key):
        drawn = draw(key)

        def error(weights, outcome):
            said = judge(commands, value, view.to_policy(weights))
            return jnp.mean((said - targets(outcome)) ** 2)

        errors = jax.vmap(error)(drawn.weights, drawn.outcome)
        return mean_of_valid(errors, drawn.valid)

    return loss_of


def generator_loss(
    config: Config,
    commands: Commands,
    view: FlatView[AbstractPolicy],
    value: EncodedMLP,
    targets: OutcomeTargets,
    draw: Draw,
    context_of: Callable[[Float[Array, " outcomes"]], Float[Array, " outcomes"]],
    observation_size: int,
) -> Callable[[AbstractGenerator, PRNGKeyArray], Float[Array, ""]]:
    """How far policies for outcomes are from ones that have them, over a batch.

    By V's opinion, or for `--loss weights` by the weights of those that had them, or by
    both; for a latent generator with the negative evidence lower bound.

    Args:
        config: The settings.
        commands: What can be commanded.
        view: From rows to policies and back.
        value: V, which stays as it is.
        targets: What V is to say of outcomes.
        draw: Draws the batch, policies and their outcomes.
        context_of: From a command to what the generator is given for it.
        observation_size: Length of what policies see.

    Returns:
        The loss, from a generator and a key that draws the batch.
    """

    def loss_of_one(generator, attempt, *, key):
        latent_key, elbo_key = jr.split(key)
        context = context_of(attempt.outcome)
        # Under the condition of the policy that did it, if there is one.
        under = lambda policy: commands.place(policy, attempt.outcome)
        written: Any = under(generator(context, key=latent_key))
        loss = jnp.zeros(())
        if config.loss != "evaluator":
            loss += jnp.mean((view.to_vector(written) - attempt.weights) ** 2)
        if config.loss != "weights":
            said = judge(commands, value, written)
            loss += jnp.mean((said - targets(attempt.outcome)) ** 2)
        if isinstance(generator, LatentGenerator) and config.elbo_weight > 0:
            policy = view.to_policy(attempt.weights)
            inputs = jr.normal(jr.key(0), (_COMPARISON_STATES, observation_size))
            compare = AnswerDistance(inputs)
            loss += config.elbo_weight * generator.negative_elbo(
                policy,
                context,
                lambda did, decoded: compare(did, under(decoded)),
                beta=_DIVERGENCE_WEIGHT,
                key=elbo_key,
            )
        return loss

    def loss_of(generator, key):
        draw_key, loss_key = jr.split(key)
        drawn = draw(draw_key)
        losses = jax.vmap(
            lambda attempt, key: loss_of_one(generator, attempt, key=key)
        )(drawn, jr.split(loss_key, len(drawn.valid)))
        return mean_of_valid(losses, drawn.valid)

    return loss_of
