import dataclasses

from applications.envs._registry import make, PhysicsEngine
from applications.envs._task import AbstractEnvironment, Integrator
from applications.settings import check_settings, OptionalCount, UserError


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """What is learned, and how it is simulated."""

    env: str = "cartpole"
    """Task to learn: ant, ant_servo, ant_v5, cartpole, half_cheetah, hopper,
    inverted_double_pendulum, inverted_pendulum, lqr, mountain_car_continuous, reacher,
    swimmer or walker2d."""

    physics: PhysicsEngine = "auto"
    """What steps MuJoCo tasks: mjx in JAX, or mujoco in C, which auto takes on CPUs."""

    horizon: OptionalCount = None
    """Time limit of an episode in control steps. The task's own unless given."""

    integrator: Integrator | None = None
    """How MuJoCo tasks are integrated. The task's own way unless given."""

    survival_bonus: bool = True
    """Learn from the reward for not falling too. Evaluation always counts it."""

    def __post_init__(self):
        """Checks every setting.

        Raises:
            UserError: With the flag, its value and what it may be.
        """
        check_settings(self)

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
        options = {"horizon": self.horizon, "integrator": self.integrator}
        given = {name: value for name, value in options.items() if value is not None}
        if as_trained and not self.survival_bonus:
            given["survival_bonus"] = False
        try:
            return make(self.env, physics=self.physics, **given)
        except ValueError as error:
            raise UserError(str(error)) from error
