"""Tasks whose episodes are worth something else than the sum of their rewards."""

import dataclasses
from typing import final

import equinox as eqx

from applications.envs._facts import TaskFacts
from applications.envs._outcomes import (
    AbstractOutcome,
    FinalX,
    MaxSpeed,
    SparseGoal,
)
from applications.envs._spaces import ActionSpace
from applications.envs._task import AbstractEnvironment
from applications.settings import call_factory, is_outside, UserError


OUTCOMES = ("reward", "final-x", "max-speed", "sparse-goal")
# Of `max-speed`: what is shorter is a spike. In s, or in units of the task.
_SPEED_WINDOW = 0.5
# Of `sparse-goal`, where no distance is given: the share of the way that the speed of a
# good policy makes in a whole episode.
_GOAL_SHARE = 0.1


@final
class OutcomeTask(AbstractEnvironment):
    """A task of which a whole episode's outcome is the return, and not its rewards.

    Engines step the task and give the outcome as `total_reward` of episodes; in
    transitions it is the reward of the last step, and the others have 0.

    Attributes:
        task: The task.
        outcome: What its episodes are worth.
        name: The outcome's name, as runs record it.
    """

    task: AbstractEnvironment
    outcome: AbstractOutcome = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __init__(self, task: AbstractEnvironment, outcome: AbstractOutcome, name: str):
        """Puts them together.

        Args:
            task: The task.
            outcome: What its episodes are worth.
            name: The outcome's name, as runs record it.
        """
        self.task = task
        self.outcome = outcome
        self.name = name

    @property
    def observation_size(self) -> int:
        """Length of an observation."""
        return self.task.observation_size

    @property
    def action_space(self) -> ActionSpace:
        """What actions are."""
        return self.task.action_space

    @property
    def horizon(self) -> int:
        """The time limit, in control steps."""
        return self.task.horizon

    @property
    def facts(self) -> TaskFacts:
        """What is known of the task, but for the range of returns: it is another."""
        facts = self.task.facts
        return dataclasses.replace(facts, return_range=None)


def with_outcome(
    task: AbstractEnvironment, outcome: str, *, goal: float | None = None
) -> AbstractEnvironment:
    """Says what the episodes of a task are worth.

    Args:
        task: The task, with whatever outcome.
        outcome: A name of `OUTCOMES`, of which `reward`, the sum of the task's rewards,
            gives the task itself; or `package.module:Factory`, which is called as
            `factory(task)` and returns an `AbstractOutcome`.
        goal: Of `sparse-goal`, the distance. Unless given, a tenth of the way that the
            speed of a good policy makes in a whole episode.

    Returns:
        The task with that outcome.

    Raises:
        ValueError: If there is no such outcome, the task does not show what it needs,
            or there is a goal that it has no use for.
    """
    bare, _ = split_outcome(task)
    if goal is not None and outcome != "sparse-goal":
        raise ValueError(f"A goal is of sparse-goal, and not of {outcome}: drop it.")
    if outcome == "reward":
        return bare
    if is_outside(outcome):
        made = call_factory(outcome, bare)
        if not isinstance(made, AbstractOutcome):
            raise ValueError(
                f"{outcome} made a {type(made).__name__}, which is no "
                "applications.envs.AbstractOutcome."
            )
        return OutcomeTask(bare, made, outcome)
    if outcome not in OUTCOMES:
        raise ValueError(
            f"There is no outcome {outcome!r}; there are {', '.join(OUTCOMES)}, and "
            "package.module:Factory of your own."
        )
    return OutcomeTask(bare, _built_in(outcome, bare, goal), outcome)


def split_outcome(
    task: AbstractEnvironment,
) -> tuple[AbstractEnvironment, AbstractOutcome | None]:
    """The task itself and its outcome, which is None where that is the reward."""
    if isinstance(task, OutcomeTask):
        return task.task, task.outcome
    return task, None


def outcome_name(task: AbstractEnvironment) -> str:
    """The name of what the episodes of a task are worth."""
    return task.name if isinstance(task, OutcomeTask) else "reward"


def refuse_outcome(task: AbstractEnvironment) -> None:
    """Refuses other outcomes than the reward, where there is none at an episode's end.

    Args:
        task: The task.

    Raises:
        UserError: With the outcome's name.
    """
    if isinstance(task, OutcomeTask):
        raise UserError(
            f"Here a task gives a reward at every step, and not the outcome {task.name}"
            " at the end of an episode: take --outcome reward."
        )


def _built_in(
    name: str, task: AbstractEnvironment, goal: float | None
) -> AbstractOutcome:
    speed, step = task.facts.signal("speed"), task.facts.control_step
    if speed is None or step is None:
        missing = "no speed" if speed is None else "no control step"
        raise ValueError(
            f"The outcome {name} is not for this task, whose facts have {missing}; "
            "there are reward, and package.module:Factory of your own."
        )
    if name == "final-x":
        return FinalX(speed.index, step)
    if name == "max-speed":
        return MaxSpeed(speed.index, max(round(_SPEED_WINDOW / step), 1))
    far = speed.high * step * task.horizon
    distance = _GOAL_SHARE * far if goal is None else goal
    return SparseGoal(speed.index, step, distance, task.horizon)
