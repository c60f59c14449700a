"""The task's part in the settings of a run."""

import dataclasses
from typing import Any

from applications.envs._registry import make, PhysicsEngine
from applications.envs._task import AbstractEnvironment, Integrator
from applications.settings import OptionalCount, OptionalRate, UserError


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """Which task to learn, and how."""

    env: str = "cartpole"
    """Task to learn: ant, ant_servo, ant_v5, cartpole, half_cheetah, hopper,
    inverted_double_pendulum, inverted_pendulum, lqr, mountain_car_continuous, reacher,
    swimmer, walker2d; package.module:Factory, a task of your own; gymnasium:ID, an
    environment of Gymnasium, slower; or playground:NAME, of MuJoCo Playground."""

    physics: PhysicsEngine = "auto"
    """What steps MuJoCo tasks: mjx in JAX, or mujoco in C, which auto takes on CPUs."""

    horizon: OptionalCount = None
    """Time limit of an episode in control steps. The task's own unless given."""

    integrator: Integrator | None = None
    """How MuJoCo tasks are integrated. The task's own way unless given."""

    survival_bonus: bool = True
    """Learn from the reward for not falling too. Evaluation always counts it."""

    outcome: str = "reward"
    """What an episode is worth, and is learned from: the sum of its rewards (reward);
    said once at its end, how far the body has come (final-x), its highest mean speed
    over half a second (max-speed), or whether and how soon it came beyond a goal
    (sparse-goal); or an outcome of your own (package.module:Factory)."""

    goal: OptionalRate = None
    """Distance to the goal of sparse-goal, in m or units of the task. A tenth of the
    way that a good policy makes unless given."""

    @property
    def options(self) -> dict[str, Any]:
        """What `make` takes beside the name, as policy files record it.

        The survival bonus is not among it: policies are judged with it.
        """
        given = {"horizon": self.horizon, "integrator": self.integrator}
        kept = {name: value for name, value in given.items() if value is not None}
        if self.outcome != "reward" or self.goal is not None:
            kept |= {"outcome": self.outcome}
            kept |= {} if self.goal is None else {"goal": self.goal}
        return kept | {"physics": self.physics}

    def make(self, *, as_trained: bool) -> AbstractEnvironment:
        """Builds the task.

        Args:
            as_trained: With the reward that is learned from; otherwise with the whole
                one, by which policies are judged.

        Returns:
            The task.

        Raises:
            UserError: If the settings do not fit the task.
        """
        options = self.options
        if as_trained and not self.survival_bonus:
            options["survival_bonus"] = False
        try:
            return make(self.env, **options)
        except ValueError as error:
            raise UserError(str(error)) from error
