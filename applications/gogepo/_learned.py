"""What GoGePo keeps, what writes policies of it, and the randomness of an iteration."""

from typing import NamedTuple

import equinox as eqx
import optax
from jaxtyping import PRNGKeyArray

from applications.epvf.algorithm import Learned as Climbed
from applications.gogepo._losses import OutcomeTargets
from applications.gogepo._outcomes import OutcomeStatistics, PolicyRecord
from applications.policies import RunningStatistics
from applications.search import SearchState
from applications.stores import Archive
from wsl.encoders import EncodedMLP
from wsl.generators import AbstractGenerator


class Model(eqx.Module):
    """What it takes to write policies for commands.

    Attributes:
        generator: From a command to a policy.
        value: The evaluator, from a policy to its outcome in units of the targets.
        targets: From outcomes to what the evaluator learns, by what is in the archive.
        outcomes: The range of what was done.
        observations: Statistics of all observations so far.
    """

    generator: AbstractGenerator
    value: EncodedMLP
    targets: OutcomeTargets
    outcomes: OutcomeStatistics
    observations: RunningStatistics


class Learned(eqx.Module):
    """What GoGePo keeps from one iteration to the next.

    Attributes:
        generator: The newest one.
        average: The average of the last ones, which writes policies; None for the
            newest.
        generator_optimiser: Adam's moments for the generator.
        value: As `Model` has it.
        value_optimiser: Adam's moments for the evaluator.
        targets: As `Model` has it.
        outcomes: As `Model` has it.
        archive: Policies and what they did.
        climbing: What the climber keeps; None without one.
    """

    generator: AbstractGenerator
    average: AbstractGenerator | None
    generator_optimiser: optax.OptState
    value: EncodedMLP
    value_optimiser: optax.OptState
    targets: OutcomeTargets
    outcomes: OutcomeStatistics
    archive: Archive[PolicyRecord]
    climbing: Climbed | None


State = SearchState[Learned]


class Keys(NamedTuple):
    """The randomness of one iteration."""

    commands: PRNGKeyArray
    latents: PRNGKeyArray
    noise: PRNGKeyArray
    rollout: PRNGKeyArray
    evaluator: PRNGKeyArray
    generator: PRNGKeyArray
    next: PRNGKeyArray
    climb: PRNGKeyArray
